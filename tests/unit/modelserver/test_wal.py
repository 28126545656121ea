"""The write-ahead file: nothing that was promised is lost, and a crash in the middle of a write is recognised."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from affiant.common.wire import Message
from affiant.modelserver import wal
from affiant.modelserver.buffer import Buffer
from affiant.modelserver.publisher import NotDurable, Publisher
from tests.unit.modelserver.fakes import FakeBus

pytestmark = pytest.mark.anyio


def message(name: str, body: bytes = b'{"a":"\\t\\n"}') -> Message:
    return Message("affiant.x.v1.loan", body, {"Nats-Msg-Id": name, "traceparent": "00-1"}, name)


def read_all(segment: wal.Segment, at_most: int = 1_000_000) -> list[Message]:
    found: list[Message] = []
    while part := segment.read(at_most):
        found += part
    return found


@pytest.mark.parametrize("at_most", [1, 100, 1_000_000])
def test_what_was_appended_is_read_again(tmp_path: Path, at_most: int) -> None:
    segment = wal.create(tmp_path / "a.wal")
    segment.append(wal.line(message("1")) + wal.line(message("2")))
    segment.append(wal.line(message("3")))
    assert read_all(segment, at_most) == [message("1"), message("2"), message("3")]


def test_a_segment_that_is_held_is_not_adopted_and_one_that_was_let_go_is(tmp_path: Path) -> None:
    segment = wal.create(tmp_path / "a.wal")
    segment.append(wal.line(message("1")))
    assert wal.adopt(tmp_path) == []
    segment.close()
    adopted = wal.adopt(tmp_path)
    assert [read_all(one) for one in adopted] == [[message("1")]]
    adopted[0].remove()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_crash_tore_is_left_out_and_counted(tmp_path: Path) -> None:
    segment = wal.create(tmp_path / "a.wal")
    segment.append(wal.line(message("1")))
    segment.close()
    with (tmp_path / "a.wal").open("ab") as file:
        file.write(wal.line(message("2"))[:-20])
    adopted = wal.adopt(tmp_path)[0]
    assert read_all(adopted) == [message("1")]
    assert adopted.damaged == 1


def test_a_damaged_line_does_not_take_the_others_along_and_its_file_is_kept(tmp_path: Path) -> None:
    segment = wal.create(tmp_path / "a.wal")
    segment.append(b"".join(wal.line(message(str(number))) for number in range(3)))
    segment.close()
    data = bytearray((tmp_path / "a.wal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.wal").write_bytes(data)
    adopted = wal.adopt(tmp_path)[0]
    assert read_all(adopted) == [message("0"), message("2")]
    adopted.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["a.damaged"]


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("*.wal"))


def make_buffer(folder: Path, bus: FakeBus) -> tuple[Buffer, Publisher]:
    publisher = Publisher(bus)
    return Buffer(folder, "one", publisher), publisher


async def test_a_message_is_on_the_disk_before_append_returns(tmp_path: Path) -> None:
    bus = FakeBus()
    bus.lose()
    buffer, _ = make_buffer(tmp_path, bus)
    await asyncio.gather(*(buffer.append(message(str(number))) for number in range(50)))
    lines = contents(tmp_path).splitlines()
    assert {one.id for line in lines if (one := wal.parse(line))} == {str(number) for number in range(50)}
    assert buffer.messages == 50
    buffer.close()


async def acknowledge(bus: FakeBus) -> None:
    done = 0
    while True:
        bus.acknowledge(done)
        done = len(bus.written)
        await asyncio.sleep(0.001)


async def test_the_file_is_carried_to_the_bus_and_then_removed(tmp_path: Path) -> None:
    bus = FakeBus()
    buffer, publisher = make_buffer(tmp_path, bus)
    work = [asyncio.create_task(buffer.run()), asyncio.create_task(acknowledge(bus))]
    for _ in range(20):  # while it is carried away more comes in
        await asyncio.gather(*(buffer.append(message(str(number), b'"%d"' % number)) for number in range(50)))
    assert await buffer.flush(5)
    carried = [event for index in range(len(bus.written)) for event in bus.events(index)]
    assert carried.count(b'"49"') == 20
    assert len(carried) == 1000
    assert (publisher.count, buffer.messages, contents(tmp_path)) == (0, 0, b"")
    for task in work:
        task.cancel()
    buffer.close()


async def test_the_next_process_publishes_what_a_dead_one_left(tmp_path: Path) -> None:
    dead = FakeBus()
    dead.lose()
    first, _ = make_buffer(tmp_path, dead)
    await first.append(message("left"))
    first.spill([message("spilt")])
    first.close()
    bus = FakeBus()
    publisher = Publisher(bus)
    second = Buffer(tmp_path, "two", publisher)
    work = [asyncio.create_task(second.run()), asyncio.create_task(acknowledge(bus))]
    while contents(tmp_path):
        await asyncio.sleep(0.005)
    assert set(bus.ids()) == {"left", "spilt"}
    for task in work:
        task.cancel()
    second.close()


async def test_a_disk_that_does_not_write_is_told_and_the_next_write_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = FakeBus()
    bus.lose()
    buffer, _ = make_buffer(tmp_path, bus)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(NotDurable, match="No space left"):
            await buffer.append(message("lost"))
    await buffer.append(message("kept"))
    assert contents(tmp_path) == wal.line(message("kept"))
    buffer.close()
