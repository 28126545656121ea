"""A prediction as rows of a table: one for each row of the request, its tensors as named columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from affiant.auditor.domain.rows import (
    MOST_AXES,
    Prediction,
    column,
    decisions,
    prediction,
    protected_columns,
    protection,
)
from affiant.common.events import ModelSpec, PredictionLogged, Scalar, TensorData

MOST_COLUMNS = 512
"""Of one prediction as many input columns are told apart; an outside system may send a tensor for every byte."""

Columns = Mapping[str, Sequence[Scalar]]


class Flat(NamedTuple):
    """One prediction, column by column: every sequence has `rows` values, or none where nothing was decided.

    `inputs` holds the model's columns by the names of its spec; tensors that the spec does not name, or of a model
    without one, by their own: `name`, or `name[2]` for one place of a wider tensor. `protected` as in `decisions`.
    """

    made: Prediction
    rows: int
    labels: Sequence[str | int | None]
    scores: Sequence[float | None]
    adverse: Sequence[bool | None]
    inputs: Columns
    protected: Columns


def flatten(event: PredictionLogged, spec: ModelSpec | None) -> Flat:
    """The rows of `event`. Raises `Refused` as `prediction` does."""
    made = prediction(event)
    rows = made.rows
    decided = decisions(event)
    labels: list[str | int | None] = [one.label for one in decided] or list(event.labels)
    scores: list[float | None] = [one.score for one in decided] or list(event.scores)
    adverse: list[bool | None] = [one.adverse for one in decided]
    padding = [None] * rows
    return Flat(
        made,
        rows,
        (labels + padding)[:rows],
        (scores + padding)[:rows],
        (adverse + padding)[:rows],
        dict(_inputs(event.inputs, spec, rows)) if rows else {},
        protected_columns(event, protection(spec)),
    )


def _inputs(tensors: Sequence[TensorData], spec: ModelSpec | None, rows: int) -> Iterator[tuple[str, Sequence[Scalar]]]:
    """The columns of the spec first, then what it does not name; at most `MOST_COLUMNS`."""
    given = {tensor.name: tensor for tensor in tensors}
    found = 0
    named = set()
    for one in spec.columns if spec else ():
        values = column(given[one.input], one.index, rows) if one.input in given else None
        named.add(one.input)
        if values is not None and found < MOST_COLUMNS:
            found += 1
            yield one.name, values
    for name, tensor in given.items():
        for label, values in _unnamed(name, tensor, rows) if name not in named else ():
            if found == MOST_COLUMNS:
                return
            found += 1
            yield label, values


def _unnamed(name: str, tensor: TensorData, rows: int) -> Iterator[tuple[str, Sequence[Scalar]]]:
    if len(tensor.shape) > MOST_AXES:
        return
    width = len(tensor.data) // rows
    for index in range(min(width, MOST_COLUMNS)):
        values = column(tensor, index, rows)
        if values is None:
            return
        yield name if width == 1 else f"{name}[{index}]", values
