"""Group commit: what is sent, and what is done about each answer."""

from __future__ import annotations

import asyncio

import pytest

from affiant.common.wire import Message
from affiant.modelserver import publisher as module
from affiant.modelserver.publisher import Entry, NotDurable, Publisher
from tests.unit.modelserver.fakes import FakeBus

pytestmark = pytest.mark.anyio

FULL = b'{"error":{"code":400,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"P","seq":0}'


def message(name: str, body: bytes = b"{}") -> Message:
    return Message("affiant.x", body, {"Nats-Msg-Id": name}, name)


def submit(publisher: Publisher, count: int, seconds: float | None = None) -> list[Entry]:
    return [publisher.submit(message(f"m{number}", b'{"n":%d}' % number), seconds) for number in range(count)]


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


async def test_events_of_one_turn_travel_in_one_message() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    entries = submit(publisher, 10)
    await turn()
    [(subject, _, headers, _)] = bus.written
    assert subject == "affiant.x"
    assert headers["content-type"] == "application/cloudevents-batch+json"
    assert bus.events(0) == [b'{"n":%d}' % number for number in range(10)]
    assert not any(entry.durable.done() for entry in entries)
    bus.reply(0)
    await asyncio.gather(*(entry.durable for entry in entries))


async def test_what_comes_while_a_message_is_on_its_way_collects_for_the_next() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    first = publisher.submit(message("a"))
    await turn()
    late = submit(publisher, 5)
    await turn()
    assert len(bus.written) == 1
    bus.reply(0)
    await turn()
    assert first.durable.done()
    assert len(bus.events(1)) == 5
    bus.reply(1)
    await asyncio.gather(*(entry.durable for entry in late))


async def test_a_slow_acknowledgement_does_not_hold_up_the_next_message() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    submit(publisher, 2)
    await turn()
    submit(publisher, 3)
    await asyncio.sleep(3 * module.PATIENCE_SECONDS)
    assert [len(bus.events(index)) for index in range(2)] == [2, 3]


async def test_a_message_holds_no_more_events_than_a_stream_takes_well() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    for number in range(3):
        publisher.submit(message(f"large{number}", b'"' + b"x" * 300_000 + b'"'))
    submit(publisher, 300)
    await turn()
    while publisher.count:
        bus.acknowledge(len(bus.written) - 1)
        await turn()
    assert max(len(body) for _, _, _, body in bus.written) < 600_000
    assert [len(bus.events(index)) for index in range(3)] == [1, 1, 200]
    assert sum(len(bus.events(index)) for index in range(len(bus.written))) == 303


async def test_events_of_two_subjects_never_share_a_message() -> None:
    bus = FakeBus()
    publisher = Publisher(bus)
    submit(publisher, 2)
    publisher.submit(Message("affiant.y", b"{}", {"Nats-Msg-Id": "other"}, "other"))
    await turn()
    bus.reply(0)
    await turn()
    assert [subject for subject, _, _, _ in bus.written] == ["affiant.x", "affiant.y"]


async def test_the_same_events_are_sent_again_under_the_same_message_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.001)
    bus = FakeBus()
    publisher = Publisher(bus)
    submit(publisher, 10)
    await turn()
    bus.reply(0, FULL)
    submit(publisher, 2)
    await asyncio.sleep(0.15)
    ids = bus.ids()
    assert ids.count(ids[0]) == 2
    assert bus.events(ids.index(ids[0], 1)) == bus.events(0)


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
    bus.lose()
    more = publisher.submit(message("more"))
    await turn()
    assert len(bus.written) == 1
    bus.come_back()
    await turn()
    assert bus.ids()[0] == bus.ids()[1]
    bus.acknowledge(1)
    await turn()
    bus.acknowledge(2)
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
    publisher.submit(message("late"))
    left = await publisher.flush(0.01)
    assert sorted(one.id for one in left) == sorted(["late", *(f"m{number}" for number in range(8))])
