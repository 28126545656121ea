"""Erasing a payload: what goes, what stays, what forbids it, and that every proof is as good as before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from affiant.auditor.actions.erase import Eraser
from affiant.auditor.actions.integrity import Inspector
from affiant.auditor.domain.erasure import Rule, days_kept
from affiant.auditor.store import entries
from affiant.auditor.store.queries import Filter
from affiant.common.errors import Conflict, NotFound, Problem
from affiant.common.events import LegalHoldSet, OutcomeRecorded, PayloadErased, RetentionSet
from tests.unit.auditor import examples, stores
from tests.unit.auditor.exported import Door, eraser, export, verify, words
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

CARLA = "customer-4711"
SECRET = "carla-rossi-of-bologna"


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path / "kept")
    yield auditor
    auditor.writer.close()


async def about_carla(auditor: Auditor) -> list[str]:
    """Thirty predictions, three of them about Carla (entries 4, 14, 24), the last explained, its outcome known."""
    made = [
        examples.prediction(
            number,
            race=SECRET if number % 10 == 5 else "white",
            subject_ref=CARLA if number % 10 == 5 else f"customer-{number}",
            request_id=f"application-{number}",
            adverse=number % 10 == 5,
        )
        for number in range(1, 31)
    ]
    await auditor.keep(*made, examples.explained(made[24].prediction_id))
    ids = [one.prediction_id for one in made if one.subject_ref == CARLA]
    await auditor.keep(_outcome(ids[-1]))
    await auditor.signing.sign()
    return ids


def _outcome(prediction_id: str) -> OutcomeRecorded:
    return OutcomeRecorded(
        prediction_id=prediction_id,
        model=examples.MODEL,
        label="yes",
        observed_at="2026-11-24T10:00:00.000000Z",
        by="omar",
        comment=SECRET,
    )


async def erase(auditor: Auditor, **given: object) -> object:
    wanted = {"subject": None, "prediction_id": None, "dry_run": False} | given
    return await eraser(auditor).erase(reason="article 17", by="omar", **wanted)  # type: ignore[arg-type]


async def stored(auditor: Auditor, index: int) -> entries.Entry:
    return (await auditor.lookup.ask(lambda connection: entries.of(connection, [index])))[0]


# --- what goes, and what stays --------------------------------------------------------------------------------------


async def test_everything_about_a_subject_is_erased_and_the_record_says_so(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    done = await eraser(auditor).erase(CARLA, None, "article 17", "omar", dry_run=False)
    assert (done.count, done.entries, done.predictions, done.statements) == (3, 5, ids, [32])
    for prediction_id in ids:
        view = await auditor.prover.prediction(prediction_id)
        assert view.record is None
        assert view.erased is not None
        assert (view.erased.index, view.erased.by, view.erased.reason) == (32, "omar", "article 17")
        assert all(line.event is None for line in [*view.explanations, *view.outcomes])
    for index in (4, 14, 24, 30, 31):
        entry = await stored(auditor, index)
        assert (entry.salt, entry.body, entry.headers) == (None, None, None)
    assert (await stored(auditor, 5)).body is not None


async def test_look_ups_hold_nothing_personal_of_it_any_more(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    page = await auditor.lookup.predictions(Filter(), 100, None)
    gone = [line for line in page.predictions if line.prediction_id in ids]
    assert [(line.subject_ref, line.request_id, line.error) for line in gone] == [("", "", "")] * 3
    assert (await auditor.lookup.predictions(Filter(subject_ref=CARLA), 100, None)).predictions == []
    held = await auditor.lookup.ask(lambda c: c.execute("SELECT protected FROM decisions WHERE idx = 4").fetchall())
    assert [row[0] for row in held] == ["{}"]


async def test_the_bytes_are_gone_from_the_files_too(auditor: Auditor) -> None:
    """Among so many others that pages were split, and under a journal."""
    if stores.url:
        pytest.skip("what PostgreSQL does with its files is its own affair: see docs/erasure.md")
    for round_ in range(8):
        made = [
            examples.prediction(
                subject_ref=CARLA if number == 77 else f"customer-{number * 7919 % 10007}-{round_}",
                race=SECRET if number == 77 else f"group-{number % 9}",
            )
            for number in range(200)
        ]
        await auditor.keep(*made)
    store = auditor.settings.data_dir

    def left() -> dict[str, int]:
        files = [path for path in Path(store).iterdir() if path.name.startswith("audit.db")]
        return {word: sum(path.read_bytes().count(word.encode()) for path in files) for word in (CARLA, SECRET)}

    assert min(left().values()) >= 8
    await erase(auditor, subject=CARLA)
    assert left() == {CARLA: 0, SECRET: 0}


async def test_the_proof_of_an_erased_prediction_is_as_good_as_before(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    before = await auditor.prover.proof(ids[0])
    await erase(auditor, prediction_id=ids[0])
    after = await auditor.prover.proof(ids[0])
    assert (after.leaf, after.path, after.root) == (before.leaf, before.path, before.root)
    assert (after.salt, after.payload) == (None, None)


async def test_a_store_with_erased_payloads_is_intact(auditor: Auditor) -> None:
    await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert (found.intact, found.damage) == (True, [])


async def test_a_payload_taken_away_by_hand_is_damage_even_where_a_row_says_that_it_was_erased(
    auditor: Auditor,
) -> None:
    ids = await about_carla(auditor)
    await erase(auditor, prediction_id=ids[0])
    for statement in (
        "UPDATE entries SET body = NULL, salt = NULL WHERE idx = 14",
        "INSERT INTO erased (idx, statement) SELECT 14, statement FROM erased WHERE idx = 4",
    ):
        await auditor.writer.write(lambda connection, sql=statement: connection.execute(sql))
        found = await Inspector(auditor.lookup, auditor.signing).look()
        assert [one.index for one in found.damage] == [14]
        with pytest.raises(Problem, match="entry 14 of the log was altered: its payload was removed"):
            await auditor.prover.prediction(ids[1])


async def test_an_erasure_is_published_and_names_nobody(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    (event,) = await auditor.published(PayloadErased)
    assert isinstance(event, PayloadErased)
    assert [line.index for line in event.entries] == [4, 14, 24, 30, 31]
    assert [line.prediction_id for line in event.entries][:3] == ids
    assert (event.entries[0].replica, event.entries[0].sequence) == ("r1", 5)
    statement = await stored(auditor, 32)
    assert CARLA.encode() not in (statement.body or b"")


async def test_with_dry_run_it_only_says_what_it_would_erase(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    done = await eraser(auditor).erase(CARLA, None, "article 17", "omar", dry_run=True)
    assert (done.dry_run, done.count, done.entries, done.predictions, done.statements) == (True, 3, 5, ids, [])
    assert (await auditor.prover.prediction(ids[0])).record is not None


async def test_what_is_not_there_cannot_be_erased(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    for given in ({"subject": "nobody"}, {"prediction_id": "p-99"}, {"subject": ""}):
        with pytest.raises(NotFound):
            await erase(auditor, **given)
    await erase(auditor, prediction_id=ids[0])
    with pytest.raises(NotFound, match="erased before"):
        await erase(auditor, prediction_id=ids[0])
    with pytest.raises(Problem, match="erase what"):
        await erase(auditor)


async def test_an_erased_event_that_is_delivered_again_does_not_come_back(auditor: Auditor) -> None:
    event = examples.prediction(1, subject_ref=CARLA)
    arrival = examples.arrival(event)
    await auditor.writer.record([arrival])
    await erase(auditor, subject=CARLA)
    outcome = await auditor.writer.record([replace(arrival, sequence=99)])
    assert (outcome.kept, outcome.doubled) == (0, 1)
    assert (await stored(auditor, 0)).body is None


async def test_what_is_said_of_an_erased_prediction_later_is_erased_by_the_next_sweep(auditor: Auditor) -> None:
    ids = await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    await auditor.keep(examples.explained(ids[0]), _outcome(ids[1]))
    await eraser(auditor).sweep(datetime.now(UTC))
    assert [(await stored(auditor, index)).body for index in (33, 34)] == [None, None]
    assert (await Inspector(auditor.lookup, auditor.signing).look()).intact


async def test_a_quarantined_message_with_the_same_id_loses_its_body(auditor: Auditor) -> None:
    event = examples.prediction(1, subject_ref=CARLA)
    other = examples.prediction(2, prediction_id=event.prediction_id, subject_ref=CARLA, race=SECRET)
    await auditor.writer.record([examples.arrival(event), examples.arrival(other)])
    await erase(auditor, subject=CARLA)
    (line,) = (await auditor.lookup.quarantine(10)).messages
    assert (line.kind, line.body) == ("conflict", "")


# --- with the verifier ----------------------------------------------------------------------------------------------


async def test_the_verifier_counts_what_was_erased_and_misses_no_number(auditor: Auditor, tmp_path: Path) -> None:
    await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    await auditor.signing.sign()
    report = verify(export(Door(auditor), auditor, tmp_path / "log"))
    assert (report.ok, report.erased, report.missing, report.checked) == (True, 5, 0, 33)
    assert "erased     5" in words(report)


async def test_a_part_of_the_log_brings_the_erasures_of_its_payloads_along(auditor: Auditor, tmp_path: Path) -> None:
    await about_carla(auditor)
    await erase(auditor, subject=CARLA)
    await auditor.signing.sign()
    folder = export(Door(auditor), auditor, tmp_path / "part", 0, 10)
    report = verify(folder)
    assert (report.ok, report.erased) == (True, 1)
    (folder / "entries.jsonl").unlink()
    assert "entry 4: its payload is not there, and no entry of the log says" in words(verify(folder))


async def test_an_export_goes_on_until_it_holds_every_erasure_of_its_payloads(auditor: Auditor, tmp_path: Path) -> None:
    """Somebody erases while the payloads are being fetched: the statement lies beyond the checkpoint."""
    await about_carla(auditor)
    note = await auditor.prover.checkpoint()
    await erase(auditor, subject=CARLA)
    door = Door(auditor)
    answers = [note]

    def ask(service: str, method: str, path: str, **request: object) -> object:
        found = Door.ask(door, service, method, path, **request)  # type: ignore[arg-type]
        if path == "/checkpoint" and answers:
            found._content = answers.pop().encode()
        return found

    await auditor.signing.sign()
    door.ask = ask  # type: ignore[assignment,method-assign]
    report = verify(export(door, auditor, tmp_path / "log"))
    assert (report.ok, report.erased, report.size) == (True, 5, 33)


# --- legal holds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "model", "subject", "prediction"])
async def test_a_legal_hold_blocks_the_whole_erasure_until_it_is_lifted(auditor: Auditor, scope: str) -> None:
    ids = await about_carla(auditor)
    values = {"all": "", "model": examples.MODEL, "subject": CARLA, "prediction": ids[2]}
    hold = await eraser(auditor).hold(scope, values[scope], None, None, "lawsuit 7", "iris")  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="lawsuit 7"):
        await erase(auditor, subject=CARLA)
    assert (await auditor.prover.prediction(ids[0])).record is not None
    with pytest.raises(Conflict, match="lawsuit 7"):
        await erase(auditor, subject=CARLA, dry_run=True)
    await eraser(auditor).lift(hold.hold_id, "settled", "iris")
    assert (await eraser(auditor).holds()).holds == []
    await erase(auditor, subject=CARLA)
    assert (await auditor.prover.prediction(ids[0])).record is None


async def test_a_hold_covers_only_the_time_that_it_names(auditor: Auditor) -> None:
    await about_carla(auditor)
    await eraser(auditor).hold("all", "", None, "2020-01-01T00:00:00Z", "old matter", "iris")
    await eraser(auditor).hold("all", "", "2099-01-01T00:00:00Z", None, "later matter", "iris")
    await erase(auditor, subject=CARLA)


async def test_a_hold_is_an_entry_of_the_log_that_names_no_subject(auditor: Auditor) -> None:
    await about_carla(auditor)
    hold = await eraser(auditor).hold("subject", CARLA, None, None, "lawsuit 7", "iris")
    (event,) = await auditor.published(LegalHoldSet)
    assert isinstance(event, LegalHoldSet)
    assert (event.hold_id, event.scope, event.value) == (hold.hold_id, "subject", "")
    assert CARLA.encode() not in ((await stored(auditor, 32)).body or b"")
    await eraser(auditor).lift(hold.hold_id, "settled", "iris")
    assert b"legal_hold_lifted" in ((await stored(auditor, 33)).body or b"")


async def test_a_hold_that_is_not_there_cannot_be_lifted(auditor: Auditor) -> None:
    with pytest.raises(NotFound, match="no legal hold h-1"):
        await eraser(auditor).lift("h-1", "?", "iris")
    with pytest.raises(Problem, match="needs a value"):
        await eraser(auditor).hold("model", "", None, None, "?", "iris")


def test_operators_erase_and_auditors_hold(tmp_path: Path) -> None:
    import anyio

    async def make() -> None:
        auditor = await opened(tmp_path)
        await about_carla(auditor)
        hold = {"scope": "all", "reason": "lawsuit"}
        wish = {"subject": CARLA, "reason": "article 17"}
        class_ = {"kind": "model", "value": "loans", "days": 30, "reason": "policy"}
        asked = [("/v1/erasures", wish, "omar"), ("/v1/retention", class_, "omar"), ("/v1/holds", hold, "iris")]
        for path, body, person in asked:
            for other in {"omar", "iris", "ana"} - {person}:
                assert Door(auditor, other).request("POST", path, json=body).status_code == 403
            assert Door(auditor, person).request("POST", path, json=body).status_code == 200
        assert Door(auditor, "omar").request("POST", "/v1/erasures", json={"subject": CARLA}).status_code == 422
        hold_id = Door(auditor).get("", "/v1/holds")["holds"][0]["hold_id"]
        lift = f"/v1/holds/{hold_id}/lift"
        assert Door(auditor, "omar").request("POST", lift, json={"reason": "no"}).status_code == 403
        assert Door(auditor, "iris").request("POST", lift, json={"reason": "settled"}).status_code == 200
        assert Door(auditor).get("", "/v1/erasures")["erasures"][0]["predictions"] == 3
        auditor.writer.close()

    anyio.run(make)


# --- retention ------------------------------------------------------------------------------------------------------


def received(days_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def test_payloads_are_erased_when_their_class_comes_to_its_end(auditor: Auditor) -> None:
    await auditor.keep(*[examples.prediction(number, received_at=received(number * 10)) for number in range(1, 10)])
    work = eraser(auditor)
    await work.keep("model", examples.MODEL, 45, "policy 3", "omar")
    assert await work.sweep(datetime.now(UTC)) == 5
    assert await work.sweep(datetime.now(UTC)) == 0
    page = await auditor.lookup.predictions(Filter(), 100, None)
    views = [await auditor.prover.prediction(line.prediction_id) for line in page.predictions]
    assert [view.record is None for view in views] == [False] * 4 + [True] * 5
    assert views[-1].erased is not None
    assert (views[-1].erased.rule, views[-1].erased.reason) == ("retention", "kept for 45 days")
    (event,) = await auditor.published(RetentionSet)
    assert isinstance(event, RetentionSet)
    assert event.days == 45


async def test_what_a_hold_covers_outlives_its_class(auditor: Auditor) -> None:
    made = [examples.prediction(number, received_at=received(90)) for number in range(1, 4)]
    await auditor.keep(*made)
    work = eraser(auditor)
    await work.keep("model", examples.MODEL, 30, "policy", "omar")
    await work.hold("prediction", made[1].prediction_id, None, None, "lawsuit", "iris")
    assert await work.sweep(datetime.now(UTC)) == 2
    assert (await auditor.prover.prediction(made[1].prediction_id)).record is not None


async def test_without_a_class_the_setting_counts_and_0_is_for_ever(tmp_path: Path) -> None:
    for days, erased in ((0, 0), (30, 1)):
        auditor = await opened(tmp_path, retention_days=days)
        if not days:
            await auditor.keep(examples.prediction(1, received_at=received(90)))
        assert await Eraser(auditor.lookup, auditor.writer, auditor.settings).sweep(datetime.now(UTC)) == erased
        auditor.writer.close()


async def test_a_class_is_removed_by_setting_no_days(auditor: Auditor) -> None:
    work = eraser(auditor)
    assert [rule.days for rule in (await work.keep("tag", "sector=retail", 10, "policy", "omar")).rules] == [10]
    assert (await work.keep("tag", "sector=retail", None, "a mistake", "omar")).rules == []
    with pytest.raises(NotFound):
        await work.keep("tag", "sector=retail", None, "again", "omar")


def test_the_models_own_class_goes_before_its_tags_and_the_shortest_tag_before_the_setting() -> None:
    import msgspec

    spec = msgspec.structs.replace(examples.spec(), tags={"sector": "retail", "region": "eu"})
    rules = [Rule("tag", "sector=retail", 90, "", "", ""), Rule("tag", "region=eu", 30, "", "", "")]
    assert days_kept("loans", spec, rules, 365) == 30
    assert days_kept("loans", spec, [*rules, Rule("model", "loans", 0, "", "", "")], 365) == 0
    assert days_kept("loans", examples.spec(), rules, 365) == 365
    assert days_kept("loans", None, rules, 365) == 365
