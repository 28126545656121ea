"""Tables of predictions in memory, with types found from the values.

A table of a segment has the fixed columns of `FIXED`, then `in.<name>` for each input and `protected.<name>` for each
protected column. Inputs are typed: all booleans, all integers, all numbers, or text; where one column mixes numbers and
words it is text. Protected values are JSON text, so that they are exactly what the row store compares groups by.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from affiant.auditor.domain.flat import MOST_COLUMNS, Flat
from affiant.common.events import Scalar

FIXED = pa.schema(
    [
        ("idx", pa.int64()),
        ("row", pa.int32()),
        ("prediction_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("digest", pa.string()),
        ("status", pa.string()),
        ("received_at", pa.string()),
        ("label", pa.string()),
        ("score", pa.float64()),
        ("adverse", pa.bool_()),
    ]
)
"""`row` is null where a request came to no rows; `label` is JSON text; `version` 0 where none was given."""

INPUT, PROTECTED = "in.", "protected."

_encode = msgspec.json.Encoder().encode


class Builder:
    """Gathers predictions of one model."""

    def __init__(self, fixed: pa.Schema = FIXED) -> None:
        self.rows = 0
        self._schema = fixed
        self._fixed: dict[str, list[Any]] = {name: [] for name in fixed.names}
        self._more: dict[str, list[Any]] = defaultdict(list)

    def add(self, idx: int, prediction_id: str, flat: Flat, more: Mapping[str, Any] | None = None) -> None:
        """Add every row of a prediction; one without `row` for a request that came to none.

        `more`: what else the schema has, one value for all of its rows.
        """
        made, rows = flat.made, max(flat.rows, 1)
        fixed = self._fixed
        for name, value in (
            ("idx", idx),
            ("prediction_id", prediction_id),
            ("model", made.model),
            ("version", made.version),
            ("digest", made.digest),
            ("status", made.status),
            ("received_at", made.received_at),
            *(more or {}).items(),
        ):
            fixed[name].extend([value] * rows)
        if flat.rows:
            fixed["row"].extend(range(rows))
            fixed["label"].extend(label_text(label) for label in flat.labels)
            fixed["score"].extend(flat.scores)
            fixed["adverse"].extend(flat.adverse)
        else:
            for name in ("row", "label", "score", "adverse"):
                fixed[name].append(None)
        for name, values in flat.inputs.items():
            self._extend(INPUT + name, values)
        for name, values in flat.protected.items():
            self._extend(PROTECTED + name, [_encode(value).decode() for value in values])
        self.rows += rows

    def table(self) -> pa.Table:
        """What was gathered, in the order of arrival."""
        arrays = [pa.array(self._fixed[field.name], field.type) for field in self._schema]
        names = list(self._schema.names)
        for name, values in self._more.items():
            values.extend([None] * (self.rows - len(values)))
            arrays.append(pa.array(values, pa.string()) if name.startswith(PROTECTED) else typed(values))
            names.append(name)
        return pa.table(arrays, names=names)

    def _extend(self, name: str, values: Sequence[Any]) -> None:
        held = self._more.get(name)
        if held is None:
            # Each name is a column of every row here: a sender that makes up new ones for ever does not get them.
            if len(self._more) >= 2 * MOST_COLUMNS:
                return
            held = self._more[name]
        if len(held) < self.rows:
            held.extend([None] * (self.rows - len(held)))
        held.extend(values)


def label_text(label: str | int | None) -> str | None:
    """A label as it is kept: JSON text."""
    return None if label is None else _encode(label).decode()


def typed(values: Sequence[Scalar]) -> pa.Array:
    """The values as an array of the narrowest type that holds them all; text where they have nothing in common."""
    kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        if kinds == {int}:
            return pa.array(values, pa.int64())
        if kinds and kinds <= {int, float}:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    except OverflowError:
        kinds = {str}
    if not kinds:
        return pa.nulls(len(values))
    return _words(values)


def _words(values: Sequence[Scalar]) -> pa.Array:
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """The rows of all tables, with columns of types that hold what each of them has."""
    parts = list(tables)
    if len(parts) == 1:
        return parts[0]
    types: dict[str, pa.DataType] = {}
    for part in parts:
        for field in part.schema:
            types[field.name] = _common(types.get(field.name), field.type)
    schema = pa.schema(list(types.items()))
    return pa.concat_tables([_as(part, schema) for part in parts])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly these columns: those that it has not are missing values, others are left out."""
    return _as(table, schema)


def _common(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    if one is None or pa.types.is_null(one) or one == other:
        return other
    if pa.types.is_null(other):
        return one
    if {one, other} <= {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string()


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    have = set(table.column_names)
    return pa.table(
        [
            _cast(table.column(field.name), field.type) if field.name in have else pa.nulls(len(table), field.type)
            for field in schema
        ],
        schema=schema,
    )


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if column.type == wanted:
        return column
    if pa.types.is_string(wanted) and not pa.types.is_null(column.type):
        # As the same values would have come out together in one table.
        return pa.chunked_array([_words(column.to_pylist())], wanted)
    # Whole numbers beyond 2**53 lose their last digits beside fractions, as they do in the model.
    return column.cast(wanted, safe=False)


def kinds(table: pa.Table) -> Mapping[str, str]:
    """What each input and protected column holds: `number`, `boolean`, `text`, `json` or `nothing`."""
    return {
        field.name: "json" if field.name.startswith(PROTECTED) else _kind(field.type)
        for field in table.schema
        if field.name not in FIXED.names
    }


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_null(type_):
        return "nothing"
    if pa.types.is_boolean(type_):
        return "boolean"
    return "text" if pa.types.is_string(type_) else "number"
