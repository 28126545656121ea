"""The event that the audit benchmarks use: about 1 KiB, 20 columns, one decided row, as a model server sends it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

from affiant.auditor.domain.arrival import Arrival
from affiant.common import bus, ids, wire
from affiant.common.events import Column, Decision, ModelRegistered, ModelSpec, PredictionLogged, TensorData, TensorSpec

NUMBERS = [f"amount_{place:02d}" for place in range(16)]
WORDS = {"purpose": ["car", "house", "study", "other"], "job": ["none", "skilled", "manager"], "home": ["own", "rent"]}
RACES = ["white", "black", "asian", "other"]
START = datetime(2026, 11, 1, tzinfo=UTC)
HEADERS = {"content-type": wire.CONTENT_TYPE}


def spec(model: str) -> ModelSpec:
    """16 numbers in one matrix, three words, and a protected column that the model does not see."""
    columns = [Column(name=name, kind="numeric", datatype="FP32", input="amounts", index=place)
               for place, name in enumerate(NUMBERS)]  # fmt: skip
    columns += [Column(name=name, kind="categorical", datatype="BYTES", input=name) for name in WORDS]
    return ModelSpec(
        model=model,
        version=1,
        digest=f"sha256:{0:064x}",
        size_bytes=1,
        author="ana",
        inputs=[TensorSpec(name="amounts", datatype="FP32", shape=[-1, len(NUMBERS)])],
        outputs=[],
        columns=columns,
        protected=["race"],
        decision=Decision(label_output="label", probability_output="p", classes=["no", "yes"], favourable="yes"),
    )


def registration(model: str) -> Arrival:
    """The event by which the auditor knows the model."""
    event = ModelRegistered(model=model, version=1, spec=spec(model), checks=[], registered_at=ids.now())
    message = wire.encode(event, owner=event.owner)
    durable = bus.AUDITOR_MODELS
    return Arrival(message.subject, message.body, message.headers, durable.name, durable.stream, 1)


def subject(model: str) -> str:
    """Where its predictions are published."""
    return f"affiant.modelserver.prediction_logged.v1.{model}"


def bodies(model: str, number: int, *, first: int = 1, seed: int = 7, random_ids: bool = False,
           per_second: int = 50, variety: int = 0) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """(id, body) of `number` predictions, numbered from `first`, received `per_second` since `START`.

    Made from one encoded example by putting values in their places. With `variety` the applications repeat after so
    many: making new ones takes as long as recording them.
    """
    draw = random.Random(seed + first)
    pool = _pool(variety) if variety else []
    template = _template(model)
    for sequence in range(first, first + number):
        made = str(uuid.UUID(int=draw.getrandbits(128), version=4)) if random_ids else ids.uuid7()
        moment = ids.timestamp(START + timedelta(seconds=sequence / per_second))
        values = pool[sequence % variety] if variety else _application(draw)
        head = (made, moment, made, moment, sequence, sequence, sequence % 100_000)
        yield made, (template % (*head, *values)).encode()


def _application(draw: random.Random) -> tuple[str, ...]:
    adverse = draw.random() < 0.3
    words = [draw.choice(values) for values in WORDS.values()]
    amounts = ",".join(f"{draw.lognormvariate(3, 1):.2f}" for _ in NUMBERS)
    score = f"{draw.random() / 2 + (0 if adverse else 0.5):.6f}"
    label, verdict = ("no", "true") if adverse else ("yes", "false")
    return amounts, *words, score, draw.choices(RACES, (70, 15, 10, 5))[0], label, score, verdict


@cache
def _pool(variety: int) -> list[tuple[str, ...]]:
    draw = random.Random(variety)
    return [_application(draw) for _ in range(variety)]


def arrivals(model: str, number: int, **how: int | bool) -> list[Arrival]:
    """The same as they come off the bus."""
    durable = bus.AUDITOR_PREDICTIONS
    return [
        Arrival(subject(model), body, HEADERS, durable.name, durable.stream, place)
        for place, (_, body) in enumerate(bodies(model, number, **how), start=1)  # type: ignore[arg-type]
    ]


@cache
def _template(model: str) -> str:
    event = PredictionLogged(
        prediction_id="@id",
        model=model,
        version=1,
        digest=spec(model).digest,
        received_at="@received",
        status="answered",
        replica="r1",
        epoch=1,
        sequence=111111,
        alias="champion",
        request_id="@request",
        subject_ref="@subject",
        duration_us=900,
        inputs=[
            TensorData(name="amounts", datatype="FP32", shape=[1, len(NUMBERS)], data=["@amounts"]),
            *[TensorData(name=name, datatype="BYTES", shape=[1, 1], data=[f"@{name}"]) for name in WORDS],
        ],
        outputs=[TensorData(name="p", datatype="FP32", shape=[1], data=["@output"])],
        context=[TensorData(name="race", datatype="BYTES", shape=[1, 1], data=["@race"])],
        labels=["@label"],
        scores=[0.111111],
        adverse=[True],
    )
    message = wire.encode(event, owner="modelserver", id="@event", time="@time")
    text = message.body.decode().replace("%", "%%")
    for mark, place in (
        ('"@amounts"', "%s"),
        ('"@output"', "%s"),
        ('"@request"', '"req-%d"'),
        ('"@subject"', '"applicant-%d"'),
        ("@event", "%s"),
        ("@time", "%s"),
        ("@id", "%s"),
        ("@received", "%s"),
        *((f"@{name}", "%s") for name in WORDS),
        ("@race", "%s"),
        ("@label", "%s"),
        ("0.111111", "%s"),
        ("111111", "%d"),
        ('"adverse":[true]', '"adverse":[%s]'),
    ):
        if mark not in text:
            raise RuntimeError(f"the example has no {mark}")
        text = text.replace(mark, place)
    return text
