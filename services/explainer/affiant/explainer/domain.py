"""The rules: which rows are explained, with which seed, in what order, and what a job is. No I/O; time is given."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct, field

from affiant.common import ids
from affiant.common.errors import Refused
from affiant.common.events import (
    ExplainMethod,
    ExplainPolicy,
    ExplanationFailed,
    ModelSpec,
    PredictionLogged,
    Scalar,
    TensorData,
)

State = Literal["queued", "running", "done", "failed", "expired"]
Trigger = Literal["policy", "request"]
Method = ExplainMethod
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "expired")
OPEN: tuple[State, ...] = ("queued", "running")
DEFAULT_METHODS: tuple[Method, ...] = ("anchor", "shap")
"""Of a request that names none."""

MOST_IN_BATCH = 32
BATCH_SECONDS = 2.0
"""A batch is over after about so long: then a worker looks again whether something more urgent waits."""

STABILITY_SEEDS = 4

ON_REQUEST, ADVERSE, OTHER = 0, 1, 2
MOST_OUTSIDE_ROWS = 1_000
"""Each may become a job: one message of an outside system must not keep the workers busy for a day."""
"""Priorities: somebody waits; a person was denied; everything else."""

_NAMESPACE = uuid.UUID("6a1f6f3c-0b8e-5d0e-9a58-7c1b9d1f2e40")


class Job(Struct, frozen=True, kw_only=True):
    """One row to be explained. The key is (prediction_id, row, trigger), so a redelivered prediction adds nothing.

    `round` counts how often it was asked for; an ended job that is asked for again starts a new one. `values` are in
    the order of the version's columns; `fault` says why they could not be read. `alone`: its batch cost a worker its
    life, so it is not put into another. Times are seconds since 1970.
    """

    prediction_id: str
    row: int
    trigger: Trigger
    model: str
    version: int
    digest: str
    label: str | int
    score: float | None
    priority: int
    queued_at: float
    deadline_at: float
    values: list[Scalar] = field(default_factory=list)
    methods: list[Method] = field(default_factory=lambda: list(DEFAULT_METHODS))
    state: State = "queued"
    round: int = 1
    attempts: int = 0
    not_before: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    reason: str = ""
    fault: str = ""
    alone: bool = False
    requested_by: str = ""
    traceparent: str = ""

    @property
    def seed(self) -> int:
        """The same for every explanation of this row, whoever asks: the same seed gives the same numbers."""
        return int.from_bytes(hashlib.sha256(f"{self.prediction_id}/{self.row}".encode()).digest()[:4]) >> 1

    @property
    def event_id(self) -> str:
        """The id of the one event that ends this round: a re-publish after a crash is recognised by it."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.prediction_id}/{self.row}/{self.trigger}/{self.round}"))


class Survey(Struct, frozen=True, kw_only=True):
    """A version that is to be explained as a whole: once, when it is first promoted or asked for."""

    model: str
    version: int
    digest: str
    queued_at: float
    state: State = "queued"
    attempts: int = 0
    not_before: float = 0.0
    finished_at: float | None = None
    reason: str = ""

    @property
    def seed(self) -> int:
        """The same for every survey of these bytes."""
        return int.from_bytes(hashlib.sha256(self.digest.encode()).digest()[:4]) >> 1

    @property
    def event_id(self) -> str:
        """The id of the one event that ends it well."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.model}/{self.version}/{self.digest}"))


def check_outside(record: PredictionLogged, event_id: str) -> None:
    """Raises `Refused` for an event of an outside system that could cost or claim more than one prediction may."""
    if record.prediction_id != event_id:
        raise Refused(f"the event's id {event_id!r} must be its prediction_id {record.prediction_id!r}")
    rows = record.inputs[0].shape[0] if record.inputs and record.inputs[0].shape else 0
    if max(len(record.adverse), len(record.labels)) > rows:
        raise Refused(f"the event has decisions for more rows than its inputs hold ({rows})")
    if rows > MOST_OUTSIDE_ROWS:
        raise Refused(f"the event holds {rows} rows; at most {MOST_OUTSIDE_ROWS} of one event are explained")


def plan(
    spec: ModelSpec, record: PredictionLogged, *, traceparent: str, now: float, deadline_seconds: float
) -> list[Job]:
    """The jobs that the version's policy asks for. None for a failed request or a model without a decision."""
    policy = spec.policy.explain
    if record.status != "answered" or spec.decision is None or not chosen(record.prediction_id, policy.rate):
        return []
    return [
        job_for(
            spec,
            record,
            row,
            trigger="policy",
            methods=list(policy.methods),
            traceparent=traceparent,
            now=now,
            deadline_seconds=deadline_seconds,
        )
        for row in wanted_rows(policy, record.adverse, len(record.labels))
    ]


def wanted_rows(policy: ExplainPolicy, adverse: Sequence[bool], rows: int) -> list[int]:
    """The rows of a prediction that `policy` wants explained, before its rate is applied."""
    if policy.when == "none":
        return []
    if policy.when == "all":
        return list(range(rows))
    return [row for row, denied in enumerate(adverse) if denied]


def chosen(prediction_id: str, rate: float) -> bool:
    """Whether a prediction falls into the share `rate` (0-1): always the same answer for the same id."""
    position = int.from_bytes(hashlib.sha256(prediction_id.encode()).digest()[:8]) / 2**64
    return position < rate


def job_for(
    spec: ModelSpec,
    record: PredictionLogged,
    row: int,
    *,
    trigger: Trigger,
    methods: list[Method],
    traceparent: str,
    now: float,
    deadline_seconds: float,
) -> Job:
    """A queued job for one row. A record whose tensors do not hold the row gives a job with a `fault`."""
    values: list[Scalar] = []
    fault = ""
    try:
        values = row_values(spec, record.inputs, row)
    except ValueError as error:
        fault = str(error)
    denied = row < len(record.adverse) and record.adverse[row]
    return Job(
        prediction_id=record.prediction_id,
        row=row,
        trigger=trigger,
        model=spec.model,
        version=spec.version,
        digest=spec.digest,
        label=record.labels[row] if row < len(record.labels) else "",
        score=record.scores[row] if row < len(record.scores) else None,
        priority=ON_REQUEST if trigger == "request" else ADVERSE if denied else OTHER,
        queued_at=now,
        deadline_at=now + deadline_seconds,
        values=values,
        methods=methods,
        fault=fault,
        traceparent=traceparent,
    )


def batch_size(waiting: int, workers: int, seconds: float | None) -> int:
    """How many jobs a worker takes at once: few while few wait, so that each is done soon; many when the queue grows,
    so that it shrinks again. No more than what `BATCH_SECONDS` are enough for, when one takes `seconds`."""
    fair = math.ceil(waiting / (2 * workers))
    affordable = MOST_IN_BATCH if not seconds else int(BATCH_SECONDS / seconds)
    return max(1, min(fair, affordable, MOST_IN_BATCH))


def tried_with(job: Job, rate: float) -> int:
    """With how many seeds a job is explained: `STABILITY_SEEDS` for the share `rate` of them, always the same ones."""
    return STABILITY_SEEDS if chosen(f"{job.prediction_id}/{job.row}/stability", rate) else 1


def row_values(spec: ModelSpec, inputs: Sequence[TensorData], row: int) -> list[Scalar]:
    """Row `row` of a request, in the order of the version's columns. Raises `ValueError` saying what does not fit."""
    tensors = {tensor.name: tensor for tensor in inputs}
    values: list[Scalar] = []
    for column in spec.columns:
        tensor = tensors.get(column.input)
        if tensor is None:
            raise ValueError(f"the record has no input {column.input!r}")
        rows = tensor.shape[0] if tensor.shape else 0
        width = len(tensor.data) // rows if rows else 0
        if rows * width != len(tensor.data) or not 0 <= row < rows or column.index >= width:
            raise ValueError(f"row {row} of input {tensor.name!r} is not in its data: shape {tensor.shape}")
        values.append(tensor.data[row * width + column.index])
    return values


def failed_event(job: Job, state: Literal["failed", "expired"], reason: str, *, now: float) -> ExplanationFailed:
    """The event for a job that ended without an explanation."""
    return ExplanationFailed(
        prediction_id=job.prediction_id,
        model=job.model,
        version=job.version,
        row=job.row,
        state=state,
        reason=reason,
        failed_at=moment(now),
        attempts=job.attempts,
    )


def moment(seconds: float) -> str:
    """Seconds since 1970 as it stands in events."""
    return ids.timestamp(datetime.fromtimestamp(seconds, UTC))
