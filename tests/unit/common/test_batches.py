"""Reading a durable in batches: what is acked, set aside, and asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from affiant.common import batches, bus, trace, wire
from affiant.common.errors import Refused
from affiant.common.events import PredictionLogged
from tests.unit.explainer.examples import record


class FakeJs:
    def __init__(self) -> None:
        self.dead: list[dict[str, str]] = []
        self.full = False

    async def publish(self, _: str, __: bytes, headers: dict[str, str]) -> None:
        if self.full:
            raise TimeoutError
        self.dead.append(headers)


class FakeMessage:
    """A message as nats-py gives it."""

    def __init__(self, js: FakeJs, message: wire.Message, sequence: int = 1) -> None:
        self.subject, self.data, self.headers = message.subject, message.body, message.headers
        self._client = SimpleNamespace(jetstream=lambda: js)
        stream = SimpleNamespace(stream=sequence)
        self.metadata = SimpleNamespace(num_delivered=1, stream="PREDICTIONS", sequence=stream)
        self.became = ""

    async def ack(self) -> None:
        self.became += "acked"

    async def nak(self, delay: float) -> None:
        assert delay > 0
        self.became += "again"


def encoded(prediction: PredictionLogged) -> wire.Message:
    return wire.encode(
        prediction, owner="modelserver", id=prediction.prediction_id, traceparent=trace.new_traceparent()
    )


class World:
    def __init__(self) -> None:
        self.js = FakeJs()
        self.kept: list[str] = []
        self.refuse: set[str] = set()
        self.broken = False
        self.poison = ""

    def message(self, *predictions: PredictionLogged) -> Any:
        return FakeMessage(self.js, wire.batched([encoded(each) for each in predictions]))

    async def together(self, envelopes: Sequence[wire.Envelope]) -> list[Refused | None]:
        if self.broken:
            raise OSError("the disk is full")
        self.kept += [each.id for each in envelopes if each.id not in self.refuse]
        return [Refused("too much") if each.id in self.refuse else None for each in envelopes]

    async def singly(self, _: PredictionLogged, envelope: wire.Envelope) -> None:
        if envelope.id == self.poison:
            raise OSError("this one cannot be kept")
        self.kept.append(envelope.id)

    async def take(self, *messages: Any) -> list[str]:
        await batches.take(messages, bus.EXPLAINER_PREDICTIONS, self.together, {PredictionLogged: self.singly})
        return [message.became for message in messages]


@pytest.fixture
def world() -> World:
    return World()


async def test_all_events_of_all_messages_are_kept_together_and_every_message_is_acked(world: World) -> None:
    records = [record([True]) for _ in range(5)]
    assert await world.take(world.message(*records[:3]), world.message(*records[3:])) == ["acked", "acked"]
    assert world.kept == [each.prediction_id for each in records]


async def test_an_event_that_is_refused_becomes_a_dead_letter_and_the_others_are_kept(world: World) -> None:
    good, bad = record([True]), record([True])
    world.refuse = {bad.prediction_id}
    assert await world.take(world.message(bad, good)) == ["acked"]
    assert world.kept == [good.prediction_id]
    [dead] = world.js.dead
    assert dead["Affiant-Reason"] == "too much"


async def test_what_cannot_be_decoded_becomes_a_dead_letter(world: World) -> None:
    broken = world.message(record([True]))
    broken.data = b"rubbish"
    assert await world.take(broken, world.message(record([True]))) == ["acked", "acked"]
    assert len(world.js.dead) == 1 and len(world.kept) == 1


async def test_a_dead_letter_that_finds_no_room_leaves_its_message_to_come_again(world: World) -> None:
    bad = record([True])
    world.refuse, world.js.full = {bad.prediction_id}, True
    assert await world.take(world.message(bad), world.message(record([True]))) == ["again", "acked"]


async def test_where_a_batch_cannot_be_kept_each_message_is_handled_by_itself(world: World) -> None:
    first, poison, last = (record([True]) for _ in range(3))
    world.broken, world.poison = True, poison.prediction_id
    became = await world.take(world.message(first), world.message(poison), world.message(last))
    assert became == ["acked", "again", "acked"]
    assert world.kept == [first.prediction_id, last.prediction_id]
