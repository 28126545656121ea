"""Recording a batch: once each, durable, provable; nothing dropped without a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from affiant.auditor.actions.project import fill_protected
from affiant.auditor.actions.record import Outcome, Recorder
from affiant.auditor.domain.leaf import Leaf, canonical, payload_hash
from affiant.auditor.log import hashing, proofs, tiles
from affiant.auditor.store import entries, facts
from affiant.auditor.store.database import Database, StoreAway
from affiant.common import bus
from affiant.common.events import TensorData
from tests.unit.auditor import examples, stores, verifier


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = stores.at(tmp_path / "auditor")
    database.open()
    yield database
    database.close()


@pytest.fixture
def recorder(database: Database) -> Recorder:
    return Recorder(database)


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.reading() as connection:
        return connection.execute(query).fetchall()


def test_every_event_becomes_an_entry_in_the_order_of_arrival(database: Database, recorder: Recorder) -> None:
    arrivals = [examples.arrival(examples.prediction()) for _ in range(5)]
    assert recorder.record(arrivals) == Outcome(kept=5)
    assert [body for (body,) in rows(database, "SELECT body FROM entries ORDER BY idx")] == [
        one.body for one in arrivals
    ]


def test_every_entry_has_a_proof_that_verifies(database: Database, recorder: Recorder) -> None:
    for size in (1, 300, 7):
        recorder.record([examples.arrival(examples.prediction()) for _ in range(size)])
    with database.reading() as connection:
        node = tiles.nodes(partial(entries.tile, connection))
        root = proofs.root(308, node)
        for entry in entries.of(connection, range(308)):
            assert entry.salt is not None and entry.body is not None
            assert payload_hash(entry.salt, entry.body) == entry.payload_hash
            leaf = verifier.leaf(_canonical_by_hand(entry))
            assert verifier.included(leaf, entry.idx, 308, proofs.inclusion(entry.idx, 308, node), root)


def _canonical_by_hand(entry: entries.Entry) -> bytes:
    fields = {name: getattr(entry, name) for name in ("event_id", "type", "source", "subject", "time", "audited_at")}
    leaf = {**fields, "payload": entry.payload_hash.hex(), "v": 1}
    return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["plain", 'a "quoted" \\ / one', "tab\tnul\0bell\7del\x7f", "Zoë 漢字 😀  ", ""])
def test_a_leaf_is_canonical_json_whatever_is_in_it(text: str) -> None:
    leaf = Leaf(text, text, text, text, text, text, text)
    fields = dict.fromkeys(("audited_at", "event_id", "payload", "source", "subject", "time", "type"), text)
    by_hand = json.dumps({**fields, "v": 1}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical(leaf) == by_hand.encode()
    assert hashing.leaf_hash(canonical(leaf)) == verifier.leaf(by_hand.encode())


def test_a_redelivery_changes_nothing_but_a_counter(database: Database, recorder: Recorder) -> None:
    batch = [examples.arrival(examples.prediction(number)) for number in (1, 2, 3)]
    recorder.record(batch)
    kept = "SELECT * FROM entries ORDER BY idx"
    before = rows(database, kept) + rows(database, "SELECT * FROM counts")
    assert recorder.record(batch) == Outcome(doubled=3)
    assert rows(database, kept) + rows(database, "SELECT * FROM counts") == before
    assert rows(database, "SELECT value FROM facts WHERE name = 'doubled_ignored'") == [("3",)]


def test_an_event_doubled_inside_one_batch_is_kept_once(recorder: Recorder) -> None:
    arrival = examples.arrival(examples.prediction())
    again = replace(arrival, sequence=arrival.sequence + 1_000_000)
    assert recorder.record([arrival, again, arrival]) == Outcome(kept=1, doubled=2)


@pytest.mark.parametrize("together", [True, False])
def test_another_content_under_a_known_id_is_kept_as_a_conflict(
    database: Database, recorder: Recorder, together: bool
) -> None:
    first = examples.prediction()
    other = examples.prediction(prediction_id=first.prediction_id, adverse=True)
    batches = [[first, other]] if together else [[first], [other]]
    outcomes = [recorder.record([examples.arrival(event) for event in batch]) for batch in batches]
    assert sum(outcome.kept for outcome in outcomes) == 1
    assert [(fault.kind, fault.event_id) for fault in outcomes[-1].faults] == [("conflict", first.prediction_id)]
    assert rows(database, "SELECT kind, event_id FROM quarantine") == [("conflict", first.prediction_id)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe", "not a CloudEvent"),
        (b"{", "not a CloudEvent"),
        (b'{"specversion":"1.0","id":"","source":"s","type":"t"}', "no id"),
        (b'{"specversion":"1.0","id":"x","source":"s","type":"t","data":' + b"[" * 100_000, "Recursion"),
    ],
    ids=["not text", "cut off", "without id", "too deep"],
)
def test_poison_among_good_events_is_set_aside_alone(
    database: Database, recorder: Recorder, body: bytes, reason: str
) -> None:
    poison = examples.raw("affiant.modelserver.prediction_logged.v1.loans", body, _STRUCTURED)
    good = [examples.arrival(examples.prediction()) for _ in range(4)]
    outcome = recorder.record([*good[:2], poison, *good[2:]])
    assert outcome.kept == 4
    assert [fault.arrival for fault in outcome.faults] == [poison]
    assert reason in outcome.faults[0].reason
    assert rows(database, "SELECT kind, body FROM quarantine") == [("undecodable", body)]


_STRUCTURED = {"content-type": "application/cloudevents+json"}


def test_poison_that_is_delivered_again_stays_one_row(database: Database, recorder: Recorder) -> None:
    poison = examples.raw("affiant.modelserver.prediction_logged.v1.loans", b"{", _STRUCTURED)
    assert len(recorder.record([poison]).faults) == 1
    assert len(recorder.record([poison]).faults) == 1
    assert rows(database, "SELECT count(*) FROM quarantine") == [(1,)]


@pytest.mark.parametrize(
    "fields", [{"epoch": 2**63}, {"received_at": "yesterday"}, {"received_at": "2026-01-01T00:00"}]
)
def test_a_prediction_with_an_impossible_value_is_set_aside(recorder: Recorder, fields: dict[str, object]) -> None:
    outcome = recorder.record(
        [examples.arrival(examples.prediction(**fields)), examples.arrival(examples.prediction())]
    )
    assert (outcome.kept, len(outcome.faults)) == (1, 1)


def test_what_the_store_itself_refuses_does_not_hold_up_the_batch(database: Database, recorder: Recorder) -> None:
    good = [examples.arrival(examples.prediction()) for _ in range(6)]
    strange = examples.arrival(examples.explained("p", row=2**63))
    outcome = recorder.record([*good[:3], strange, *good[3:]])
    assert outcome.kept == 6
    assert [fault.kind for fault in outcome.faults] == ["unstorable"]
    assert rows(database, "SELECT value FROM facts WHERE name = 'size'") == [("6",)]


def test_a_prediction_whose_id_is_not_the_events_id_is_set_aside(recorder: Recorder) -> None:
    arrival = examples.arrival(examples.prediction())
    body = json.loads(arrival.body) | {"id": "another"}
    outcome = recorder.record([replace(arrival, body=json.dumps(body).encode())])
    assert "must be its prediction_id" in outcome.faults[0].reason


@pytest.mark.parametrize("kind", ["affiant.modelserver.prediction_logged.v7.loans", "affiant.modelserver.mood.v1"])
def test_an_unknown_type_or_newer_version_is_kept_as_it_is(database: Database, recorder: Recorder, kind: str) -> None:
    body = json.dumps({"specversion": "1.0", "id": "x", "source": "s", "type": kind, "data": {"new": [1]}}).encode()
    assert recorder.record([examples.raw(kind, body, _STRUCTURED)]).kept == 1
    assert rows(database, "SELECT type, body FROM entries") == [(kind, body)]


def test_plain_json_and_binary_events_can_be_decoded_again(database: Database, recorder: Recorder) -> None:
    event = examples.prediction()
    plain = examples.arrival(event)
    data = json.dumps(json.loads(plain.body)["data"]).encode()
    headers = {"Nats-Msg-Id": event.prediction_id}
    recorder.record([replace(plain, body=data, headers=headers)])
    with database.reading() as connection:
        entry = entries.by_event(connection, event.prediction_id)
    assert entry is not None and entry.headers is not None
    assert json.loads(entry.headers) == {"nats-msg-id": event.prediction_id}


def test_protected_values_come_from_the_context_and_from_the_models_inputs(
    database: Database, recorder: Recorder
) -> None:
    recorder.record(
        [examples.arrival(examples.prediction(race="black", age=41.0)), examples.arrival(examples.registered())]
    )
    assert rows(database, "SELECT protected FROM decisions") == [('{"race":"black","age":41.0}',)]


def test_tensors_without_a_value_for_each_row_are_no_protected_columns(database: Database, recorder: Recorder) -> None:
    hollow = [TensorData(name=f"c{number}", datatype="BYTES", shape=[9], data=[]) for number in range(1_000)]
    deep = TensorData(name="deep", datatype="BYTES", shape=[1, *[2**63] * 10_000], data=["x"])
    whole = TensorData(name="race", datatype="BYTES", shape=[20_000, 1], data=["white"] * 20_000)
    event = examples.prediction(context=[*hollow, deep, whole])
    recorder.record([examples.arrival(msgspec.structs.replace(event, adverse=[False] * 20_000))])
    assert rows(database, "SELECT DISTINCT protected FROM decisions") == [('{"race":"white"}',)]


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-99-99T14:03:00.123456Z"]
)
def test_a_time_that_there_never_was_is_quarantined(database: Database, recorder: Recorder, time: str) -> None:
    recorder.record([examples.arrival(examples.prediction(received_at=time)), examples.arrival(examples.prediction())])
    assert rows(database, "SELECT kind FROM quarantine") == [("undecodable",)]
    assert rows(database, "SELECT count(*) FROM entries") == [(1,)]


def test_protected_values_are_found_when_the_registration_comes_later(database: Database, recorder: Recorder) -> None:
    recorder.record([examples.arrival(examples.prediction(age=float(age))) for age in (20, 30, 40)])
    assert rows(database, "SELECT DISTINCT protected FROM decisions") == [('{"race":"white"}',)]
    recorder.record([examples.arrival(examples.registered())])
    with database.transaction() as connection:
        assert [fill_protected(connection, 2) for _ in range(3)] == [2, 1, 0]
    found = [json.loads(str(values)) for (values,) in rows(database, "SELECT protected FROM decisions ORDER BY idx")]
    assert found == [{"race": "white", "age": age} for age in (20.0, 30.0, 40.0)]


def test_sequences_become_runs_and_outside_systems_cannot_fill_them(database: Database, recorder: Recorder) -> None:
    recorder.record([examples.arrival(examples.prediction(number)) for number in (1, 2, 5, 4)])
    outside = examples.arrival(examples.prediction(3))
    subject = "affiant.outside.prediction_logged.v1"
    body = json.loads(outside.body) | {"type": subject, "source": "urn:bank"}
    recorder.record([replace(outside, subject=f"{subject}.loans", body=json.dumps(body).encode())])
    assert rows(database, "SELECT replica, first, last FROM runs ORDER BY replica, first") == [
        ("outside:r1", 3, 3),
        ("r1", 1, 2),
        ("r1", 4, 5),
    ]


def test_an_outside_system_that_takes_the_id_of_our_event_does_not_keep_it_out(
    database: Database, recorder: Recorder
) -> None:
    ours = examples.arrival(examples.prediction(1))
    event_id = json.loads(ours.body)["id"]
    kind = "affiant.outside.note.v1"
    body = json.dumps({"specversion": "1.0", "id": event_id, "source": "s", "type": kind, "data": {}}).encode()
    note = examples.raw(kind, body, _STRUCTURED, bus.AUDITOR_PREDICTIONS)
    assert recorder.record([note]).kept == recorder.record([ours]).kept == 1
    assert recorder.record([note, ours, note]) == Outcome(doubled=3)
    with database.reading() as connection:
        entry = entries.by_event(connection, event_id)
    assert entry is not None and entry.body == ours.body


def test_lifecycle_events_of_unknown_types_are_kept_in_their_place(database: Database, recorder: Recorder) -> None:
    kind = "affiant.registry.model_painted.v1"
    body = json.dumps({"specversion": "1.0", "id": "x", "source": "s", "type": kind, "data": {}}).encode()
    recorder.record(
        [examples.raw(kind, body, _STRUCTURED, bus.AUDITOR_MODELS), examples.arrival(examples.registered())]
    )
    assert rows(database, "SELECT idx, model FROM lifecycle ORDER BY idx") == [(0, ""), (1, "loans")]


def test_a_log_that_was_cut_behind_our_back_is_not_built_upon(database: Database, recorder: Recorder) -> None:
    recorder.record([examples.arrival(examples.prediction()) for _ in range(3)])
    with database.transaction() as connection:
        facts.put(connection, facts.SIZE, 2)
        connection.execute("DELETE FROM entries WHERE idx = 2")
        connection.execute("DELETE FROM predictions WHERE idx = 2")
    with pytest.raises(StoreAway, match="damaged"):
        recorder.record([examples.arrival(examples.prediction())])


def test_a_nul_in_a_text_keeps_no_event_out(database: Database, recorder: Recorder) -> None:
    good = [examples.arrival(examples.prediction()) for _ in range(100)]
    strange = examples.prediction(request_id="a\0b", error="\0")
    assert recorder.record([*good, examples.arrival(strange)]) == Outcome(kept=101)
    with database.reading() as connection:
        entry = entries.by_event(connection, strange.prediction_id)
    assert entry is not None
    assert entry.body is not None
    assert b"a\\u0000b" in entry.body
