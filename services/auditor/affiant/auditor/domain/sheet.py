"""Cells of a CSV file that a spreadsheet will open: text that it would take for a formula is made harmless.

OWASP, "CSV Injection": a cell that begins with =, +, -, @, a tabulator or a line break is a formula to a spreadsheet.
Such a text gets an apostrophe in front; numbers are never changed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Cell = str | int | float | bool | None


def lines(rows: Iterable[Sequence[Cell]]) -> bytes:
    """The rows as CSV (RFC 4180) in UTF-8; a missing value is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def harmless(cell: Cell) -> Cell:
    """The cell, so that no spreadsheet carries it out."""
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
