"""Group commit: what is sent, and what is done about each answer."""

from __future__ import annotations

import asyncio

import pytest

from affiant.common.wire import Message
from affiant.modelserver import publisher as module
from affiant.modelserver.publisher import Entry, NotDurable, Publisher
from tests.unit.modelserver.fakes import FakeBus

pytestmark = pytest.mark.anyio

DUPLICATE = b'{"error":{"code":400,"err_code":10201,"description":"duplicate"},"stream":"P","seq":0}'
DISABLED = b'{"error":{"code":400,"err_code":10174,"description":"atomic publish is disabled"},"stream":"P","seq":0}'
FULL = b'{"error":{"code":400,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"P","seq":0}'
OPENED = b""


def message(name: str, body: bytes = b"{}") -> Message:
    return Message("affiant.x", body, {"Nats-Msg-Id": name}, name)


def submit(publisher: Publisher, count: int, seconds: float | None = None) -> list[Entry]:
    return [publisher.submit(message(f"m{number}"), seconds) for number in range(count)]


async def turn() -> None:
    """Let the event loop go round, as it does between two readings of sockets."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_lone_message_is_published_by_itself() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entry = publisher.submit(message("a"))
    await turn()
    assert bus.written == [("affiant.x", "inbox.1", {"Nats-Msg-Id": "a"}, b"{}")]
    assert not entry.durable.done()
    bus.reply(0)
    await entry.durable
    assert (publisher.count, publisher.size) == (0, 0)


async def test_many_messages_share_an_atomic_batch_that_is_opened_with_the_first() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    early = submit(publisher, 10)
    await turn()
    assert [headers["Nats-Batch-Sequence"] for _, _, headers, _ in bus.written] == ["1"]
    late = publisher.submit(message("late"))
    await turn()
    bus.reply(0, OPENED)
    headers = [headers for _, _, headers, _ in bus.written]
    assert [int(one["Nats-Batch-Sequence"]) for one in headers] == list(range(1, 12))
    assert len({one["Nats-Batch-Id"] for one in headers}) == 1
    assert ["Nats-Batch-Commit" in one for one in headers] == [False] * 10 + [True]
    assert [bool(reply) for _, reply, _, _ in bus.written] == [True] + [False] * 9 + [True]
    assert not any(entry.durable.done() for entry in [*early, late])
    bus.reply(-1)
    await asyncio.gather(*(entry.durable for entry in [*early, late]))


async def test_the_next_batch_is_opened_while_the_last_one_is_committed() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    submit(publisher, 10)
    await turn()
    bus.reply(0, OPENED)
    submit(publisher, 10)
    await turn()
    assert len(bus.written) == 11
    assert bus.written[10][2]["Nats-Batch-Id"] != bus.written[9][2]["Nats-Batch-Id"]


async def test_a_batch_that_has_stayed_alone_is_committed_without_another_message() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entries = submit(publisher, module.SMALLEST_BATCH)
    await turn()
    publisher._waiting.clear()
    bus.reply(0, OPENED)
    assert bus.written[1][2]["Nats-Batch-Commit"] == "eob"
    assert bus.written[1][3] == b""
    bus.reply(1)
    await entries[0].durable


async def test_a_refused_batch_is_sent_again_message_by_message() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entries = submit(publisher, 10)
    await turn()
    bus.reply(0, OPENED)
    bus.reply(9, DUPLICATE)
    await turn()
    assert bus.ids()[10:] == [f"m{number}" for number in range(10)]
    assert "Nats-Batch-Id" not in bus.written[10][2]
    for index in range(10, 20):
        bus.reply(index, b'{"stream":"P","seq":1,"duplicate":true}')
    await asyncio.gather(*(entry.durable for entry in entries))


async def test_a_stream_that_takes_no_batches_gets_single_messages_from_then_on() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    submit(publisher, 10)
    await turn()
    bus.reply(0, DISABLED)
    await turn()
    assert sorted(bus.ids()[1:]) == sorted(f"m{number}" for number in range(10))
    assert not any("Nats-Batch-Id" in headers for _, _, headers, _ in bus.written[1:])


async def test_a_server_that_does_not_know_batches_gets_single_messages_from_then_on() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entries = submit(publisher, 10)
    await turn()
    bus.reply(0)
    await turn()
    assert entries[0].durable.done()
    assert bus.ids()[1:] == [f"m{number}" for number in range(1, 10)]


@pytest.mark.parametrize("answer", [(FULL, ""), (b"", "503"), (b"nonsense", ""), (b"{}", "")])
async def test_a_message_that_the_stream_refuses_is_tried_again_and_its_reason_told(
    answer: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    bus = FakeBus()
    publisher = Publisher(bus)
    entry = publisher.submit(message("a"))
    await turn()
    bus.reply(0, *answer)
    assert publisher.trouble
    await asyncio.sleep(0.15)
    assert bus.ids() == ["a", "a"]
    bus.reply(1)
    await entry.durable
    assert publisher.trouble == ""


async def test_what_was_under_way_when_the_connection_broke_is_sent_again() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entries = submit(publisher, 10)
    await turn()
    bus.reply(0, OPENED)
    bus.lose()
    more = publisher.submit(message("more"))
    await turn()
    assert len(bus.written) == 10
    bus.come_back()
    await turn()
    bus.acknowledge(10)
    await asyncio.gather(*(entry.durable for entry in [*entries, more]))


async def test_a_missing_acknowledgement_is_doubted_and_the_message_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(module, "ACK_SECONDS", 0.01)
    bus = FakeBus()
    publisher = Publisher(bus)
    entry = publisher.submit(message("a"))
    while len(bus.written) < 2:
        await asyncio.sleep(0.001)
    assert bus.ids()[:2] == ["a", "a"]
    bus.reply(0)  # the first answer, too late: nobody waits for it any more
    assert not entry.durable.done()
    while not entry.durable.done():
        bus.reply(len(bus.written) - 1)
        await asyncio.sleep(0.001)


async def test_a_message_that_is_not_stored_in_time_goes_on_as_what_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    bus = FakeBus()
    publisher = Publisher(bus)
    bus.lose()
    entry = publisher.submit(message("a", b"answered"), 0.01)
    with pytest.raises(NotDurable, match="is lost"):
        await entry.durable
    entry.message = message("a", b"failed")
    assert publisher.count == 1
    bus.come_back()
    await turn()
    assert (bus.written[0][2]["Nats-Msg-Id"], bus.written[0][3]) == ("a", b"failed")
    bus.reply(0)
    assert publisher.count == 0


async def test_flush_waits_and_returns_what_is_left() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    assert await publisher.flush(0.01) == []
    submit(publisher, 8)
    await turn()
    bus.reply(0, OPENED)
    publisher.submit(message("late"))
    left = await publisher.flush(0.01)
    assert sorted(one.id for one in left) == sorted(["late", *(f"m{number}" for number in range(8))])
