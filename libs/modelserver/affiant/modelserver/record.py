"""Builds `prediction_logged`: what one request was, whatever became of it. Pure.

One record for each number. An answered request's record holds inputs, outputs and, for a classifier, the decision
of each row. A failed one holds what is known of the inputs, the reason, and no outputs: none left the house.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from affiant.common.errors import Problem
from affiant.common.events import Column, Decision, ModelSpec, PredictionLogged, ReplicaEnded, Scalar, TensorData

SUBJECT_REF = "subject_ref"
"""The request parameter that names whom the decision is about, in the application's own words."""


@dataclass(frozen=True)
class Identity:
    """Whose record it is: the same for all records of one process. `runtime` is what computes the outputs."""

    spec: ModelSpec
    alias: str
    replica: str
    epoch: int
    runtime: str = ""


@dataclass(frozen=True)
class Ticket:
    """The number of a request, drawn before anything can go wrong with it. `started_ns` is of a monotonic clock."""

    prediction_id: str
    sequence: int
    received_at: str
    started_ns: int


@dataclass
class Asked:
    """What is known of a request; it grows while the request is read."""

    request_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: list[TensorData] = field(default_factory=list)
    context: list[TensorData] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """The decision of each row: label, probability of the favourable class, whether it was unfavourable."""

    labels: list[str | int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    adverse: list[bool] = field(default_factory=list)


NO_VERDICT = Verdict()


def verdict(spec: ModelSpec, decision: Decision, inputs: list[TensorData], outputs: dict[str, list[Scalar]]) -> Verdict:
    """The decision in flat outputs: label (N,) or (N, 1), probabilities (N, C) in the order of `classes`; of a
    regression the side of the threshold.

    Raises `Problem` when a probability is not a number or the shapes do not agree: such an output decides nothing,
    and must not be answered as if it did. It is the request's fault (422, naming the columns) where a value was
    missing in such a row, else the model's (500).
    """
    if decision.is_regression:
        return _verdict_on_values(spec, decision, inputs, outputs[decision.value_output])
    labels: list[Any] = outputs[decision.label_output]
    probabilities: list[Any] = outputs[decision.probability_output]
    width = len(decision.classes)
    if len(probabilities) != len(labels) * width:
        raise Problem(f"the model gave {len(probabilities)} probabilities for {len(labels)} rows", status=500)
    scores = probabilities[decision.classes.index(decision.favourable) :: width]
    if not all(map(math.isfinite, scores)):
        raise _undecided(spec, inputs, [row for row, score in enumerate(scores) if not math.isfinite(score)])
    favourable = decision.favourable
    return Verdict(labels, scores, [label != favourable for label in labels])


def _verdict_on_values(spec: ModelSpec, decision: Decision, inputs: list[TensorData], values: list[Any]) -> Verdict:
    """A regression's values against its threshold; a value is no probability, so there are no scores."""
    if not all(map(math.isfinite, values)):
        raise _undecided(spec, inputs, [row for row, value in enumerate(values) if not math.isfinite(value)])
    sides: list[str | int] = [decision.side(value) for value in values]
    return Verdict(sides, [], [side != decision.favourable for side in sides])


def _undecided(spec: ModelSpec, inputs: list[TensorData], rows: list[int]) -> Problem:
    sent = {tensor.name: tensor for tensor in inputs}
    missing = [each.name for each in spec.columns if any(_is_missing(each, sent[each.input], row) for row in rows)]
    if not missing:
        return Problem("the model gave a probability that is not a number", status=500)
    verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
    names = ", ".join(missing)
    return Problem(f"{names} {verb} missing, and this model gives no probability without {them}", status=422)


def _is_missing(column: Column, tensor: TensorData, row: int) -> bool:
    width = tensor.shape[1] if len(tensor.shape) == 2 else 1
    return tensor.data[row * width + column.index] in (None, "")


def answered(
    who: Identity, ticket: Ticket, asked: Asked, outputs: list[TensorData], decided: Verdict, duration_us: int
) -> PredictionLogged:
    """The record of a request that is answered once the record is kept."""
    spec = who.spec
    return PredictionLogged(
        prediction_id=ticket.prediction_id,
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        received_at=ticket.received_at,
        status="answered",
        replica=who.replica,
        epoch=who.epoch,
        sequence=ticket.sequence,
        alias=who.alias,
        request_id=asked.request_id,
        subject_ref=_subject_ref(asked),
        duration_us=duration_us,
        inputs=asked.inputs,
        outputs=outputs,
        context=asked.context,
        labels=decided.labels,
        scores=decided.scores,
        adverse=decided.adverse,
        parameters=_other_parameters(asked),
        runtime=who.runtime,
    )


def failed(who: Identity, ticket: Ticket, asked: Asked, error: str, duration_us: int) -> PredictionLogged:
    """The record of a request that got an error, or no answer."""
    spec = who.spec
    return PredictionLogged(
        prediction_id=ticket.prediction_id,
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        received_at=ticket.received_at,
        status="failed",
        replica=who.replica,
        epoch=who.epoch,
        sequence=ticket.sequence,
        alias=who.alias,
        request_id=asked.request_id,
        subject_ref=_subject_ref(asked),
        duration_us=duration_us,
        error=error,
        inputs=asked.inputs,
        context=asked.context,
        parameters=_other_parameters(asked),
    )


def ended(who: Identity, last_sequence: int, ended_at: str) -> ReplicaEnded:
    """The last word of a process: how many numbers it drew."""
    spec = who.spec
    return ReplicaEnded(
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        replica=who.replica,
        epoch=who.epoch,
        last_sequence=last_sequence,
        ended_at=ended_at,
        alias=who.alias,
    )


def _subject_ref(asked: Asked) -> str:
    given = asked.parameters.get(SUBJECT_REF, "")
    return given if isinstance(given, str) else str(given)


def _other_parameters(asked: Asked) -> dict[str, Any]:
    if SUBJECT_REF not in asked.parameters:
        return asked.parameters
    return {name: value for name, value in asked.parameters.items() if name != SUBJECT_REF}
