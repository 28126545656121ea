"""The plain table that every list is shown in, and a few words about values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Columns under a line; nothing is cut: what is too long is folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def pairs(*lines: tuple[str, Any]) -> Table:
    """Names and values, one pair a line; pairs without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value not in (None, "", [], {}):
            table.add_row(name, value if isinstance(value, Text) else str(value))
    return table


def mark(text: str, style: str) -> Text:
    """A dot in a colour, and the word: the colour is never the only sign."""
    return Text("● ", style=style) + Text(text)


def when(moment: str | None) -> str:
    """A point in time for people: local time with its offset from UTC, to the second."""
    if not moment:
        return "–"
    return datetime.fromisoformat(moment).astimezone().isoformat(" ", "seconds")


def exactly(moment: str | None) -> str:
    """A point in time that can be given back to a command, which must find what began at it: nothing is cut off."""
    if not moment:
        return "–"
    return datetime.fromisoformat(moment).astimezone().isoformat()


def ago(moment: str | None) -> str:
    """How long ago, in the largest unit that says something."""
    if not moment:
        return "–"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def value(found: Any) -> str:
    """A value of a column as people write it."""
    if found is None:
        return "missing"
    return f"{found:g}" if isinstance(found, float) else str(found)
