"""The background data: a CSV table of rows that the model was made for, as the tensors of a request."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affiant.common.events import Column, TensorSpec
from affiant.registry.domain.columns import Background
from affiant.registry.domain.manifest import Unfit

DTYPES: dict[str, str] = {
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "BOOL": "bool",
    "BYTES": "object",
}
TRUTH = {"true": True, "1": True, "false": False, "0": False}

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Table:
    """Cells as text, by column; each list has `rows` entries."""

    cells: dict[str, list[str]]
    rows: int

    def background(self) -> Background:
        """What the guesses about columns need."""
        return Background(
            header=tuple(self.cells),
            rows=self.rows,
            distinct={name: len(set(cells)) for name, cells in self.cells.items()},
        )


def read(data: bytes) -> Table:
    """The table in `data` (CSV, RFC 4180, UTF-8, the first line its header). Raises `Unfit` naming the line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"the background data is not UTF-8 text ({error}); save the CSV file as UTF-8") from error
    try:
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (csv.Error, ValueError) as error:
        raise Unfit(f"the background data is no CSV table with a header ({error})") from error
    _check_header(header)
    if not rows:
        raise Unfit("the background data has a header but no rows; send some hundred rows of training data")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise Unfit(f"row {number} of the background data has {len(row)} cells, the header has {len(header)}")
    return Table({name: [row[index] for row in rows] for index, name in enumerate(header)}, len(rows))


def _check_header(header: list[str]) -> None:
    for name in header:
        if not name:
            raise Unfit("a column of the background data has no name; write the table without its row index")
        if header.count(name) > 1:
            raise Unfit(f"the background data has two columns named {name!r}; give each its own name")


def feeds(table: Table, inputs: list[TensorSpec], columns: list[Column]) -> dict[str, Array]:
    """All rows as the input tensors of the model: (rows, 1) for each column, or one matrix (rows, columns).

    An empty cell is a missing value: NaN in a floating-point column, "" among strings; `Unfit` elsewhere.
    """
    found: dict[str, Array] = {}
    for tensor in inputs:
        own = sorted((column for column in columns if column.input == tensor.name), key=lambda each: each.index)
        found[tensor.name] = np.stack([_values(table, column) for column in own], axis=1)
    return found


def blank_feeds(inputs: list[TensorSpec], rows: int) -> dict[str, Array]:
    """Zeros and empty strings, where there is no background data; a variable dimension becomes 1."""
    found: dict[str, Array] = {}
    for tensor in inputs:
        shape = [rows, *(max(size, 1) if size != 0 else 0 for size in tensor.shape[1:])]
        fill = "" if tensor.datatype == "BYTES" else 0
        found[tensor.name] = np.full(shape, fill, dtype=DTYPES[tensor.datatype])
    return found


def _values(table: Table, column: Column) -> Array:
    cells = table.cells[column.name]
    if column.datatype == "BYTES":
        return np.array(cells, dtype=object)
    read_cell = _reader(column.datatype)
    # Cells repeat a lot, so each distinct text is read once.
    texts = list(dict.fromkeys(cells))
    array = _fitting([_cell(read_cell, text, column, cells) for text in texts], column)
    places = {text: place for place, text in enumerate(texts)}
    return array[[places[cell] for cell in cells]]


def _fitting(values: list[float], column: Column) -> Array:
    """`values` in the column's own type; `Unfit` when one is too large for it."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is told below, with its column
            array: Array = np.array(values).astype(DTYPES[column.datatype], casting="unsafe")
    except OverflowError as error:
        raise Unfit(f"column {column.name!r} of the background data does not fit {column.datatype}") from error
    if array.dtype.kind in "iu" and any(int(a) != v for a, v in zip(array, values, strict=True)):
        raise Unfit(f"column {column.name!r} of the background data does not fit {column.datatype}")
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise Unfit(f"column {column.name!r} of the background data is infinite in {column.datatype}")
    return array


def _reader(datatype: str) -> Callable[[str], float]:
    if datatype.startswith("FP"):
        return lambda cell: float(cell or "nan")
    if datatype == "BOOL":
        return lambda cell: TRUTH[cell.strip().lower()]
    return _integer


def _integer(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        # pandas writes an integer column that once had gaps as 3.0
        number = float(cell)
        if not number.is_integer():
            raise
        return int(number)


def _cell(read_cell: Callable[[str], float], cell: str, column: Column, cells: list[str]) -> float:
    try:
        return read_cell(cell)
    except (KeyError, ValueError, OverflowError) as error:
        where = f"row {cells.index(cell) + 1} of the background data, column {column.name!r}"
        raise Unfit(f"{where}: {_complaint(cell, column.datatype)}") from error


def _complaint(cell: str, datatype: str) -> str:
    if not cell:
        return f"empty, and {datatype} has no missing value; fill it, or give the model a floating-point input there"
    hint = "; leave the cell of a missing value empty" if datatype.startswith("FP") else ""
    return f"{cell[:40]!r} is no {datatype} value{hint}"
