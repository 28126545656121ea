"""History as of a time, completeness by day, and the look-up tables rebuilt from the entries alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from affiant.auditor.actions.rebuild import Rebuilder
from affiant.auditor.domain import completeness
from affiant.auditor.domain.completeness import Ending
from affiant.auditor.domain.sequences import Run
from affiant.auditor.store import restoring
from affiant.common import bus, wire
from affiant.common.errors import NotFound, Problem
from affiant.common.events import (
    Event,
    GapClosed,
    GapFound,
    ModelArchived,
    ModelDeployed,
    ModelPromoted,
    ModelUndeployed,
    ReplicaEnded,
)
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened
from tests.unit.auditor.test_testimony import outcome, override, telling

pytestmark = pytest.mark.anyio

MONDAY, TUESDAY, WEDNESDAY = "2026-11-23", "2026-11-24", "2026-11-25"


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


async def told(auditor: Auditor, *events: Event) -> None:
    """Record events of registry, deployer and model server as they come off the bus."""
    durables = {"registry": bus.AUDITOR_MODELS, "deployer": bus.AUDITOR_MODELS, "modelserver": bus.AUDITOR_PREDICTIONS}
    messages = [(wire.encode(event, owner=event.owner), durables[event.owner]) for event in events]
    arrivals = [examples.raw(one.subject, one.body, one.headers, durable) for one, durable in messages]
    assert (await auditor.writer.record(arrivals)).faults == []


def promoted(version: int, at: str, alias: str = "champion", by: str = "ben", **more: object) -> ModelPromoted:
    spec = examples.spec(version)
    return ModelPromoted(
        model="loans",
        version=version,
        alias=alias,
        spec=spec,
        approved_by=by,
        promoted_at=at,
        **more,  # type: ignore[arg-type]
    )


def deployed(version: int, at: str, replica: str, alias: str = "champion") -> ModelDeployed:
    return ModelDeployed(
        model="loans",
        version=version,
        digest=examples.spec(version).digest,
        alias=alias,
        url="http://127.0.0.1:1",
        backend="local",
        replicas=[replica],
        seconds=1.0,
        deployed_at=at,
    )


def ended(replica: str, last: int) -> ReplicaEnded:
    return ReplicaEnded(
        model="loans",
        version=1,
        digest="",
        replica=replica,
        epoch=1,
        last_sequence=last,
        ended_at=f"{TUESDAY}T18:00:00Z",
    )


# --- history --------------------------------------------------------------------------------------------------


async def test_what_stood_at_a_moment_is_told_from_the_events_up_to_it(auditor: Auditor) -> None:
    first = changed(examples.registered(1), registered_at=f"{MONDAY}T09:00:00.000000Z")
    second = changed(examples.registered(2), registered_at=f"{TUESDAY}T09:00:00.000000Z")
    await told(auditor, first, promoted(1, f"{MONDAY}T10:00:00.000000Z", reason="checked"))
    await told(auditor, deployed(1, f"{MONDAY}T10:00:05.000000Z", "r1"), second)
    await told(
        auditor, promoted(2, f"{TUESDAY}T14:03:00.000000Z", by="eve"), deployed(2, f"{TUESDAY}T14:04:00.000000Z", "r2")
    )

    before = await auditor.lookup.history("loans", f"{TUESDAY}T14:02:59Z")
    assert [(one.version, one.approved_by, one.reason, one.entry) for one in before.aliases] == [
        (1, "ben", "checked", 1)
    ]
    assert [(one.version, one.replicas) for one in before.deployments] == [(1, ["r1"])]
    assert [one.version for one in before.versions] == [1, 2]
    at = await auditor.lookup.history("loans", f"{TUESDAY}T15:03:00+01:00")
    assert [(one.version, one.approved_by) for one in at.aliases] == [(2, "eve")]
    assert [one.version for one in at.deployments] == [1]
    assert (await auditor.lookup.history("loans", f"{MONDAY}T08:00:00Z")).versions == []


async def test_events_that_come_out_of_order_are_told_in_the_order_of_what_they_tell_of(auditor: Auditor) -> None:
    await told(auditor, promoted(2, f"{TUESDAY}T10:00:00.000000Z"), promoted(1, f"{MONDAY}T10:00:00.000000Z"))
    assert [one.version for one in (await auditor.lookup.history("loans", None)).aliases] == [2]


async def test_archiving_takes_aliases_away_and_undeploying_what_answered(auditor: Auditor) -> None:
    at = f"{TUESDAY}T10:00:00.000000Z"
    await told(auditor, examples.registered(1), promoted(1, at), deployed(1, at, "r1"))
    gone = f"{TUESDAY}T11:00:00.000000Z"
    archived = ModelArchived(
        model="loans", version=1, digest="", by="ben", archived_at=gone, removed_aliases=["champion"]
    )
    undeployed = ModelUndeployed(model="loans", version=1, digest="", alias="champion", undeployed_at=gone)
    await told(auditor, changed(archived, archived_at="2099-01-01T00:00:00.000000Z"), undeployed)
    now = await auditor.lookup.history("loans", None)
    assert (now.aliases, now.deployments, now.versions[0].state) == ([], [], "archived")
    assert [one.alias for one in (await auditor.lookup.history("loans", gone)).aliases] == ["champion"]


async def test_a_replaced_version_that_is_undeployed_late_takes_nothing_away(auditor: Auditor) -> None:
    await told(auditor, deployed(1, f"{MONDAY}T10:00:00Z", "r1"), deployed(2, f"{MONDAY}T11:00:00Z", "r2"))
    late = ModelUndeployed(model="loans", version=1, digest="", alias="champion", undeployed_at=f"{MONDAY}T12:00:00Z")
    await told(auditor, late)
    assert [one.version for one in (await auditor.lookup.history("loans", None)).deployments] == [2]


async def test_a_model_that_nobody_told_of_has_no_history(auditor: Auditor) -> None:
    with pytest.raises(NotFound, match="no model nothing"):
        await auditor.lookup.history("nothing", None)


# --- completeness ---------------------------------------------------------------------------------------------


async def test_a_tail_that_was_cut_off_is_found_by_what_the_replica_said_at_its_end(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction(1), examples.prediction(2))
    await told(auditor, ended("r1", 4), ended("r9", 0))
    found = await auditor.lookup.completeness("loans")
    lines = {line.replica: line for line in found.replicas}
    assert [(gap.first, gap.last) for gap in lines["r1"].missing] == [(3, 4)]
    assert (lines["r1"].drawn, lines["r1"].end, lines["r9"].drawn, lines["r9"].received) == (4, "ended", 0, 0)
    assert (found.served, found.received, found.missing, found.complete) == (4, 2, 2, False)
    assert (await auditor.lookup.summary("loans")).missing == 2


async def test_a_replica_that_died_without_a_word_has_an_open_end(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction(1), examples.prediction(1, replica="r2"))
    await told(auditor, deployed(1, f"{MONDAY}T10:00:00Z", "r2"))
    found = await auditor.lookup.completeness("loans")
    assert {line.replica: line.end for line in found.replicas} == {"r1": "open", "r2": "serving"}
    assert (found.open_ends, found.complete) == (1, True)


async def test_gaps_of_a_cut_tail_are_published_and_closed_when_they_arrive_late(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction(1))
    await told(auditor, ended("r1", 3))
    later = datetime.now(UTC) + timedelta(seconds=auditor.settings.gap_grace_seconds + 1)
    await auditor.watch.look(later)
    await auditor.keep(examples.prediction(2), examples.prediction(3))
    await auditor.watch.look(later)
    await auditor.watch.look(later)
    (found,), (closed,) = await auditor.published(GapFound), await auditor.published(GapClosed)
    assert isinstance(found, GapFound) and isinstance(closed, GapClosed)
    assert (found.missing, closed.arrived) == ([(2, 3)], [(2, 3)])


@pytest.mark.parametrize("table", ["predictions", "entries"])
async def test_a_row_that_is_deleted_by_hand_is_named(auditor: Auditor, table: str) -> None:
    await auditor.keep(
        *[examples.prediction(number, received_at=f"{MONDAY}T10:00:0{number}Z") for number in range(1, 6)]
    )
    await auditor.writer.write(lambda connection: connection.execute(f"DELETE FROM {table} WHERE idx = 2"))
    for day in (None, MONDAY):
        found = await auditor.lookup.completeness("loans", day)
        (line,) = found.replicas
        assert [(gap.first, gap.last) for gap in line.removed] == [(3, 3)]
        assert (found.served, found.received, found.removed, found.missing, found.complete) == (5, 4, 1, 0, False)


async def test_the_days_add_up_to_the_whole(auditor: Auditor) -> None:
    numbers = {MONDAY: [1, 2, 5], TUESDAY: [8, 9], WEDNESDAY: [10, 12]}
    events = [
        examples.prediction(n, received_at=f"{day}T1{n % 10}:00:00Z") for day, some in numbers.items() for n in some
    ]
    await auditor.keep(*events)
    whole = await auditor.lookup.completeness("loans")
    days = {day: await auditor.lookup.completeness("loans", day) for day in numbers}
    assert {day: (one.served, one.received, one.missing) for day, one in days.items()} == {
        MONDAY: (5, 3, 2),
        TUESDAY: (4, 2, 2),
        WEDNESDAY: (3, 2, 1),
    }
    assert sum(one.served for one in days.values()) == whole.served == 12
    assert (await auditor.lookup.completeness("loans", "2026-11-26")).replicas == []
    with pytest.raises(Problem, match="is no day"):
        await auditor.lookup.completeness("loans", "yesterday")


def test_the_last_number_of_a_day_that_is_removed_belongs_to_the_next_day_that_has_one() -> None:
    runs, present = [Run(1, 6, "")], [Run(1, 2, ""), Run(5, 6, "")]
    (hole,) = completeness.holes(runs, present, None)
    assert hole.removed == ((3, 4),)
    assert not completeness.belongs(hole, completeness.Span(1, 2, 2), MONDAY, present, None)
    assert completeness.belongs(hole, completeness.Span(5, 6, 2), TUESDAY, present, None)


def test_a_hole_may_be_partly_missing_and_partly_removed() -> None:
    (hole,) = completeness.holes([Run(1, 3, "a"), Run(6, 6, "b")], [Run(1, 2, "")], Ending(8, "c"))
    assert [(gap.first, gap.last, gap.since) for gap in hole.missing] == [(4, 5, "b"), (7, 8, "c")]
    assert hole.removed == ((3, 3), (6, 6))


def test_ranges_are_taken_from_ranges() -> None:
    assert completeness.minus([(1, 10)], [(2, 3), (5, 5), (10, 12)]) == [(1, 1), (4, 4), (6, 9)]
    assert completeness.minus([(1, 2)], []) == [(1, 2)]
    assert completeness.minus([(3, 4)], [(1, 9)]) == []


# --- rebuild --------------------------------------------------------------------------------------------------


async def a_whole_story(auditor: Auditor) -> None:
    """Everything that there is a table for, some of it out of order."""
    early = examples.prediction(1, adverse=True)
    await auditor.keep(early, examples.prediction(4), examples.prediction(2, undecided=True))
    await told(auditor, examples.registered(1), promoted(1, f"{MONDAY}T10:00:00Z"), ended("r1", 6))
    await auditor.keep(examples.prediction(6), examples.explained(early.prediction_id))
    await auditor.keep(examples.explanation_failed(early.prediction_id), examples.prediction(1, replica="r2"))
    depositions, _ = telling(auditor)
    await depositions.tell([outcome(early.prediction_id), outcome(early.prediction_id, "no")])
    await depositions.tell([override(early.prediction_id)])
    unknown = examples.raw(
        "affiant.registry.model_painted.v1",
        b'{"specversion":"1.0","id":"x","source":"s","type":"affiant.registry.model_painted.v1","data":{}}',
        {"content-type": wire.CONTENT_TYPE},
        bus.AUDITOR_MODELS,
    )
    await auditor.writer.record([unknown])
    await auditor.measure.fill()


async def test_the_tables_are_rebuilt_from_the_entries_to_the_same_state(auditor: Auditor) -> None:
    await a_whole_story(auditor)
    done = await Rebuilder(auditor.writer).rebuild()
    assert (done.same, done.erased, done.entries) == (True, 0, 14)


async def test_wiped_tables_come_back_as_they_were(auditor: Auditor) -> None:
    await a_whole_story(auditor)
    before = await auditor.lookup.ask(restoring.digest)
    await auditor.writer.write(restoring.wipe)
    assert await auditor.lookup.ask(restoring.digest) != before
    done = await Rebuilder(auditor.writer).rebuild()
    assert (done.same, done.after) == (False, before)


@pytest.mark.parametrize("table", [*restoring.BY_ENTRY, *restoring.ADDED_UP])
async def test_a_row_of_any_table_is_part_of_the_digest(auditor: Auditor, table: str) -> None:
    await a_whole_story(auditor)
    before = await auditor.lookup.ask(restoring.digest)
    await auditor.writer.write(lambda connection: connection.execute(f"DELETE FROM {table}"))
    assert await auditor.lookup.ask(restoring.digest) != before


async def test_nothing_is_rebuilt_from_an_entry_that_was_altered(auditor: Auditor) -> None:
    await a_whole_story(auditor)
    await auditor.writer.write(lambda connection: connection.execute("UPDATE entries SET source = 'x' WHERE idx = 3"))
    before = await auditor.lookup.ask(restoring.digest)
    with pytest.raises(Problem, match="entry 3 of the log was altered"):
        await Rebuilder(auditor.writer).rebuild()
    assert await auditor.lookup.ask(restoring.digest) == before
