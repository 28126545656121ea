"""What the explainer does with predictions, requests and workers, with fakes around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from affiant.common import trace, wire
from affiant.common.errors import Conflict, NotFound, Problem, Refused, Unavailable
from affiant.common.events import (
    ExplainPolicy,
    ExplanationFailed,
    ModelSpec,
    Policy,
    PredictionExplained,
    PredictionLogged,
    Shap,
)
from affiant.explainer import domain
from affiant.explainer.actions.predictions import Predictions
from affiant.explainer.actions.requests import Requests
from affiant.explainer.actions.sweep import Sweep
from affiant.explainer.actions.work import Work
from affiant.explainer.backends.artifacts import Files
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import Answered, Batch, CannotExplain, Explained, ModelFiles, Row
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store, outbox_rows
from tests.unit.explainer.examples import SPEC, TRACE, envelope, record


@dataclass
class FakeWorker:
    """Answers with `answers`, one for each job; then with an explanation."""

    answers: list[Explained | CannotExplain | WorkerLost] = field(default_factory=list)
    asked: list[Row] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    warm: set[str] = field(default_factory=set)
    number: int = 0
    software: dict[str, str] = field(default_factory=lambda: {"alibi": "0.9.4"})

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def preload(self, files: ModelFiles) -> str:
        self.warm.add(files.spec.digest)
        return ""

    async def explain_all(self, batch: Batch, answered: Callable[[Answered], Awaitable[None]]) -> None:
        self.batches.append(len(batch.rows))
        for at, row in enumerate(batch.rows):
            self.asked.append(row)
            answer = self.answers.pop(0) if self.answers else Explained("probability of no", 10, shap=SHAP)
            if isinstance(answer, WorkerLost):
                raise answer
            await answered(Answered(at, answer))


OK = Explained("probability of no", 10)
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
        self.sweep = Sweep(self.store, self.predictions, self.settings, lambda: self.now)
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

    async def forever(*_: object) -> None:
        started.set()
        await asyncio.sleep(60)

    world.worker.explain_all = forever  # type: ignore[method-assign]
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
    sweeping = asyncio.create_task(world.sweep.run(FakeRelay()))
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


async def several(world: World, count: int) -> list[PredictionLogged]:
    await world.predictions.learn(SPEC)
    return [await logged(world, record([True])) for _ in range(count)]


async def test_a_queue_that_grows_is_taken_in_larger_batches(world: World) -> None:
    predictions = await several(world, 40)
    await world.run(30)
    assert world.worker.batches[0] == 10 and world.worker.batches[-1] == 1
    assert sum(world.worker.batches) == 40
    assert [world.states(each) for each in predictions] == [["done"]] * 40


async def test_a_poison_row_fails_and_the_others_of_its_batch_do_not(world: World) -> None:
    predictions = await several(world, 8)
    world.worker.answers = [OK, CannotExplain("poison"), CannotExplain("too late", late=True)]
    await world.run()
    assert [world.states(each)[0] for each in predictions] == ["done", "failed", "expired"] + ["done"] * 5
    assert len(world.events()) == 8


async def test_a_lost_batch_is_tried_one_by_one_and_the_loss_counts_for_nobody(world: World) -> None:
    predictions = await several(world, 8)
    world.worker.answers = [OK, WorkerLost("signal 9")]
    await world.run()
    assert world.worker.batches[0] == 2
    [(lost, _)] = world.store.jobs_of(predictions[1].prediction_id)
    assert (lost.state, lost.attempts, lost.alone) == ("done", 1, True)
    assert [world.states(each) for each in predictions] == [["done"]] * 8
    assert len(world.events()) == 8


async def test_the_row_that_costs_workers_their_lives_fails_alone(world: World) -> None:
    predictions = await several(world, 8)
    deadly = predictions[1].prediction_id
    given = world.worker.explain_all

    async def dies_of_one(batch: Batch, answered: Callable[[Answered], Awaitable[None]]) -> None:
        if any(row.seed == seed_of(deadly) for row in batch.rows):
            raise WorkerLost("signal 9")
        await given(batch, answered)

    world.worker.explain_all = dies_of_one  # type: ignore[method-assign]
    await world.run(30)
    assert [world.states(each)[0] for each in predictions] == ["done", "failed"] + ["done"] * 6
    [view] = await world.requests.explanations(deadly)
    assert (view.reason, view.attempts) == ("given up after 2 attempts: signal 9", 2)


def seed_of(prediction_id: str) -> int:
    [job] = domain.plan(
        SPEC,
        msgspec.structs.replace(record([True]), prediction_id=prediction_id),
        traceparent="",
        now=0.0,
        deadline_seconds=1.0,
    )
    return job.seed


async def test_a_row_that_cost_a_worker_its_life_beyond_its_deadline_expires(world: World) -> None:
    [prediction] = await several(world, 1)

    async def hangs(*_: object) -> None:
        world.now += world.settings.deadline_seconds + 1
        raise WorkerLost("it was killed after 30 seconds without an answer")

    world.worker.explain_all = hangs  # type: ignore[method-assign]
    await world.run(1)
    [told] = world.events()
    assert isinstance(told.event, ExplanationFailed) and told.event.state == "expired"
    assert "it was killed after 30 seconds" in told.event.reason
    assert world.states(prediction) == ["expired"]


async def test_a_worker_is_told_how_long_a_row_may_take_and_how_long_until_its_deadline(world: World) -> None:
    await several(world, 1)
    world.now += 100
    await world.run(1)
    [row] = world.worker.asked
    assert (row.work_seconds, row.left_seconds) == (30.0, 3500.0)


async def test_requests_come_before_denials_and_denials_before_the_rest_and_are_not_mixed(world: World) -> None:
    every = msgspec.structs.replace(SPEC, policy=Policy(explain=ExplainPolicy(when="all")))
    await world.predictions.learn(every)
    granted = [await logged(world, record([False])) for _ in range(6)]
    denied = [await logged(world, record([True])) for _ in range(6)]
    await world.requests.ask(granted[5].prediction_id, 0, [], "iris")
    await world.run()
    order = [each.event.prediction_id for each in world.events() if isinstance(each.event, PredictionExplained)]
    expected = [granted[5], *denied, *granted[:5]]
    assert order == [each.prediction_id for each in expected]


async def test_an_unended_batch_of_a_service_that_stops_goes_back_uncounted_and_what_ended_stays(world: World) -> None:
    predictions = await several(world, 8)
    answered_one = asyncio.Event()

    async def answers_one(_: Batch, answered: Callable[[Answered], Awaitable[None]]) -> None:
        await answered(Answered(0, OK))
        answered_one.set()
        await asyncio.sleep(60)

    world.worker.explain_all = answers_one  # type: ignore[method-assign]
    serving = asyncio.create_task(world.work.serve(world.worker, FakeRelay()))  # type: ignore[arg-type]
    await answered_one.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    jobs = [world.store.jobs_of(each.prediction_id)[0][0] for each in predictions[:2]]
    assert [(job.state, job.attempts) for job in jobs] == [("done", 1), ("queued", 0)]


def test_batches_are_small_while_few_wait_and_never_take_long() -> None:
    assert [domain.batch_size(waiting, 2, None) for waiting in (1, 4, 5, 40, 1000)] == [1, 1, 2, 10, 32]
    assert domain.batch_size(1000, 2, 0.5) == 4
    assert domain.batch_size(1000, 2, 60.0) == 1


def test_the_same_share_of_explanations_is_always_tried_with_other_seeds() -> None:
    [job] = domain.plan(SPEC, record([True]), traceparent="", now=0.0, deadline_seconds=1.0)
    assert (domain.tried_with(job, 0.0), domain.tried_with(job, 1.0)) == (1, domain.STABILITY_SEEDS)
    jobs = [msgspec.structs.replace(job, prediction_id=str(at)) for at in range(1000)]
    tried = [each for each in jobs if domain.tried_with(each, 0.1) > 1]
    assert 60 < len(tried) < 140
    assert all(domain.tried_with(each, 0.1) > 1 for each in tried)


async def test_a_request_may_have_a_deadline_of_its_own(world: World) -> None:
    [prediction] = await several(world, 1)
    world.records.known[prediction.prediction_id] = prediction
    view = await world.requests.ask(prediction.prediction_id, 0, ["counterfactual"], "iris", deadline_seconds=5.0)
    [waiting] = [each for each in await world.requests.listed("queued", "loan", 10) if each.trigger == "request"]
    assert (waiting.prediction_id, waiting.deadline_at) == (view.prediction_id, domain.moment(world.now + 5))
    assert await world.requests.listed("queued", "other", 10) == []
    world.now += 6
    await world.run()
    asked = [job for job, _ in world.store.jobs_of(prediction.prediction_id) if job.trigger == "request"]
    assert [job.state for job in asked] == ["queued"]  # until the sweep says that it has expired
