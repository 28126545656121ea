"""What the explainer does with predictions, requests and workers, with fakes around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from affiant.common import trace, wire
from affiant.common.errors import Conflict, NotFound, Problem, Refused, Unavailable
from affiant.common.events import ExplanationFailed, ModelSpec, PredictionExplained, PredictionLogged, Shap
from affiant.explainer.actions.predictions import Predictions
from affiant.explainer.actions.requests import Requests
from affiant.explainer.actions.work import Work
from affiant.explainer.backends.artifacts import Files
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import CannotExplain, Explain, Explained, ModelFiles
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store, outbox_rows
from tests.unit.explainer.examples import SPEC, TRACE, envelope, record


@dataclass
class FakeWorker:
    """Answers with `answers`, one for each job; then with an explanation."""

    answers: list[Explained | CannotExplain | WorkerLost] = field(default_factory=list)
    asked: list[Explain] = field(default_factory=list)
    warm: set[str] = field(default_factory=set)
    number: int = 0
    software: dict[str, str] = field(default_factory=lambda: {"alibi": "0.9.4"})

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def preload(self, files: ModelFiles) -> str:
        self.warm.add(files.spec.digest)
        return ""

    async def explain(self, job: Explain) -> Explained | CannotExplain:
        self.asked.append(job)
        answer = self.answers.pop(0) if self.answers else Explained("probability of no", 10, shap=SHAP)
        if isinstance(answer, WorkerLost):
            raise answer
        return answer


SHAP = Shap(baseline=0.2, output=0.8, values=[], additivity_error=0.0, estimator="fake")


@dataclass
class FakeArtifacts:
    trouble: list[Problem] = field(default_factory=list)

    async def files(self, _: ModelSpec) -> Files:
        if self.trouble:
            raise self.trouble.pop(0)
        return Files(Path("model"), Path("background"))


@dataclass
class FakeRecords:
    known: dict[str, PredictionLogged] = field(default_factory=dict)

    async def record(self, prediction_id: str) -> PredictionLogged:
        if prediction_id not in self.known:
            raise NotFound("the auditor has no such prediction", hint="wait")
        return self.known[prediction_id]


class FakeRelay:
    def wake(self) -> None: ...


@dataclass
class World:
    """An explainer on a real store, with a clock that stands still until it is moved."""

    store: Store
    now: float = 1_000.0
    settings: ExplainerSettings = field(default_factory=ExplainerSettings)
    worker: FakeWorker = field(default_factory=FakeWorker)
    artifacts: FakeArtifacts = field(default_factory=FakeArtifacts)
    records: FakeRecords = field(default_factory=FakeRecords)

    def __post_init__(self) -> None:
        self.work = Work(self.store, self.artifacts, self.settings, lambda: self.now)
        self.predictions = Predictions(self.store, self.settings, lambda: self.now, self.work.queued, self.work.want)
        self.requests = Requests(self.store, self.records, self.settings, lambda: self.now, self.work.queued)

    async def run(self, steps: int = 20) -> None:
        """Let the worker do what there is to do."""
        for _ in range(steps):
            await self.work._next(self.worker, FakeRelay())  # type: ignore[arg-type]

    def events(self) -> list[wire.Envelope]:
        with self.store.engine.connect() as connection:
            rows = connection.execute(select(outbox_rows).order_by(outbox_rows.c.sequence)).all()
        return [wire.decode(row.subject, row.body, msgspec.json.decode(row.headers)) for row in rows]

    def states(self, prediction: PredictionLogged) -> list[str]:
        return [job.state for job, _ in self.store.jobs_of(prediction.prediction_id)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path / "explainer.sqlite")
    store.open()
    yield World(store)
    store.close()


async def logged(world: World, prediction: PredictionLogged, owner: str = "modelserver") -> PredictionLogged:
    await world.predictions.consider(prediction, envelope(prediction, owner))
    return prediction


async def test_each_denied_row_is_explained_once_and_its_trace_goes_on(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True, False, True]))
    await logged(world, prediction)
    await world.run()
    events = world.events()
    assert [type(each.event) for each in events] == [PredictionExplained, PredictionExplained]
    assert [each.event.row for each in events if isinstance(each.event, PredictionExplained)] == [0, 2]
    assert {trace.trace_id(each.traceparent) for each in events} == {trace.trace_id(TRACE)}
    assert world.states(prediction) == ["done", "done"]
    assert [job.values for job in world.worker.asked] == [[0.0, "clerk"], [2.0, "clerk"]]


async def test_a_prediction_waits_for_the_version_that_made_it(world: World) -> None:
    prediction = await logged(world, record([True]))
    await world.run()
    assert world.states(prediction) == [] and world.events() == []
    [view] = await world.requests.explanations(prediction.prediction_id)
    assert (view.state, view.reason) == ("queued", "waits until version 1 of loan is known")
    await world.predictions.learn(SPEC)
    await world.run()
    assert world.states(prediction) == ["done"]
    assert (await world.requests.queue()).waiting == 0


async def test_a_prediction_of_a_version_that_never_becomes_known_expires_with_a_reason(world: World) -> None:
    prediction = await logged(world, record([True, False], version=9))
    world.now += world.settings.wait_for_model_seconds
    await world.predictions.settle()
    [told] = world.events()
    assert isinstance(told.event, ExplanationFailed)
    assert (told.event.state, told.event.row) == ("expired", 0)
    assert "version 9 of loan" in told.event.reason
    assert world.states(prediction) == ["expired"]


async def test_a_prediction_of_an_outside_model_is_not_explained(world: World) -> None:
    for version in (None, 7):
        prediction = await logged(world, record([True], version=version, digest="sha256:other"), "outside")
        with pytest.raises(NotFound):
            await world.requests.explanations(prediction.prediction_id)
    world.now += 10_000
    await world.predictions.settle()
    assert world.events() == []


async def test_a_prediction_made_outside_by_a_registered_model_is_explained(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True], version=None), "outside")
    await world.run()
    assert world.states(prediction) == ["done"]


async def test_an_outside_event_that_claims_more_than_it_holds_is_refused(world: World) -> None:
    await world.predictions.learn(SPEC)
    more_decisions = msgspec.structs.replace(record([True]), adverse=[True] * 3)
    too_many = record([True] * 1_001)
    for claimed in (more_decisions, too_many):
        with pytest.raises(Refused, match="rows"):
            await logged(world, claimed, "outside")
    another = msgspec.structs.replace(envelope(record([True]), "outside"), id="another's")
    with pytest.raises(Refused, match="must be its prediction_id"):
        await world.predictions.consider(record([True]), another)
    await world.run()
    assert world.events() == []


async def test_a_row_that_cannot_be_explained_fails_at_once_and_harms_no_other(world: World) -> None:
    await world.predictions.learn(SPEC)
    world.worker.answers = [CannotExplain("job = 'astronaut' does not occur in the background")]
    poison, good = await logged(world, record([True])), await logged(world, record([True]))
    await world.run()
    assert (world.states(poison), world.states(good)) == (["failed"], ["done"])
    told = world.events()[0].event
    assert isinstance(told, ExplanationFailed)
    assert (told.reason, told.attempts) == ("job = 'astronaut' does not occur in the background", 1)


async def test_a_record_that_does_not_hold_its_row_fails_without_a_worker(world: World) -> None:
    await world.predictions.learn(SPEC)
    broken = await logged(world, msgspec.structs.replace(record([True]), inputs=[]))
    await world.run()
    assert world.states(broken) == ["failed"] and world.worker.asked == []
    [view] = await world.requests.explanations(broken.prediction_id)
    assert view.reason == "the record has no input 'income'"


async def test_a_job_whose_worker_was_lost_is_tried_again_a_limited_number_of_times(world: World) -> None:
    await world.predictions.learn(SPEC)
    world.worker.answers = [WorkerLost("signal 9")]
    unlucky = await logged(world, record([True]))
    await world.run()
    assert world.states(unlucky) == ["done"]
    world.worker.answers = [WorkerLost("signal 9")] * 5
    runaway = await logged(world, record([True]))
    await world.run()
    assert world.states(runaway) == ["failed"]
    [view] = await world.requests.explanations(runaway.prediction_id)
    assert (view.reason, view.attempts) == ("given up after 2 attempts: signal 9", 2)


async def test_an_absent_registry_is_waited_for_and_costs_no_attempt(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True]))
    world.artifacts.trouble = [Unavailable("the registry cannot be reached")]
    await world.run(1)
    assert world.states(prediction) == ["queued"]
    world.now += 10
    await world.run(1)
    [(job, _)] = world.store.jobs_of(prediction.prediction_id)
    assert (job.state, job.attempts) == ("done", 1)


async def test_an_artifact_that_the_registry_does_not_have_fails_the_job(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True]))
    world.artifacts.trouble = [NotFound("the registry has no such artifact")]
    await world.run(1)
    assert world.states(prediction) == ["failed"]


async def test_a_version_is_loaded_before_its_first_prediction(world: World) -> None:
    await world.predictions.learn(SPEC)
    await world.run(1)
    assert world.worker.warm == {SPEC.digest}


async def test_anybody_may_ask_for_a_row_that_was_not_chosen(world: World) -> None:
    await world.predictions.learn(SPEC)
    granted = record([False])
    world.records.known[granted.prediction_id] = granted
    view = await world.requests.ask(granted.prediction_id, 0, ["shap"], "iris")
    assert (view.state, view.trigger, view.methods) == ("queued", "request", ["shap"])
    await world.run(1)
    [told] = world.events()
    assert isinstance(told.event, PredictionExplained)
    assert (told.event.requested_by, told.event.trigger) == ("iris", "request")
    again = await world.requests.ask(granted.prediction_id, 0, ["shap"], "omar")
    assert again.state == "done" and again.event is not None
    await world.run(2)
    assert len(world.events()) == 1


async def test_asking_for_a_queued_row_moves_it_to_the_front(world: World) -> None:
    await world.predictions.learn(SPEC)
    first, second = await logged(world, record([True])), await logged(world, record([True]))
    view = await world.requests.ask(second.prediction_id, 0, [], "iris")
    assert (view.trigger, view.priority) == ("policy", 0)
    await world.run(1)
    assert (world.states(first), world.states(second)) == (["queued"], ["done"])


async def test_asking_again_for_a_failed_row_is_a_new_round_with_a_new_event(world: World) -> None:
    await world.predictions.learn(SPEC)
    world.worker.answers = [CannotExplain("no")] * 2
    prediction = await logged(world, record([True]))
    await world.run(1)
    for _ in range(2):
        await world.requests.ask(prediction.prediction_id, 0, [], "iris")
        await world.run(1)
    assert [type(each.event) for each in world.events()] == [ExplanationFailed, ExplanationFailed, PredictionExplained]
    assert len({each.id for each in world.events()}) == 3


async def test_a_prediction_that_nobody_knows_is_not_found_with_a_hint(world: World) -> None:
    with pytest.raises(NotFound) as refused:
        await world.requests.ask("unknown", 0, [], "iris")
    assert refused.value.hint == "wait"


async def test_a_row_that_does_not_exist_and_a_failed_request_are_refused(world: World) -> None:
    await world.predictions.learn(SPEC)
    good, failed = record([False]), record([False], status="failed")
    world.records.known = {good.prediction_id: good, failed.prediction_id: failed}
    with pytest.raises(Problem, match="has no row 3"):
        await world.requests.ask(good.prediction_id, 3, [], "iris")
    with pytest.raises(Conflict, match="was not answered"):
        await world.requests.ask(failed.prediction_id, 0, [], "iris")


async def test_a_version_that_decides_nothing_has_nothing_to_explain(world: World) -> None:
    await world.predictions.learn(msgspec.structs.replace(SPEC, decision=None))
    made = msgspec.structs.replace(record([False]), labels=[], scores=[], adverse=[])
    world.records.known = {made.prediction_id: made}
    with pytest.raises(Conflict, match="this version has no decision: nothing to explain"):
        await world.requests.ask(made.prediction_id, 0, [], "iris")


async def test_a_job_under_way_is_finished_before_other_methods_are_tried(world: World) -> None:
    await world.predictions.learn(SPEC)
    granted = record([False])
    world.records.known[granted.prediction_id] = granted
    await world.requests.ask(granted.prediction_id, 0, ["shap"], "iris")
    with pytest.raises(Conflict, match="under way"):
        await world.requests.ask(granted.prediction_id, 0, ["anchor"], "iris")


async def test_a_service_that_stops_puts_its_job_back_without_counting_it(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True]))
    started = asyncio.Event()

    async def forever(_: Explain) -> Explained:
        started.set()
        await asyncio.sleep(60)
        raise AssertionError

    world.worker.explain = forever  # type: ignore[method-assign]
    serving = asyncio.create_task(world.work.serve(world.worker, FakeRelay()))  # type: ignore[arg-type]
    await started.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    [(job, _)] = world.store.jobs_of(prediction.prediction_id)
    assert (job.state, job.attempts) == ("queued", 0)


async def test_a_job_that_nobody_got_to_in_time_expires_with_an_event(world: World) -> None:
    await world.predictions.learn(SPEC)
    prediction = await logged(world, record([True]))
    world.now += world.settings.deadline_seconds
    sweeping = asyncio.create_task(world.work.sweep(world.predictions, FakeRelay()))
    async with asyncio.timeout(5):
        while world.states(prediction) != ["expired"]:
            await asyncio.sleep(0.01)
    sweeping.cancel()
    [told] = world.events()
    assert isinstance(told.event, ExplanationFailed)
    assert (told.event.state, told.event.reason) == ("expired", "not explained within 3600 seconds")


async def test_a_version_that_kills_its_worker_is_not_loaded_ahead_again(world: World) -> None:
    await world.predictions.learn(SPEC)
    loads = []

    async def killing(files: ModelFiles) -> str:
        loads.append(files)
        raise WorkerLost("signal 9")

    world.worker.preload = killing  # type: ignore[method-assign]
    with pytest.raises(WorkerLost):
        await world.run(1)
    await world.run(3)
    assert len(loads) == 1
