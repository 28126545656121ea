"""The queue on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from affiant.common.errors import Problem
from affiant.explainer import domain
from affiant.explainer.actions.predictions import expired
from affiant.explainer.domain import Job
from affiant.explainer.store import Ended, Store, outbox_rows
from tests.unit.explainer.examples import SPEC, record


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "data" / "explainer.sqlite")
    opened.open()
    yield opened
    opened.close()


def job(now: float = 100.0, **changes: object) -> Job:
    [made] = domain.plan(SPEC, record(adverse=[True]), traceparent="", now=now, deadline_seconds=60.0)
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def events(store: Store) -> int:
    with store.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(outbox_rows)).scalar_one())


def test_two_explainers_never_share_a_folder(store: Store, tmp_path: Path) -> None:
    second = Store(tmp_path / "data" / "explainer.sqlite")
    with pytest.raises(Problem, match="another explainer runs"):
        second.open()
    store.close()
    second.open()
    second.close()


def test_a_job_that_comes_again_changes_nothing(store: Store) -> None:
    one = job()
    assert (store.add([one]), store.add([one])) == (1, 0)
    assert store.claim(101.0)
    assert store.add([one]) == 0
    assert [found.state for found, _ in store.jobs_of(one.prediction_id)] == ["running"]


def test_requests_come_before_denials_and_older_jobs_before_newer_ones(store: Store) -> None:
    other, new, old, asked = (
        job(100.0, priority=domain.OTHER),
        job(103.0),
        job(102.0),
        job(104.0, priority=domain.ON_REQUEST, trigger="request"),
    )
    store.add([other, new, old, asked])
    order = [claimed.prediction_id for [claimed] in iter(lambda: store.claim(110.0), [])]
    assert order == [asked.prediction_id, old.prediction_id, new.prediction_id, other.prediction_id]


def test_a_claimed_job_is_running_and_counts_its_attempt(store: Store) -> None:
    store.add([job()])
    [claimed] = store.claim(101.0)
    assert (claimed.state, claimed.attempts, claimed.started_at) == ("running", 1, 101.0)
    assert store.claim(102.0) == []


def test_a_job_that_was_put_back_waits_for_its_time(store: Store) -> None:
    store.add([job()])
    [claimed] = store.claim(101.0)
    store.put_back(msgspec.structs.replace(claimed, not_before=105.0))
    assert store.claim(104.0) == []
    assert store.claim(105.0)


def test_what_was_running_when_the_process_died_is_run_again(store: Store) -> None:
    store.add([job()])
    assert store.claim(101.0)
    assert store.recover() == 1
    [again] = store.claim(102.0)
    assert again.attempts == 2


def test_an_ended_job_stays_ended(store: Store) -> None:
    store.add([job()])
    [claimed] = store.claim(101.0)
    ended, message = expired(claimed, "too late", 102.0)
    store.finish(Ended(ended, message))
    store.put_back(claimed)
    assert store.recover() == 0 and store.claim(103.0) == []
    assert store.counts()["expired"] == 1


def test_a_job_past_its_deadline_is_not_started_and_expires_with_its_event(store: Store) -> None:
    store.add([job(100.0), job(130.0)])
    assert store.expire(160.0, lambda late: expired(late, "too late", 160.0)) == 1
    assert events(store) == 1
    assert store.counts() == {"queued": 1, "running": 0, "done": 0, "failed": 0, "expired": 1}
    assert store.claim(195.0) == []


def test_only_an_ended_job_is_replaced(store: Store) -> None:
    first = job(trigger="request")
    assert store.replace(first)
    assert not store.replace(first)
    [claimed] = store.claim(101.0)
    assert not store.replace(first)
    ended, message = expired(claimed, "too late", 102.0)
    store.finish(Ended(ended, message))
    assert store.replace(msgspec.structs.replace(first, round=2))
    [(again, result)] = store.jobs_of(first.prediction_id)
    assert (again.state, again.round, result) == ("queued", 2, None)


def test_a_version_is_found_by_its_bytes(store: Store) -> None:
    newer = msgspec.structs.replace(SPEC, version=2)
    store.keep_spec(SPEC, 1.0)
    store.keep_spec(newer, 2.0)
    store.keep_spec(SPEC, 3.0)
    assert store.find_spec("loan", 1, SPEC.digest) == SPEC
    assert store.find_spec("loan", None, SPEC.digest) == newer
    assert store.find_spec("loan", 1, "sha256:" + "c" * 64) is None
    assert [spec.version for spec in store.recent_specs(5)] == [1, 2]


def test_the_age_of_the_queue_is_that_of_its_oldest_job(store: Store) -> None:
    assert store.oldest_queued_at() is None
    store.add([job(105.0), job(101.0)])
    assert store.oldest_queued_at() == 101.0


def all_of_them(_: domain.Job, waiting: int) -> int:
    return waiting


def test_a_batch_holds_jobs_of_one_version_and_one_priority(store: Store) -> None:
    asked = [job(110.0 + at, priority=domain.ON_REQUEST) for at in range(2)]
    denied = [job(100.0 + at) for at in range(3)]
    other_version = job(100.5, version=2)
    store.add([*denied, other_version, *asked])
    taken = [[each.prediction_id for each in store.claim(120.0, all_of_them)] for _ in range(4)]
    assert taken == [
        [each.prediction_id for each in asked],
        [each.prediction_id for each in denied],
        [other_version.prediction_id],
        [],
    ]


def test_no_more_are_taken_than_there_is_room_for(store: Store) -> None:
    store.add([job(100.0 + at) for at in range(5)])
    told: list[int] = []

    def two(_: domain.Job, waiting: int) -> int:
        told.append(waiting)
        return 2

    assert [len(store.claim(110.0, two)) for _ in range(4)] == [2, 2, 1, 0]
    assert told == [5, 3, 1]


def test_a_job_whose_batch_was_lost_is_taken_alone(store: Store) -> None:
    store.add([job(100.0), job(101.0), job(102.0)])
    first, second, third = store.claim(110.0, all_of_them)
    store.put_back(msgspec.structs.replace(first, alone=True), second, msgspec.structs.replace(third, alone=True))
    assert [len(store.claim(111.0, all_of_them)) for _ in range(4)] == [1, 1, 1, 0]


def test_what_has_ended_long_ago_is_forgotten_and_what_is_open_is_not(store: Store) -> None:
    store.add([job(100.0), job(101.0), job(102.0), job(500.0, deadline_at=900.0)])
    for claimed in store.claim(103.0, lambda _, __: 2):
        ended, message = expired(claimed, "too late", 104.0)
        store.finish(Ended(ended, message))
    assert store.forget(before=50.0) == 0
    assert store.forget(before=101.0) == 1
    assert store.forget(before=1000.0) == 1
    assert store.counts() == {"queued": 2, "running": 0, "done": 0, "failed": 0, "expired": 0}


def test_jobs_are_listed_by_state_and_model_the_oldest_first(store: Store) -> None:
    newer, older, other = job(102.0), job(101.0), job(100.0, model="other")
    store.add([newer, older, other])
    store.claim(103.0)
    assert [each.prediction_id for each in store.listed("queued", None, 10)] == [
        older.prediction_id,
        newer.prediction_id,
    ]
    assert [each.queued_at for each in store.listed("queued", "loan", 1)] == [101.0]
    assert store.listed("queued", "other", 10) == []
    assert [each.model for each in store.listed("running", "other", 10)] == ["other"]
