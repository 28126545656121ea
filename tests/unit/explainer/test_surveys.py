"""A version is explained as a whole once, by a worker that has time."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from affiant.common import wire
from affiant.common.errors import Conflict, NotFound, Problem, Unavailable
from affiant.common.events import ColumnImportance, Effect, ModelExplained, Shap, ShapValue
from affiant.explainer.actions.plots import Plots
from affiant.explainer.actions.requests import Requests
from affiant.explainer.actions.surveys import Surveying
from affiant.explainer.domain import Job
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import CannotExplain, Overview, Survey
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Ended, Store, outbox_rows
from tests.unit.explainer.examples import SPEC
from tests.unit.explainer.test_actions import FakeArtifacts, FakeRecords, FakeRelay

pytestmark = pytest.mark.anyio

FOUND = Overview(
    explained_output="probability of yes",
    background_rows=100,
    importance=[ColumnImportance(column="debt", importance=0.2, deviation=0.01)],
    effects=[
        Effect(column="debt", kind="ale", points=[0.0, 1.0], values=[0.1, -0.1]),
        Effect(column="debt", kind="partial_dependence", points=[0.0, 1.0], values=[0.6, 0.4]),
    ],
)


@dataclass
class FakeWorker:
    answers: list[Overview | CannotExplain | WorkerLost] = field(default_factory=list)
    asked: list[Survey] = field(default_factory=list)
    software = {"alibi": "0.9.4"}  # noqa: RUF012 - as of a worker

    async def survey(self, question: Survey) -> Overview | CannotExplain:
        self.asked.append(question)
        answer = self.answers.pop(0) if self.answers else FOUND
        if isinstance(answer, WorkerLost):
            raise answer
        return answer


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.worker, self.artifacts = FakeWorker(), FakeArtifacts()
        self.now = 1_000.0
        settings = ExplainerSettings()
        self.surveys = Surveying(store, self.artifacts, settings, lambda: self.now, lambda: None)
        requests = Requests(store, FakeRecords(), settings, lambda: self.now, lambda: None)
        self.plots = Plots(store, requests, self.surveys)

    async def run(self) -> int:
        done = 0
        while await self.surveys.next(self.worker, FakeRelay()):  # type: ignore[arg-type]
            done += 1
        return done

    def events(self) -> list[object]:
        with self.store.engine.connect() as connection:
            rows = connection.execute(select(outbox_rows)).all()
        return [wire.decode(row.subject, row.body, msgspec.json.decode(row.headers)).event for row in rows]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path / "explainer.sqlite")
    store.open()
    store.keep_spec(SPEC, 1.0)
    yield World(store)
    store.close()


async def test_a_promoted_version_is_explained_once_however_often_it_is_promoted(world: World) -> None:
    await world.surveys.promoted(SPEC)
    await world.surveys.promoted(SPEC)
    assert await world.run() == 1
    await world.surveys.promoted(SPEC)
    assert await world.run() == 0
    [event] = world.events()
    assert isinstance(event, ModelExplained)
    assert (event.model, event.version, event.digest) == (SPEC.model, SPEC.version, SPEC.digest)
    assert (event.importance, event.effects) == (FOUND.importance, FOUND.effects)


async def test_its_state_can_be_seen_at_any_time(world: World) -> None:
    with pytest.raises(NotFound, match="no explanation of"):
        await world.surveys.look(SPEC.model, SPEC.version)
    assert (await world.surveys.ask(SPEC.model, SPEC.version)).state == "queued"
    await world.run()
    seen = await world.surveys.look(SPEC.model, SPEC.version)
    assert (seen.state, seen.attempts) == ("done", 1)
    assert seen.event is not None
    assert seen.event["explained_output"] == "probability of yes"


async def test_a_lost_worker_is_tried_again_and_then_given_up_with_the_reason(world: World) -> None:
    world.worker.answers = [WorkerLost("killed"), WorkerLost("killed again")]
    await world.surveys.promoted(SPEC)
    await world.run()
    seen = await world.surveys.look(SPEC.model, SPEC.version)
    assert (seen.state, seen.attempts) == ("failed", 2)
    assert "killed again" in seen.reason
    assert (await world.surveys.ask(SPEC.model, SPEC.version)).state == "queued"


async def test_a_registry_that_is_away_costs_no_attempt(world: World) -> None:
    world.artifacts.trouble = [Unavailable("away")]
    await world.surveys.promoted(SPEC)
    await world.run()
    assert (await world.surveys.look(SPEC.model, SPEC.version)).state == "queued"
    world.now += 10.0
    await world.run()
    seen = await world.surveys.look(SPEC.model, SPEC.version)
    assert (seen.state, seen.attempts) == ("done", 1)


async def test_what_was_running_when_the_service_ended_is_done_after_it(world: World) -> None:
    await world.surveys.promoted(SPEC)
    world.surveys._surveys.claim(world.now)
    assert await world.run() == 0
    world.surveys.recover()
    assert await world.run() == 1


async def test_what_cannot_be_explained_is_refused_in_words(world: World) -> None:
    with pytest.raises(NotFound, match="no version 9"):
        await world.surveys.ask(SPEC.model, 9)
    world.store.keep_spec(msgspec.structs.replace(SPEC, version=2, decision=None), 2.0)
    with pytest.raises(Conflict, match="there is nothing to explain"):
        await world.surveys.ask(SPEC.model, 2)


async def test_a_version_is_drawn_once_it_is_explained(world: World) -> None:
    await world.surveys.promoted(SPEC)
    with pytest.raises(NotFound, match="is queued"):
        await world.plots.of_version(SPEC.model, SPEC.version, "importance")
    await world.run()
    for kind in ("importance", "ale", "partial_dependence"):
        svg = await world.plots.of_version(SPEC.model, SPEC.version, kind)  # type: ignore[arg-type]
        assert "debt" in "".join(ET.fromstring(svg).itertext())  # noqa: S314 - our own output


async def test_a_row_is_drawn_from_its_shap_values(world: World) -> None:
    with pytest.raises(Problem):
        await world.plots.of_prediction("p1", 0, "waterfall")
    world.store.add([job := _job()])
    [taken] = world.store.claim(world.now)
    ended = msgspec.structs.replace(taken, state="done")
    shap = Shap(
        baseline=0.5,
        output=0.7,
        values=[ShapValue(column="debt", value=2.0, shap=0.2)],
        additivity_error=0.0,
        estimator="exact",
    )
    event = _explained(job, shap)
    world.store.finish(
        Ended(ended, wire.encode(event, owner="explainer", id="e1", time="t"), msgspec.json.encode(event))
    )
    svg = await world.plots.of_prediction("p1", 0, "waterfall")
    assert "debt = 2" in svg
    assert "debt" in await world.plots.of_version(SPEC.model, SPEC.version, "beeswarm")


def _job() -> Job:
    return Job(
        prediction_id="p1",
        row=0,
        trigger="policy",
        model=SPEC.model,
        version=SPEC.version,
        digest=SPEC.digest,
        label="no",
        score=0.3,
        priority=1,
        queued_at=1.0,
        deadline_at=1e9,
    )


def _explained(job: Job, shap: Shap) -> object:
    from affiant.common.events import PredictionExplained

    return PredictionExplained(
        prediction_id=job.prediction_id,
        model=job.model,
        version=job.version,
        digest=job.digest,
        row=0,
        trigger="policy",
        seed=1,
        background_digest="",
        background_rows=10,
        explained_label="no",
        explained_output="probability of no",
        explained_at="2026-11-24T09:00:00.000000Z",
        duration_ms=1.0,
        software={},
        shap=shap,
    )
