"""What happens to a message that cannot be handled, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from faststream.nats import NatsBroker, NatsMessage, NatsRouter
from nats.aio.client import Client
from nats.errors import Error as NatsError

from affiant.common import bus, delivery, ids, wire
from affiant.common.errors import Refused
from affiant.common.events import ModelArchived, PredictionLogged
from tests.support.nats_server import NatsServer

ARCHIVED = ModelArchived(model="loan", version=1, digest="sha256:0", by="ben", archived_at=ids.now())


@asynccontextmanager
async def subscribed(server: NatsServer, handle: Callable[..., object]) -> AsyncIterator[None]:
    async def raw(message: NatsMessage) -> bytes:
        return message.body

    broker = NatsBroker(server.url, inbox_prefix=b"_INBOX_deployer", decoder=raw, logger=None)
    router = NatsRouter()
    delivery.subscribe(router, bus.DEPLOYER_MODELS, {ModelArchived: handle})  # type: ignore[dict-item]
    broker.include_router(router)
    async with broker:
        await broker.start()
        yield


async def publish(client: Client, body: bytes | None = None) -> str:
    message = wire.encode(ARCHIVED, owner="registry")
    await client.jetstream().publish(message.subject, body or message.body, headers=message.headers)
    return message.id


async def publish_again_until_acked(client: Client) -> str:
    """One event, published until the server acknowledges it: the same id each time, so it is stored once."""
    message = wire.encode(ARCHIVED, owner="registry")
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(NatsError, ConnectionError):
                await client.jetstream().publish(message.subject, message.body, headers=message.headers, timeout=1)
                return message.id


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def dead_letters(client: Client, count: int) -> list[dict[str, str]]:
    async with asyncio.timeout(40):
        while (await client.jetstream().stream_info("DEAD")).state.messages < count:
            await asyncio.sleep(0.02)
    return [dict((await client.jetstream().get_msg("DEAD", number)).headers or {}) for number in range(1, count + 1)]


async def pending(client: Client) -> int:
    info = await client.jetstream().consumer_info("MODELS", bus.DEPLOYER_MODELS.name)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def test_a_handled_message_is_acked(declared: Client, nats_server: NatsServer) -> None:
    seen: list[str] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        seen.append(envelope.id)

    async with subscribed(nats_server, handle):
        message_id = await publish(declared)
        await until(lambda: seen == [message_id])
    assert await pending(declared) == 0


async def test_a_refused_message_is_set_aside_at_once(declared: Client, nats_server: NatsServer) -> None:
    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        raise Refused("no such model")

    async with subscribed(nats_server, handle):
        message_id = await publish(declared)
        [headers] = await dead_letters(declared, 1)
    assert headers["Affiant-Reason"] == "no such model"
    assert headers["Affiant-Msg-Id"] == message_id
    assert headers["Affiant-Deliveries"] == "1"
    assert await pending(declared) == 0


async def test_a_malformed_message_is_set_aside_and_the_next_one_is_handled(
    declared: Client, nats_server: NatsServer
) -> None:
    seen: list[str] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        seen.append(envelope.id)

    async with subscribed(nats_server, handle):
        await publish(declared, b"{ this is no event")
        message_id = await publish(declared)
        await until(lambda: seen == [message_id])
        [headers] = await dead_letters(declared, 1)
    assert "not a CloudEvent" in headers["Affiant-Reason"]


async def test_while_the_dead_letters_are_full_what_is_refused_comes_again_with_a_delay(
    declared: Client, nats_server: NatsServer
) -> None:
    js, durable = declared.jetstream(), bus.DEPLOYER_MODELS
    await js.update_stream(replace((await js.stream_info("DEAD")).config, max_bytes=100))
    seen: list[str] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        seen.append(envelope.id)

    async with subscribed(nats_server, handle):
        await publish(declared, b"{ this is no event")
        message_id = await publish(declared)
        await until(lambda: seen == [message_id])
        await asyncio.sleep(1)
        delivered = (await js.consumer_info(durable.stream, durable.name)).delivered
    assert delivered is not None and delivered.consumer_seq < 8


async def test_a_bad_event_among_others_in_one_message_is_set_aside_alone(
    declared: Client, nats_server: NatsServer
) -> None:
    seen: list[str] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        if envelope.id == "bad":
            raise Refused("no such model")
        seen.append(envelope.id)

    together = wire.batched([wire.encode(ARCHIVED, owner="registry", id=name) for name in ("one", "bad", "two")])
    async with subscribed(nats_server, handle):
        await declared.jetstream().publish(together.subject, together.body, headers=together.headers)
        [headers] = await dead_letters(declared, 1)
        await until(lambda: seen == ["one", "two"])
    assert headers["content-type"] == wire.CONTENT_TYPE
    assert (
        wire.decode(together.subject, (await declared.jetstream().get_msg("DEAD", 1)).data or b"", headers).id == "bad"
    )


async def test_an_error_is_tried_again_with_a_delay_until_it_succeeds(
    declared: Client, nats_server: NatsServer
) -> None:
    times: list[float] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 3:
            raise ConnectionError("the database is away")

    async with subscribed(nats_server, handle):
        await publish(declared)
        await until(lambda: len(times) == 3)
    assert times[1] - times[0] > 0.2
    assert times[2] - times[1] > 0.4
    assert await pending(declared) == 0


async def test_an_error_that_never_ends_is_set_aside_with_its_text(
    declared: Client, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "GIVE_UP_AFTER", 2)

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        raise ConnectionError("the database is away")

    async with subscribed(nats_server, handle):
        await publish(declared)
        [headers] = await dead_letters(declared, 1)
    assert headers["Affiant-Reason"] == "ConnectionError: the database is away"
    assert headers["Affiant-Deliveries"] == "2"


async def test_messages_are_handled_after_the_server_was_killed_and_started_again(
    declared: Client, nats_server: NatsServer
) -> None:
    seen: list[str] = []

    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        seen.append(envelope.id)

    async with subscribed(nats_server, handle):
        first = await publish(declared)
        await until(lambda: seen == [first])
        nats_server.restart()
        second = await publish_again_until_acked(declared)
        await until(lambda: seen == [first, second], seconds=30)


async def test_events_that_the_table_does_not_name_are_acked(declared: Client, nats_server: NatsServer) -> None:
    async def handle(event: ModelArchived, envelope: wire.Envelope) -> None:
        raise AssertionError

    other = "affiant.registry.something_new.v3"
    async with subscribed(nats_server, handle):
        await declared.jetstream().publish(other, b"{}", headers={"Nats-Msg-Id": "1"})
        async with asyncio.timeout(40):
            while await pending(declared):
                await asyncio.sleep(0.05)
    assert (await declared.jetstream().stream_info("DEAD")).state.messages == 0


async def test_every_stream_and_durable_can_be_declared_again_without_change(declared: Client) -> None:
    assert await bus.declare(declared.jetstream()) == []


async def test_a_full_stream_refuses_and_does_not_drop(declared: Client) -> None:
    info = await declared.jetstream().stream_info("PREDICTIONS")
    assert info.config.discard == "new"
    assert PredictionLogged.per_model
