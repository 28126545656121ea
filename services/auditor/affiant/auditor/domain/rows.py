"""What is read out of an event to look it up, count it and compare groups by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import prod
from typing import NamedTuple, TypeVar

from affiant.common.errors import Refused
from affiant.common.events import Column, ModelSpec, PredictionLogged, Scalar, TensorData
from affiant.common.ids import timestamp

UNKNOWN_VERSION = 0
"""Stands for "no version given": registered versions begin at 1."""
MOST_AXES = 8

Values = dict[str, Scalar]
_T = TypeVar("_T")


class Prediction(NamedTuple):
    """One prediction_logged. `adverse_rows` is None where nothing was decided. Times are normalised to UTC."""

    model: str
    version: int
    digest: str
    alias: str
    status: str
    received_at: str
    rows: int
    adverse_rows: int | None
    request_id: str
    subject_ref: str
    duration_us: int
    replica: str
    epoch: int
    sequence: int
    error: str


class Decision(NamedTuple):
    """One row of a prediction that came to a decision; `score` is the probability of the favourable class."""

    row: int
    label: str | int | None
    adverse: bool
    score: float | None


def prediction(event: PredictionLogged) -> Prediction:
    """The look-up row of `event`. Raises `Refused` when its time is not a time or a number is out of range."""
    for number in (event.version or 0, event.duration_us, event.epoch, event.sequence):
        if not -(2**63) <= number < 2**63:
            raise Refused(f"{number} does not fit into 64 bits")
    return Prediction(
        event.model,
        event.version or UNKNOWN_VERSION,
        event.digest,
        event.alias,
        event.status,
        utc(event.received_at),
        _row_count(event),
        sum(event.adverse) if event.adverse else None,
        event.request_id,
        event.subject_ref,
        event.duration_us,
        event.replica,
        event.epoch,
        event.sequence,
        event.error,
    )


def decisions(event: PredictionLogged) -> list[Decision]:
    """The rows of `event` that were decided: those for which it says whether the decision was adverse."""
    return [
        Decision(row, _at(event.labels, row), adverse, _at(event.scores, row))
        for row, adverse in enumerate(event.adverse)
    ]


class Protection(NamedTuple):
    """What a spec says of protected columns: their names, and those columns of the model that are protected."""

    names: tuple[str, ...] = ()
    seen: tuple[Column, ...] = ()


def protection(spec: ModelSpec | None) -> Protection:
    """What `spec` protects; nothing where there is none."""
    if spec is None:
        return Protection()
    return Protection(tuple(spec.protected), tuple(one for one in spec.columns if one.name in spec.protected))


def protected_values(event: PredictionLogged, protects: Protection) -> list[Values]:
    """The values of the protected columns, for each decided row; see `protected_columns`."""
    columns = protected_columns(event, protects)
    return [{name: values[row] for name, values in columns.items()} for row in range(len(event.adverse))]


def protected_columns(event: PredictionLogged, protects: Protection) -> dict[str, Sequence[Scalar]]:
    """The values of the protected columns, one for each decided row.

    From the context tensors, which hold nothing else, and from the inputs where the spec says which of the model's
    own columns are protected. A column that the spec names and no tensor has is None: missing.
    """
    rows = len(event.adverse)
    found = {tensor.name: column(tensor, 0, rows) for tensor in event.context}
    if protects.seen:
        inputs = {tensor.name: tensor for tensor in event.inputs}
        found |= {one.name: column(inputs[one.input], one.index, rows) for one in protects.seen if one.input in inputs}
    columns: dict[str, Sequence[Scalar]] = dict.fromkeys(protects.names, [None] * rows)
    return columns | {name: values for name, values in found.items() if values is not None}


def utc(moment: str) -> str:
    """An RFC 3339 time as UTC with microseconds, so that times sort as text. Raises `Refused` for anything else."""
    try:
        parsed = datetime.fromisoformat(moment)
        if parsed.tzinfo is None:
            raise Refused(f"{moment!r} has no time zone")
        is_ours = len(moment) == 27 and (moment[7], moment[10], moment[19], moment[-1]) == ("-", "T", ".", "Z")
        return moment if is_ours else timestamp(parsed)
    except (ValueError, OverflowError) as error:
        # In the first and the last hours of the calendar there is a local time without one in UTC.
        raise Refused(f"{moment!r} is not a time in RFC 3339") from error


def _row_count(event: PredictionLogged) -> int:
    given = max(len(event.labels), len(event.scores), len(event.adverse))
    if given or event.status == "failed":
        return given
    # The shape is the sender's claim; there cannot be more rows than values.
    return next((max(0, min(tensor.shape[0], len(tensor.data))) for tensor in event.inputs if tensor.shape), 0)


def column(tensor: TensorData, index: int, rows: int) -> Sequence[Scalar] | None:
    """Column `index` of a tensor of shape (N,) or (N, …); None where it has no value for each of `rows` rows.

    A tensor without values costs its sender next to nothing: with thousands of them beside thousands of rows, what
    fits into one message would fill the memory here. And the product of a long shape takes minutes to compute.
    """
    if len(tensor.shape) > MOST_AXES:
        return None
    if index == 0 and tensor.shape == [rows, 1] and len(tensor.data) == rows:
        return tensor.data
    width = prod(tensor.shape[1:])
    if not 0 <= index < width or len(tensor.data) < rows * width:
        return None
    return tensor.data[index : rows * width : width]


def _at(values: Sequence[_T], index: int) -> _T | None:
    return values[index] if index < len(values) else None
