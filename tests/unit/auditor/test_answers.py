"""What the auditor answers, without a bus: look-ups, proofs, fairness, what it publishes by itself."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from affiant.auditor.actions.checkpoints import Checkpoints
from affiant.auditor.actions.columns import Columns
from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.measure import Measure
from affiant.auditor.actions.prove import Prover
from affiant.auditor.actions.watch import Watch
from affiant.auditor.actions.writer import Writer
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import outbox
from affiant.auditor.store.database import Database
from affiant.auditor.store.queries import Filter
from affiant.common.errors import NotFound, Problem
from affiant.common.events import CheckpointSigned, Event, GapClosed, GapFound, MetricBreached
from affiant.common.wire import decode
from tests.unit.auditor import examples, stores, verifier

pytestmark = pytest.mark.anyio


@dataclass
class Auditor:
    """The auditor's actions around one store."""

    settings: AuditorSettings
    database: Database
    writer: Writer
    columns: Columns
    lookup: Lookup
    measure: Measure
    signing: Checkpoints
    prover: Prover
    watch: Watch

    async def keep(self, *events: Event) -> None:
        outcome = await self.writer.record([examples.arrival(event) for event in events])  # type: ignore[arg-type]
        assert outcome.kept == len(events)

    async def published(self, kind: type[Event]) -> Sequence[Event]:
        waiting = await self.lookup.ask(lambda connection: outbox.waiting(connection, 1_000))
        events = [decode(one.subject, one.body, one.headers).event for one in waiting]
        return [event for event in events if isinstance(event, kind)]


def make(folder: Path, **settings: object) -> Auditor:
    chosen = AuditorSettings(data_dir=str(folder / "auditor"), witness_dir=str(folder / "witness"), **settings)  # type: ignore[arg-type]
    database = stores.at(folder / "auditor")
    writer, columns = Writer(database), Columns(database, folder / "auditor" / "segments")
    lookup = Lookup(database, columns)
    measure, signing = Measure(lookup, writer), Checkpoints(writer, chosen)
    watch = Watch(lookup, writer, measure, chosen)
    return Auditor(chosen, database, writer, columns, lookup, measure, signing, Prover(lookup, signing), watch)


async def opened(folder: Path, **settings: object) -> Auditor:
    auditor = make(folder, **settings)
    await auditor.writer.open()
    await auditor.signing.open()
    auditor.columns.open()
    return auditor


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


async def test_a_prediction_is_found_with_its_explanation_its_lineage_and_a_proof(auditor: Auditor) -> None:
    event = examples.prediction(1, adverse=True)
    await auditor.keep(examples.registered(1), examples.registered(2), event, examples.explained(event.prediction_id))
    view = await auditor.prover.prediction(event.prediction_id)
    assert view.record == msgspec.to_builtins(event)
    assert (view.index, view.event_id, view.source) == (2, event.prediction_id, "affiant://modelserver")
    assert [line.event["prediction_id"] for line in view.explanations if line.event] == [event.prediction_id]
    assert [line.event["version"] for line in view.lineage if line.event] == [1]


async def test_a_proof_verifies_from_the_payload_up_to_the_signature(auditor: Auditor) -> None:
    events = [examples.prediction(number) for number in range(1, 12)]
    await auditor.keep(*events)
    proof = await auditor.prover.proof(events[4].prediction_id)
    assert proof.salt is not None and proof.payload is not None
    payload = base64.b64decode(proof.payload)
    leaf = json.loads(proof.leaf)
    assert leaf["payload"] == sha256(bytes.fromhex(proof.salt) + payload).hexdigest()
    assert json.loads(payload)["data"]["sequence"] == 5
    _, size, root = verifier.opened(proof.checkpoint, proof.verifier_key)
    path = [bytes.fromhex(step) for step in proof.path]
    assert verifier.included(verifier.leaf(proof.leaf.encode()), proof.index, size, path, root)


async def test_a_prediction_is_found_by_the_callers_own_id_and_by_whom_it_is_about(auditor: Auditor) -> None:
    await auditor.keep(
        examples.prediction(1, request_id="r-1", subject_ref="ann"),
        examples.prediction(2, request_id="r-2", subject_ref="ann"),
        examples.prediction(3),
    )

    async def numbers(wanted: Filter) -> list[int]:
        return [line.sequence for line in (await auditor.lookup.predictions(wanted, 10, None)).predictions]

    assert await numbers(Filter(request_id="r-1")) == [1]
    assert await numbers(Filter(subject_ref="ann")) == [2, 1]
    assert await numbers(Filter(request_id="")) == []


async def test_an_id_that_nobody_logged_is_not_found(auditor: Auditor) -> None:
    await auditor.keep(examples.explained("p1"))
    with pytest.raises(NotFound, match="no prediction p1"):
        await auditor.prover.prediction("p1")


async def test_pages_follow_one_another_without_a_gap_or_a_repetition(auditor: Auditor) -> None:
    events = [examples.prediction(number, received_at="2026-11-23T12:00:00Z") for number in range(1, 24)]
    await auditor.keep(*events)
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await auditor.lookup.predictions(Filter(), 5, cursor)
        seen += [line.sequence for line in page.predictions]
        cursor = page.next
        if cursor is None:
            break
    assert seen == list(range(23, 0, -1))


async def test_filters_choose_predictions(auditor: Auditor) -> None:
    await auditor.keep(
        examples.prediction(1, received_at="2026-11-23T10:00:00+01:00"),
        examples.prediction(2, received_at="2026-11-23T10:00:00Z", adverse=True),
        examples.prediction(3, received_at="2026-11-24T10:00:00Z", version=2),
        examples.prediction(4, received_at="2026-11-25T10:00:00Z", undecided=True),
        examples.prediction(5, received_at="2026-11-26T10:00:00Z", version=None),
    )

    async def found(**wanted: object) -> list[int]:
        page = await auditor.lookup.predictions(Filter(**wanted), 10, None)  # type: ignore[arg-type]
        return [line.sequence for line in page.predictions]

    assert await found() == [5, 4, 3, 2, 1]
    assert await found(model="loans", adverse=True) == [2]
    assert await found(adverse=False) == [5, 3, 1]
    assert await found(status="failed") == [4]
    assert await found(version=2) == [3]
    assert await found(since="2026-11-23T09:30:00Z", until="2026-11-24T10:00:00Z") == [2]
    assert await found(model="others") == []
    with pytest.raises(Problem, match="not a time"):
        await found(since="yesterday")
    with pytest.raises(Problem, match="cursor"):
        await auditor.lookup.predictions(Filter(), 10, "nonsense")


async def test_a_line_tells_the_decision(auditor: Auditor) -> None:
    event = examples.prediction(adverse=True, version=None)
    await auditor.keep(event, examples.explained(event.prediction_id), examples.explained(event.prediction_id))
    (line,) = (await auditor.lookup.predictions(Filter(), 10, None)).predictions
    assert (line.labels, line.scores, line.adverse_rows, line.explained_rows) == (["no"], [0.2], 1, 1)
    assert line.version is None


async def test_the_summary_counts_what_there_is(auditor: Auditor) -> None:
    first, second = examples.prediction(1, adverse=True), examples.prediction(4, version=2)
    failed = examples.prediction(5, undecided=True)
    await auditor.keep(first, second, failed)
    await auditor.keep(examples.explanation_failed(first.prediction_id), examples.explained(first.prediction_id))
    await auditor.keep(examples.explained(first.prediction_id), examples.explanation_failed(second.prediction_id))
    summary = await auditor.lookup.summary("loans")
    assert (summary.predictions, summary.answered, summary.failed) == (3, 2, 1)
    assert (summary.rows, summary.adverse_rows) == (2, 1)
    assert (summary.explained, summary.explanation_failed) == (1, 1)
    assert (summary.missing, summary.size, summary.versions) == (2, 7, {"1": 2, "2": 1})
    assert (await auditor.lookup.summary("others")).predictions == 0


async def test_how_an_outside_system_numbers_is_no_statement_about_our_model_servers(auditor: Auditor) -> None:
    ours, theirs = examples.arrival(examples.prediction(1)), examples.arrival(examples.prediction(9_000))
    subject = "affiant.outside.prediction_logged.v1"
    body = json.dumps(json.loads(theirs.body) | {"type": subject, "source": "urn:bank"}).encode()
    await auditor.writer.record([ours, replace(theirs, subject=f"{subject}.loans", body=body)])
    assert (await auditor.lookup.summary("loans")).missing == 0
    found = await auditor.lookup.completeness("loans")
    assert found.missing == 0
    assert {line.replica: len(line.missing) for line in found.replicas} == {"r1": 0, "outside:r1": 1}


async def test_an_empty_log_can_be_asked_too(auditor: Auditor) -> None:
    summary = await auditor.lookup.summary(None)
    assert (summary.predictions, summary.size, summary.root) == (0, 0, sha256(b"").hexdigest())
    assert (await auditor.lookup.completeness(None)).replicas == []
    with pytest.raises(NotFound, match="empty"):
        await auditor.prover.checkpoint()


async def test_completeness_names_the_missing_numbers(auditor: Auditor) -> None:
    await auditor.keep(*[examples.prediction(number) for number in (2, 3, 7)])
    found = await auditor.lookup.completeness("loans")
    (line,) = found.replicas
    assert (line.replica, line.epoch, line.first, line.last, line.received) == ("r1", 1, 2, 7, 3)
    assert [(gap.first, gap.last) for gap in line.missing] == [(1, 1), (4, 6)]
    assert found.missing == 4


async def test_numbers_near_the_end_of_all_numbers_can_be_added_up(auditor: Auditor) -> None:
    await auditor.keep(*[examples.prediction(2**63 - 1, epoch=epoch) for epoch in (1, 2)])
    assert (await auditor.lookup.summary("loans")).missing == 2 * (2**63 - 2)
    assert (await auditor.lookup.completeness("loans")).missing == 2 * (2**63 - 2)


async def test_fairness_compares_groups_of_context_and_of_inputs(auditor: Auditor) -> None:
    applications = [("white", 30.0, 8, 2), ("black", 60.0, 3, 3)]
    for race, age, approved, denied in applications:
        events = [
            examples.prediction(race=race, age=age, adverse=number < denied) for number in range(approved + denied)
        ]
        await auditor.keep(*events)
    # The registration comes last: what it says is protected is found all the same.
    await auditor.keep(examples.registered())
    by_race = await auditor.measure.fairness("loans", "race", None, None, None, None)
    assert (by_race.favourable, by_race.reference, by_race.rows) == ("yes", "white", 16)
    assert by_race.comparisons[0].statistical_parity_difference == pytest.approx(-0.3)
    assert by_race.comparisons[0].disparate_impact_ratio == pytest.approx(0.625)
    by_age = await auditor.measure.fairness("loans", "age", None, None, 1, "60")
    assert [(group.value, group.rows) for group in by_age.groups] == [("30", 10), ("60", 6)]
    assert by_age.reference_rule == "asked for"


async def test_fairness_says_which_columns_there_are(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction())
    with pytest.raises(NotFound) as problem:
        await auditor.measure.fairness("loans", "shoe_size", None, None, None, None)
    assert problem.value.hint == "recorded columns: race"
    with pytest.raises(NotFound, match="no group 'green'"):
        await auditor.measure.fairness("loans", "race", None, None, None, "green")


async def test_a_checkpoint_is_signed_when_the_log_has_grown_and_only_then(auditor: Auditor, tmp_path: Path) -> None:
    assert await auditor.signing.sign() is None
    for _ in range(2):
        await auditor.keep(examples.prediction())
        assert await auditor.signing.sign() == await auditor.signing.sign()
    published = await auditor.published(CheckpointSigned)
    assert [event.size for event in published if isinstance(event, CheckpointSigned)] == [1, 2]
    newest, notes = witnessed(tmp_path / "witness")
    assert newest == await auditor.prover.checkpoint()
    assert [verifier.opened(note, auditor.signing.verifier_key)[1] for note in notes] == [1, 2]


async def test_a_witness_folder_that_is_away_is_told_and_caught_up_with(auditor: Auditor, tmp_path: Path) -> None:
    (tmp_path / "witness").write_text("in the way")
    event = examples.prediction()
    await auditor.keep(event)
    assert (await auditor.prover.proof(event.prediction_id)).size == 1
    assert "cannot be written" in auditor.signing.unwitnessed
    (tmp_path / "witness").unlink()
    await auditor.keep(examples.prediction())
    await auditor.signing.sign()
    assert auditor.signing.unwitnessed == ""
    assert len(witnessed(tmp_path / "witness")[1]) == 2


def witnessed(folder: Path) -> tuple[str, list[str]]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return (folder / "checkpoint").read_text(), [json.loads(line)["note"] for line in lines]


async def test_the_log_keeps_its_name_and_key_across_restarts(auditor: Auditor, tmp_path: Path) -> None:
    auditor.writer.close()
    again = await opened(tmp_path)
    assert again.signing.verifier_key == auditor.signing.verifier_key
    assert (tmp_path / "auditor" / "log.vkey").read_text().strip() == auditor.signing.verifier_key
    again.writer.close()
    (tmp_path / "auditor" / "log.key").unlink()
    for settings in ({}, {"log_origin": "example.com/other"}):
        without_key = make(tmp_path, **settings)
        await without_key.writer.open()
        with pytest.raises(Problem, match="is gone"):
            await without_key.signing.open()
        without_key.writer.close()


async def test_a_rewritten_log_signs_nothing(auditor: Auditor, tmp_path: Path) -> None:
    await auditor.keep(examples.prediction(), examples.prediction())
    await auditor.signing.sign()
    await auditor.writer.write(lambda connection: connection.execute("UPDATE tiles SET hashes = ?", (bytes(64),)))
    auditor.writer.close()
    again = await opened(tmp_path)
    assert "rewritten" in again.signing.fault
    again.writer.close()


async def test_a_gap_is_published_once_after_its_grace_and_closed_as_its_numbers_arrive(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction(1), examples.prediction(4))
    now = datetime.now(UTC)
    await auditor.watch.look(now)
    assert await auditor.published(GapFound) == []
    later = now + timedelta(seconds=auditor.settings.gap_grace_seconds + 1)
    await auditor.watch.look(later)
    await auditor.watch.look(later)
    await auditor.keep(examples.prediction(2))
    await auditor.watch.look(later)
    await auditor.keep(examples.prediction(3))
    await auditor.watch.look(later)
    found = await auditor.published(GapFound)
    assert [event.missing for event in found if isinstance(event, GapFound)] == [[(2, 3)]]
    closed = await auditor.published(GapClosed)
    assert [event.arrived for event in closed if isinstance(event, GapClosed)] == [[(2, 2)], [(3, 3)]]
    assert (await auditor.lookup.summary(None)).missing == 0


async def test_unequal_approval_is_published_once_a_day(auditor: Auditor) -> None:
    for race, denied in (("white", 5), ("black", 25)):
        await auditor.keep(*[examples.prediction(race=race, adverse=number < denied) for number in range(50)])
    now = datetime.now(UTC)
    for moment in (now, now, now + timedelta(days=1)):
        await auditor.watch.look(moment)
    breaches = [event for event in await auditor.published(MetricBreached) if isinstance(event, MetricBreached)]
    assert [(event.column, event.group) for event in breaches] == [("race", "black")] * 2
    assert breaches[0].value == pytest.approx(0.5 / 0.9)


async def test_few_rows_or_old_ones_are_not_held_against_anybody(tmp_path: Path) -> None:
    auditor = await opened(tmp_path, fairness_window_rows=60)
    await auditor.keep(*[examples.prediction(race="black", adverse=True) for _ in range(50)])
    await auditor.keep(*[examples.prediction(race="white") for _ in range(50)])
    await auditor.watch.look(datetime.now(UTC))
    assert await auditor.published(MetricBreached) == []
    auditor.writer.close()
