"""Events to test with: a small loan model and what happens to it."""

from __future__ import annotations

from itertools import count

from affiant.auditor.domain.arrival import Arrival
from affiant.common import bus, ids, wire
from affiant.common.events import (
    Column,
    Decision,
    Event,
    ExplanationFailed,
    ModelRegistered,
    ModelSpec,
    PredictionExplained,
    PredictionLogged,
    TensorData,
    TensorSpec,
)

MODEL = "loans"
_sequence = count(1)


def spec(version: int = 1, protected: tuple[str, ...] = ("race", "age")) -> ModelSpec:
    return ModelSpec(
        model=MODEL,
        version=version,
        digest=f"sha256:{version:064x}",
        size_bytes=10,
        author="ana",
        inputs=[TensorSpec(name="age", datatype="FP32", shape=[-1, 1])],
        outputs=[],
        columns=[Column(name="age", kind="numeric", datatype="FP32", input="age")],
        protected=list(protected),
        decision=Decision(
            label_output="label", probability_output="probabilities", classes=["no", "yes"], favourable="yes"
        ),
    )


def registered(version: int = 1) -> ModelRegistered:
    return ModelRegistered(model=MODEL, version=version, spec=spec(version), checks=[], registered_at=ids.now())


def prediction(
    sequence: int = 0, *, race: str = "white", age: float = 30.0, adverse: bool = False, **fields: object
) -> PredictionLogged:
    """One decided row, unless `fields` say otherwise (`undecided` for a request that came to nothing)."""
    if fields.pop("undecided", False):
        fields |= {"status": "failed", "inputs": [], "context": [], "labels": [], "scores": [], "adverse": []}
    given: dict[str, object] = {
        "prediction_id": ids.uuid7(),
        "model": MODEL,
        "version": 1,
        "digest": spec().digest,
        "received_at": ids.now(),
        "status": "answered",
        "replica": "r1" if sequence else "",
        "epoch": 1,
        "sequence": sequence,
        "inputs": [TensorData(name="age", datatype="FP32", shape=[1, 1], data=[age])],
        "context": [TensorData(name="race", datatype="BYTES", shape=[1, 1], data=[race])],
        "labels": ["no" if adverse else "yes"],
        "scores": [0.2 if adverse else 0.9],
        "adverse": [adverse],
    }
    return PredictionLogged(**{**given, **fields})  # type: ignore[arg-type]


def explained(prediction_id: str, row: int = 0) -> PredictionExplained:
    return PredictionExplained(
        prediction_id=prediction_id,
        model=MODEL,
        version=1,
        digest=spec().digest,
        row=row,
        trigger="policy",
        seed=1,
        background_digest="",
        background_rows=0,
        explained_label="no",
        explained_output="probability of yes",
        explained_at=ids.now(),
        duration_ms=1.0,
        software={},
    )


def explanation_failed(prediction_id: str, row: int = 0) -> ExplanationFailed:
    return ExplanationFailed(
        prediction_id=prediction_id,
        model=MODEL,
        version=1,
        row=row,
        state="failed",
        reason="no",
        failed_at=ids.now(),
    )


def arrival(event: Event, **at: int) -> Arrival:
    """The message that the event's owner would send, as it arrives."""
    message = wire.encode(event, owner=event.owner, id=getattr(event, "prediction_id", "") if _own_id(event) else "")
    durable = {
        "modelserver": bus.AUDITOR_PREDICTIONS,
        "explainer": bus.AUDITOR_EXPLANATIONS,
        "registry": bus.AUDITOR_MODELS,
        "auditor": bus.AUDITOR_OWN,
    }[event.owner]
    return raw(message.subject, message.body, message.headers, durable, **at)


def _own_id(event: object) -> bool:
    return isinstance(event, PredictionLogged)


def raw(
    subject: str,
    body: bytes,
    headers: dict[str, str] | None = None,
    durable: bus.Durable = bus.AUDITOR_PREDICTIONS,
    sequence: int = 0,
) -> Arrival:
    """A message as it came; each at a place of its own in the stream unless one is given."""
    return Arrival(subject, body, headers, durable.name, durable.stream, sequence or next(_sequence))
