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
from affiant.explainer.store import Store, outbox_rows
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
    claimed = store.claim(101.0)
    assert claimed is not None
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
    order = [claimed.prediction_id for claimed in iter(lambda: store.claim(110.0), None)]
    assert order == [asked.prediction_id, old.prediction_id, new.prediction_id, other.prediction_id]


def test_a_claimed_job_is_running_and_counts_its_attempt(store: Store) -> None:
    store.add([job()])
    claimed = store.claim(101.0)
    assert claimed is not None
    assert (claimed.state, claimed.attempts, claimed.started_at) == ("running", 1, 101.0)
    assert store.claim(102.0) is None


def test_a_job_that_was_put_back_waits_for_its_time(store: Store) -> None:
    store.add([job()])
    claimed = store.claim(101.0)
    assert claimed is not None
    store.put_back(msgspec.structs.replace(claimed, not_before=105.0))
    assert store.claim(104.0) is None
    assert store.claim(105.0) is not None


def test_what_was_running_when_the_process_died_is_run_again(store: Store) -> None:
    store.add([job()])
    assert store.claim(101.0) is not None
    assert store.recover() == 1
    again = store.claim(102.0)
    assert again is not None and again.attempts == 2


def test_an_ended_job_stays_ended(store: Store) -> None:
    store.add([job()])
    claimed = store.claim(101.0)
    assert claimed is not None
    ended, message = expired(claimed, "too late", 102.0)
    store.finish(ended, message)
    store.put_back(claimed)
    assert store.recover() == 0 and store.claim(103.0) is None
    assert store.counts()["expired"] == 1


def test_a_job_past_its_deadline_is_not_started_and_expires_with_its_event(store: Store) -> None:
    store.add([job(100.0), job(130.0)])
    assert store.expire(160.0, lambda late: expired(late, "too late", 160.0)) == 1
    assert events(store) == 1
    assert store.counts() == {"queued": 1, "running": 0, "done": 0, "failed": 0, "expired": 1}
    assert store.claim(195.0) is None


def test_only_an_ended_job_is_replaced(store: Store) -> None:
    first = job(trigger="request")
    assert store.replace(first)
    assert not store.replace(first)
    claimed = store.claim(101.0)
    assert claimed is not None and not store.replace(first)
    ended, message = expired(claimed, "too late", 102.0)
    store.finish(ended, message)
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
