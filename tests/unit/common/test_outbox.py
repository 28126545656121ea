"""The outbox: nothing is published that was not committed, nothing committed stays unpublished."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData, StaticPool, Table, create_engine

from affiant.common import outbox, wire
from affiant.common.events import ModelArchived


class FakeJetStream:
    """Keeps what is published; fails while `away`."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.away = False

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        if self.away:
            raise TimeoutError("no answer")
        self.published.append(headers["Nats-Msg-Id"])


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield engine
    engine.dispose()


@pytest.fixture
def table(engine: Engine) -> Table:
    metadata = MetaData()
    table = outbox.outbox_table(metadata)
    metadata.create_all(engine)
    return table


def message(number: int) -> wire.Message:
    event = ModelArchived(model="loan", version=number, digest="", by="ben", archived_at="")
    return wire.encode(event, owner="registry", id=f"event-{number}")


async def test_what_was_committed_is_published_in_order(engine: Engine, table: Table) -> None:
    js = FakeJetStream()
    with engine.begin() as connection:
        for number in range(3):
            outbox.put(connection, table, message(number))
    relay = outbox.Relay(engine, table, js)  # type: ignore[arg-type]
    assert await relay.publish_waiting() == 3
    assert await relay.publish_waiting() == 0
    assert js.published == ["event-0", "event-1", "event-2"]


async def test_two_relays_of_one_table_lose_nothing(engine: Engine, table: Table) -> None:
    def put(number: int) -> None:
        with engine.begin() as connection:
            outbox.put(connection, table, message(number))

    class Slow(FakeJetStream):
        async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
            await super().publish(subject, body, headers)
            if len(self.published) == 1:
                await other.publish_waiting()
                put(2)

    js = Slow()
    other = outbox.Relay(engine, table, FakeJetStream())  # type: ignore[arg-type]
    put(1)
    relay = outbox.Relay(engine, table, js)  # type: ignore[arg-type]
    await relay.publish_waiting()
    await relay.publish_waiting()
    assert js.published == ["event-1", "event-2"]


async def test_what_was_rolled_back_is_never_published(engine: Engine, table: Table) -> None:
    js = FakeJetStream()
    with pytest.raises(RuntimeError), engine.begin() as connection:
        outbox.put(connection, table, message(1))
        raise RuntimeError("the state could not be saved")
    assert await outbox.Relay(engine, table, js).publish_waiting() == 0  # type: ignore[arg-type]
    assert js.published == []


async def test_a_bus_that_was_away_gets_everything_when_it_is_back(
    engine: Engine, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "retry_delay", lambda failures: 0.01)
    js = FakeJetStream()
    js.away = True
    relay = outbox.Relay(engine, table, js)  # type: ignore[arg-type]
    with engine.begin() as connection:
        outbox.put(connection, table, message(1))
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0.1)
    assert js.published == []
    js.away = False
    async with asyncio.timeout(5):
        while js.published != ["event-1"]:
            await asyncio.sleep(0.01)
    running.cancel()
