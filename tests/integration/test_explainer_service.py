"""The explainer as a process, on a real nats-server, with real workers: kills included."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from affiant.common import trace
from affiant.common.events import ExplanationFailed, ModelExplained, PredictionExplained, PredictionLogged
from affiant.common.wire import Envelope
from tests.support.explained import Trained, boosting
from tests.support.explainer import Bus, ExplainerProcess, alive
from tests.support.nats_server import NatsServer


@pytest.fixture
def explainer(nats_server: NatsServer, tmp_path: Path) -> Iterator[ExplainerProcess]:
    process = ExplainerProcess(tmp_path / "explainer", nats_server.url)
    yield process
    process.close()


@pytest.fixture
def bus(declared: Client, explainer: ExplainerProcess) -> Bus:
    return Bus(declared, explainer)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return boosting()


def rows_of(events: list[Envelope], kind: type[Any] = PredictionExplained) -> list[tuple[str, int]]:
    return sorted((e.event.prediction_id, e.event.row) for e in events if isinstance(e.event, kind))


def denied_rows(records: list[PredictionLogged]) -> list[tuple[str, int]]:
    return sorted((r.prediction_id, row) for r in records for row, denied in enumerate(r.adverse) if denied)


async def test_denials_are_explained_and_everything_else_on_request(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start()
    # Before the version is known: the streams are not ordered against each other.
    records = [trained.record(*trained.denied()[:2], trained.granted()[0]), trained.record(trained.denied()[2])]
    traceparent = trace.new_traceparent()
    await bus.logs(*records, *records, traceparent=traceparent)
    await explainer.until_ready()
    await bus.registers(trained)
    events = await bus.until_said(3)
    assert rows_of(events) == denied_rows(records)
    assert {trace.trace_id(each.traceparent) for each in events} == {trace.trace_id(traceparent)}
    # Two workers finish in any order.
    event = next(one.event for one in events if rows_of([one]) == [(records[0].prediction_id, 0)])
    assert isinstance(event, PredictionExplained)
    assert event.anchor is not None and event.shap is not None
    assert event.software["alibi"] == "0.9.4" and event.background_digest == trained.spec.background_digest
    assert event.explained_label == "denied" and "decided “denied”" in event.anchor.sentence

    seen = (await explainer.get(f"/v1/explanations/{records[0].prediction_id}")).json()["explanations"]
    assert [(each["row"], each["state"]) for each in seen] == [(0, "done"), (1, "done")]
    assert seen[0]["event"]["anchor"]["sentence"] == event.anchor.sentence

    wanted = {"prediction_id": records[0].prediction_id, "row": 2, "methods": ["shap"]}
    unknown = await explainer.request("POST", "/v1/explanations", json=wanted)
    assert unknown.status_code == 404 and "ask again" in unknown.json()["hint"]
    explainer.services.records[records[0].prediction_id] = records[0]
    asked = await explainer.request("POST", "/v1/explanations", json=wanted)
    assert (asked.status_code, asked.json()["trigger"]) == (202, "request")
    last = (await bus.until_said(4))[-1].event
    assert isinstance(last, PredictionExplained)
    assert (last.row, last.requested_by, last.explained_label, last.anchor) == (2, "iris", "granted", None)
    queue = (await explainer.get("/v1/queue")).json()
    assert queue == {
        "queued": 0,
        "running": 0,
        "done": 4,
        "failed": 0,
        "expired": 0,
        "waiting": 0,
        "oldest_queued_seconds": 0.0,
    }
    assert (await explainer.get("/v1/queue", person="stranger")).status_code == 401
    metrics = (await explainer.get("/metrics")).text
    assert 'affiant_explainer_seconds_count{method="anchor"} 3.0' in metrics
    assert explainer.stop() == 0


async def test_a_killed_service_is_started_again_and_every_row_is_explained_once(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start(WORKERS="1")
    await bus.registers(trained)
    records = [trained.record(at) for at in trained.denied()[:30]]
    await bus.logs(*records)
    for said in (1, 8):
        await bus.until_said(said)
        workers = explainer.workers()
        explainer.kill()
        await explainer.until(lambda left=workers: not any(alive(pid) for pid in left), 20)
        explainer.start(WORKERS="1")
    events = await bus.until_said(len(records))
    await explainer.until_ready()
    assert rows_of(events) == denied_rows(records)
    assert len({each.id for each in events}) == len(events) == len(records)


async def test_a_killed_worker_is_replaced_and_its_job_is_done_once(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start()
    await bus.registers(trained)
    records = [trained.record(at) for at in trained.denied()[:16]]
    await bus.logs(*records)
    await bus.until_said(1)
    first = explainer.workers()
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    events = await bus.until_said(len(records))
    assert rows_of(events) == denied_rows(records)
    await explainer.until(lambda: len(explainer.workers()) == 2)
    assert not set(first) & set(explainer.workers())
    assert await largest_batch(explainer) > 1


async def largest_batch(explainer: ExplainerProcess) -> float:
    """The bound below which no batch was: of the jobs that a worker took at once."""
    lines = (await explainer.get("/metrics")).text.splitlines()
    counts = [line.split() for line in lines if line.startswith("affiant_explainer_batch_jobs_bucket")]
    return next(float(name.split('"')[1]) for name, count in counts if float(count) == float(counts[-1][1]))


async def test_a_worker_that_stands_still_is_killed_and_its_batch_is_done_once_and_uncounted(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start(WORKERS="1", RUN_SECONDS="3")
    await bus.registers(trained)
    await explainer.until_ready()
    records = [trained.record(at) for at in trained.denied()[:24]]
    await bus.logs(records[0])
    await bus.until_said(1)
    [worker] = explainer.workers()
    os.kill(worker, signal.SIGSTOP)
    await bus.logs(*records[1:])
    events = await bus.until_said(len(records))
    assert rows_of(events) == denied_rows(records)
    assert len({each.id for each in events}) == len(events)
    assert explainer.workers() != [worker]
    seen = [(await explainer.get(f"/v1/explanations/{each.prediction_id}")).json() for each in records]
    assert {each["explanations"][0]["state"] for each in seen} == {"done"}
    assert "was killed after 3 seconds" in explainer.log()


async def test_a_poisoned_prediction_fails_with_a_reason_and_harms_no_other(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start(WORKERS="1")
    await bus.registers(trained)
    good = [trained.record(at) for at in trained.denied()[:4]]
    other = msgspec.structs.replace(trained.record(trained.granted()[0]), labels=["denied"], adverse=[True])
    without = msgspec.structs.replace(trained.record(trained.denied()[0]), inputs=[])
    await bus.logs(good[0], other, good[1], without, *good[2:])
    events = await bus.until_said(6)
    assert rows_of(events) == denied_rows(good)
    reasons = {e.event.prediction_id: e.event.reason for e in events if isinstance(e.event, ExplanationFailed)}
    assert "but the registered model decides 'granted'" in reasons[other.prediction_id]
    assert reasons[without.prediction_id] == "the record has no input 'income'"


async def test_a_runaway_is_killed_and_the_job_fails_when_it_comes_again(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start(RUN_SECONDS="0.0005", WORKERS="1")
    await bus.registers(trained)
    slow = trained.record(trained.denied()[0])
    await bus.logs(slow)
    [told] = await bus.until_said(1)
    assert isinstance(told.event, ExplanationFailed)
    assert told.event.attempts == 2
    assert "killed after 0.0005 seconds" in told.event.reason


async def test_a_promoted_version_is_explained_as_a_whole_and_drawn(
    explainer: ExplainerProcess, bus: Bus, trained: Trained
) -> None:
    explainer.start()
    await explainer.until_ready()
    await bus.promotes(trained)
    [event] = [each.event for each in await bus.until_said(1)]
    assert isinstance(event, ModelExplained)
    assert max(event.importance, key=lambda one: one.importance).column in ("income", "debt")
    spec = trained.spec
    where = f"/v1/models/{spec.model}/versions/{spec.version}"
    assert (await explainer.get(f"{where}/explanation")).json()["state"] == "done"
    picture = await explainer.get(f"{where}/plots/importance.svg")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "income" in picture.text
