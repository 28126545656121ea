"""A version and its predictions, as the explainer sees them."""

from __future__ import annotations

from typing import Literal

from affiant.common import ids, trace, wire
from affiant.common.events import Column, Decision, ModelSpec, PredictionLogged, TensorData

TRACE = trace.new_traceparent()
SPEC = ModelSpec(
    model="loan",
    version=1,
    digest="sha256:" + "a" * 64,
    size_bytes=1,
    author="ana",
    inputs=[],
    outputs=[],
    columns=[
        Column(name="income", kind="numeric", datatype="FP32", input="income"),
        Column(name="job", kind="categorical", datatype="BYTES", input="job"),
    ],
    decision=Decision(label_output="l", probability_output="p", classes=["no", "yes"], favourable="yes"),
    background_digest="sha256:" + "b" * 64,
)


def record(
    adverse: list[bool],
    *,
    status: Literal["answered", "failed"] = "answered",
    version: int | None = 1,
    digest: str = SPEC.digest,
) -> PredictionLogged:
    rows = len(adverse)
    return PredictionLogged(
        prediction_id=ids.uuid7(),
        model="loan",
        version=version,
        digest=digest,
        received_at=ids.now(),
        status=status,
        inputs=[
            TensorData(name="income", datatype="FP32", shape=[rows, 1], data=[float(row) for row in range(rows)]),
            TensorData(name="job", datatype="BYTES", shape=[rows, 1], data=["clerk"] * rows),
        ],
        labels=["no" if denied else "yes" for denied in adverse],
        scores=[0.2 if denied else 0.9 for denied in adverse],
        adverse=adverse,
    )


def envelope(prediction: PredictionLogged, owner: str = "modelserver") -> wire.Envelope:
    message = wire.encode(prediction, owner=owner, id=prediction.prediction_id, traceparent=TRACE)
    return wire.decode(message.subject, message.body, message.headers)
