"""The table that a model decides on, as the array of numbers that alibi wants, and back.

alibi knows columns of numbers only. A category becomes its position in the background's sorted categories. A missing
number becomes `MISSING`, far below every value, and gets a bin of its own: alibi by itself would put it above or
below some quartile and say so in an anchor. The predictor turns both back, so the model sees what it would see.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affiant.common.events import Column, Scalar
from affiant.explainer.methods.errors import Unexplainable

Matrix = npt.NDArray[np.float64]
Feed = dict[str, npt.NDArray[np.generic]]
"""A model's inputs by name."""

MISSING = -1.0e300
"""Stands for a missing number inside alibi's arrays. Numbers from here down are refused."""

MAX_ROWS = 5_000
"""Background rows used; of a longer background, a sample drawn with `SAMPLE_SEED`."""

SAMPLE_SEED = 0
QUARTILES = (0.25, 0.5, 0.75)
FEW_VALUES = 10
"""A numeric column with no more values than this gets a bin for each: it is a grade or a count, and a quartile would
lump its grades together."""

EDGE_DIGITS = 6
DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    **{f"INT{bits}": getattr(np, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": getattr(np, f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": getattr(np, f"float{bits}") for bits in (16, 32, 64)},
}


@dataclass(frozen=True)
class Coding:
    """How one column is coded. `categories` (categorical) by code; `low`, `high` (numeric) of the background."""

    column: Column
    categories: tuple[Scalar, ...] = ()
    low: float = math.nan
    high: float = math.nan

    @property
    def categorical(self) -> bool:
        return self.column.kind == "categorical"

    def code(self, value: Scalar) -> float:
        """The number for `value`. Raises `Unexplainable` for what the background does not know or the type forbids."""
        value = normal(self.column, value)
        if not self.categorical:
            return _number(self.column, value)
        if value not in self.categories:
            raise Unexplainable(
                f"{self.column.name} = {value!r} does not occur in the background: "
                "nothing can be said about similar cases; register a version whose background has this value"
            )
        return float(self.categories.index(value))

    def value(self, code: float) -> Scalar:
        """The value behind a number; `None` where it is missing."""
        if self.categorical:
            found = self.categories[int(code)]
            return None if found == "" else found
        if code <= MISSING:
            return None
        return int(code) if _is_integer(self.column) else float(code)

    def is_missing(self, code: float) -> bool:
        return self.value(code) is None

    def tensor(self, codes: Matrix) -> npt.NDArray[np.generic]:
        """The codes (N,) as the values (N,) that the model takes, in the column's own type."""
        if self.column.datatype == "BYTES":
            return np.array(self.categories, dtype=object)[codes.astype(np.int64)]
        values = codes
        if self.categorical:
            known = [math.nan if category is None else float(category) for category in self.categories]
            values = np.array(known, dtype=np.float64)[codes.astype(np.int64)]
        if not _is_float(self.column):
            return values.astype(DTYPES[self.column.datatype])
        return np.where(values <= MISSING, np.nan, values).astype(DTYPES[self.column.datatype])


@dataclass(frozen=True)
class Table:
    """A version's columns and its background, coded: `background` has the shape (rows, columns)."""

    codings: tuple[Coding, ...]
    background: Matrix
    total_rows: int

    @property
    def names(self) -> list[str]:
        return [coding.column.name for coding in self.codings]

    def encode(self, values: Sequence[Scalar]) -> Matrix:
        """One row (columns,). Raises `Unexplainable` when a value cannot be coded."""
        if len(values) != len(self.codings):
            raise Unexplainable(f"the row has {len(values)} values; the model has {len(self.codings)} columns")
        pairs = zip(self.codings, values, strict=True)
        return np.array([coding.code(value) for coding, value in pairs], dtype=np.float64)

    def feed(self, rows: Matrix) -> Feed:
        """What the model is given for coded rows (N, columns): one tensor (N, columns of that input) for each input."""
        found: dict[str, list[tuple[int, npt.NDArray[np.generic]]]] = {}
        for at, coding in enumerate(self.codings):
            found.setdefault(coding.column.input, []).append((coding.column.index, coding.tensor(rows[:, at])))
        return {name: _matrix(columns) for name, columns in found.items()}

    def warnings(self, row: Matrix) -> list[str]:
        """Where `row` leaves what the background knows. alibi says nothing of this and reports precision 1.0."""
        found = []
        for index, coding in enumerate(self.codings):
            name, code = coding.column.name, row[index]
            if coding.is_missing(code):
                if not np.any(self.background[:, index] == code):
                    found.append(f"{name} is missing here but never in the background")
            elif not coding.categorical and not coding.low <= code <= coding.high:
                where = f"{number_text(coding.low)} to {number_text(coding.high)}"
                found.append(f"{name} = {number_text(code)} lies outside the background's range ({where})")
        return found

    def edges(self, index: int, row: Matrix) -> Matrix:
        """The upper edges of a numeric column's bins but the last, and first of all `MISSING` where values are missing.

        Bin b holds edges[b-1] < value <= edges[b]. Edges are rounded, so that the text of a clause is exact.
        """
        column = self.background[:, index]
        known = column[column > MISSING]
        edges = _edges(known)
        if len(known) < len(column) or row[index] <= MISSING:
            edges.insert(0, MISSING)
        return np.array(edges, dtype=np.float64)


def read_table(columns: Sequence[Column], data: bytes) -> Table:
    """The table of a version from its background (CSV, UTF-8, with a header; empty cells are missing values).

    Columns that the model does not take are left out. Raises `Unexplainable` when a column or every row is absent,
    or a cell does not fit its column.
    """
    rows = _cells(columns, data)
    codings = tuple(_coding(column, [row[index] for row in rows]) for index, column in enumerate(columns))
    coded = [[coding.code(cell) for coding, cell in zip(codings, row, strict=True)] for row in rows]
    background = np.array(coded, dtype=np.float64)
    return Table(codings, _sample(background, MAX_ROWS), len(rows))


def normal(column: Column, value: Scalar) -> Scalar:
    """`value` as the column's type spells it: what a request holds and what a CSV cell holds become the same.

    A missing value is `None`, but "" in a column of strings. A 32-bit number is the decimal that it was written as
    (0.281, not 0.28100000381…), so that a row falls on the same side of an edge as it does for the reader.
    """
    if column.datatype == "BYTES":
        return "" if value is None else str(value)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return _typed(column, value)
    except (ValueError, OverflowError) as error:
        raise Unexplainable(f"{column.name} = {value!r} is not of the type {column.datatype}") from error


def number_text(value: float) -> str:
    """A number as people write it, without an exponent where that is readable."""
    if value and not 1e-6 <= abs(value) < 1e15:
        return f"{value:g}"
    return np.format_float_positional(value, trim="-")


def _matrix(columns: list[tuple[int, npt.NDArray[np.generic]]]) -> npt.NDArray[np.generic]:
    """The tensor (N, columns) of one input, each column at its index."""
    ordered = [tensor for _, tensor in sorted(columns, key=lambda pair: pair[0])]
    return ordered[0].reshape(-1, 1) if len(ordered) == 1 else np.column_stack(ordered)


def _typed(column: Column, value: str | int | float | bool) -> Scalar:
    if column.datatype == "BOOL":
        return _boolean(value)
    if _is_integer(column):
        number = float(value)
        if not number.is_integer():
            raise ValueError(value)
        return int(number)
    short = float(str(DTYPES[column.datatype](value)))
    return None if math.isnan(short) else short


def _boolean(value: str | int | float | bool) -> bool:
    words: dict[str, bool] = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    word = str(value).strip().lower()
    if word not in words:
        raise ValueError(value)
    return words[word]


def _number(column: Column, value: Scalar) -> float:
    if value is None:
        if not _is_float(column):
            raise Unexplainable(f"{column.name} is missing, but {column.datatype} has no missing value")
        return MISSING
    number = float(value)
    if not math.isfinite(number) or number <= MISSING:
        raise Unexplainable(f"{column.name} = {number} is not a number that can be compared")
    return number


def _coding(column: Column, cells: list[Scalar]) -> Coding:
    if column.datatype != "BYTES" and column.datatype not in DTYPES:
        raise Unexplainable(f"{column.name} has the type {column.datatype}, which cannot be explained")
    if column.kind == "categorical":
        found = set(cells)
        if column.datatype == "BYTES" or _is_float(column):
            # Always known, so that a value missing here and never in the background gets a warning, no refusal.
            found.add("" if column.datatype == "BYTES" else None)
        return Coding(column, tuple(sorted(found, key=lambda value: (value is None, value))))
    if column.datatype == "BYTES":
        raise Unexplainable(f"{column.name} is numeric but its type is BYTES")
    known = [float(cell) for cell in cells if cell is not None]
    return Coding(column, (), min(known, default=math.nan), max(known, default=math.nan))


def _cells(columns: Sequence[Column], data: bytes) -> list[list[Scalar]]:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        header, *lines = [line for line in reader if line]
        positions = [header.index(column.name) for column in columns]
        rows = [[normal(c, line[at]) for c, at in zip(columns, positions, strict=True)] for line in lines]
    except (UnicodeDecodeError, csv.Error, ValueError, IndexError) as error:
        raise Unexplainable(f"the background cannot be read as a table of the model's columns: {error}") from error
    if not rows:
        raise Unexplainable("the background has no rows")
    return rows


def _edges(values: Matrix) -> list[float]:
    """Rounded quartiles, or the values themselves where they are few.

    Every bin holds some of the values: for one without rows alibi would invent values.
    """
    if not len(values):
        return [0.0]
    distinct = np.unique(values)
    if len(distinct) == 1:
        # alibi needs two bins in each numeric column, also in one that never changes.
        return [float(distinct[0])]
    if len(distinct) <= FEW_VALUES:
        return [float(value) for value in distinct[:-1]]
    return _parting(
        values, [float(f"{edge:.{EDGE_DIGITS}g}") for edge in np.quantile(values, QUARTILES, method="lower")]
    )


def _parting(values: Matrix, candidates: list[float]) -> list[float]:
    """Those of the ascending candidates that part the values; the median of the distinct ones where none does."""
    edges: list[float] = []
    below = 0
    for edge in candidates:
        count = int(np.count_nonzero(values <= edge))
        if below < count < len(values):
            edges.append(edge)
            below = count
    distinct = np.unique(values)
    return edges or [float(distinct[(len(distinct) - 1) // 2])]


def _sample(rows: Matrix, count: int) -> Matrix:
    if len(rows) <= count:
        return rows
    chosen = np.random.default_rng(SAMPLE_SEED).choice(len(rows), count, replace=False)
    return rows[np.sort(chosen)]


def _is_integer(column: Column) -> bool:
    return "INT" in column.datatype


def _is_float(column: Column) -> bool:
    return column.datatype.startswith("FP")
