"""Who was shown a payload is in the log: noted before it is answered, published together, found by prediction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from nats.errors import Error as NatsError

from affiant.auditor.actions.reads import EVENT_READS, OPEN, Reads, batches
from affiant.common.errors import NotFound
from affiant.common.events import PayloadRead, PayloadsRead
from affiant.common.wire import decode
from tests.unit.auditor import examples
from tests.unit.auditor.exported import Door, export, recorded
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path / "kept")
    yield auditor
    auditor.writer.close()


class Bus:
    """Takes what is published, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.messages: list[Any] = []

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        if self.away:
            raise NatsError("away")
        self.messages.append(SimpleNamespace(subject=subject, body=body, headers=headers))

    @property
    def events(self) -> list[PayloadsRead]:
        found = [decode(one.subject, one.body, one.headers).event for one in self.messages]
        return [event for event in found if isinstance(event, PayloadsRead)]


async def published(reads: Reads, bus: Bus) -> list[PayloadsRead]:
    """One round of `Reads.run`."""
    taken: Any = bus
    with anyio.move_on_after(0.2):
        await reads.run(taken)
    return bus.events


async def kept(auditor: Auditor, bus: Bus) -> None:
    """What is on the bus comes back into the log."""
    for one in bus.messages:
        await auditor.writer.record([examples.raw(one.subject, one.body, one.headers)])
    bus.messages.clear()


def folder(auditor: Auditor) -> Path:
    return Path(auditor.settings.data_dir) / "reads"


async def test_whoever_is_shown_a_payload_is_noted_before_and_found_after(auditor: Auditor) -> None:
    ids = await recorded(auditor, 5)
    iris, ana, bus = Door(auditor, "iris"), Door(auditor, "ana"), Bus()
    assert iris.request("GET", f"/v1/predictions/{ids[2]}").status_code == 200
    assert b'"how":"record"' in (folder(auditor) / OPEN).read_bytes()
    assert ana.request("GET", f"/v1/predictions/{ids[2]}/proof").status_code == 200
    await published(iris.reads, bus)
    await kept(auditor, bus)
    found = iris.get("", f"/v1/predictions/{ids[2]}/reads")["reads"]
    assert [(line["by"], line["how"], line["index"]) for line in found] == [("ana", "proof", 5), ("iris", "record", 5)]
    assert iris.get("", f"/v1/predictions/{ids[3]}/reads")["reads"] == []


async def test_lists_and_figures_show_no_payload_and_are_not_noted(auditor: Auditor) -> None:
    await recorded(auditor, 5)
    door = Door(auditor)
    for path in ("/v1/predictions", "/v1/summary", "/checkpoint", "/tile/entries/000.p/5", "/v1/predictions/x"):
        door.request("GET", path)
    assert not (folder(auditor) / OPEN).exists()


async def test_an_export_is_one_read_of_a_range_and_is_found_by_each_prediction_in_it(
    auditor: Auditor, tmp_path: Path
) -> None:
    ids = await recorded(auditor, 600)
    door, bus = Door(auditor), Bus()
    export(door, auditor, tmp_path / "part", 100, 600)
    (event,) = await published(door.reads, bus)
    assert [(read.how, read.first, read.last) for read in event.reads] == [("export", 100, 600)]
    await kept(auditor, bus)
    assert [line.how for line in (await door.reads.of(ids[100])).reads] == ["export"]
    assert (await door.reads.of(ids[99])).reads == []


async def test_reads_wait_while_the_bus_is_away_and_survive_the_process(auditor: Auditor) -> None:
    bus = Bus()
    reads = Reads(auditor.lookup, folder(auditor))
    reads.note("iris", "record", "p1")
    bus.away = True
    await published(reads, bus)
    reads.note("iris", "record", "p2")
    bus.away = False
    another = Reads(auditor.lookup, folder(auditor))
    await published(another, bus)
    assert [read.prediction_id for event in bus.events for read in event.reads] == ["p1", "p2"]
    assert list(folder(auditor).iterdir()) == []


async def test_what_is_published_again_after_a_crash_has_the_same_id(auditor: Auditor) -> None:
    await recorded(auditor, 1)
    bus, reads = Bus(), Reads(auditor.lookup, folder(auditor))
    reads.note("iris", "record", "p1")
    reads._closed()
    (left,) = folder(auditor).glob("*.jsonl")
    copy = left.read_bytes()
    await published(reads, bus)
    left.write_bytes(copy)
    await published(Reads(auditor.lookup, folder(auditor)), bus)
    assert len({one.headers["Nats-Msg-Id"] for one in bus.messages}) == 1
    size = (await auditor.lookup.summary(None)).size
    await kept(auditor, bus)
    assert (await auditor.lookup.summary(None)).size == size + 1


async def test_a_line_that_was_cut_off_spoils_nothing_but_itself(auditor: Auditor) -> None:
    bus, reads = Bus(), Reads(auditor.lookup, folder(auditor))
    reads.note("iris", "record", "p1")
    with (folder(auditor) / OPEN).open("ab") as file:
        file.write(b'{"by":"ir')
    (event,) = await published(reads, bus)
    assert [read.prediction_id for read in event.reads] == ["p1"]


async def test_nothing_is_shown_where_it_cannot_be_noted(auditor: Auditor) -> None:
    ids = await recorded(auditor, 1)
    folder(auditor).write_text("in the way")
    answer = Door(auditor).request("GET", f"/v1/predictions/{ids[0]}")
    assert answer.status_code == 503
    assert "who reads payloads is noted" in answer.json()["error"]


def test_many_reads_are_several_events() -> None:
    noted = [PayloadRead(by="iris", at="", how="record", prediction_id=f"p{n}") for n in range(EVENT_READS + 1)]
    assert [len(event.reads) for event in batches(noted)] == [EVENT_READS, 1]
    assert batches([]) == []


async def test_reads_of_a_prediction_that_is_not_on_record_are_not_found(auditor: Auditor) -> None:
    with pytest.raises(NotFound):
        await Reads(auditor.lookup, folder(auditor)).of("p-9")
