"""Working through the queue: one slot for each worker process, and a sweep for deadlines and figures."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from prometheus_client import Gauge, Histogram

from affiant.common import trace, wire
from affiant.common.delivery import retry_delay
from affiant.common.errors import Problem, Refused, Unavailable
from affiant.common.events import ExplanationFailed, ModelSpec, PredictionExplained
from affiant.explainer import domain
from affiant.explainer.actions.predictions import OWNER, Predictions, expired
from affiant.explainer.backends.artifacts import ArtifactSource
from affiant.explainer.domain import Job
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import CannotExplain, Explain, Explained, ModelFiles
from affiant.explainer.methods.pool import Worker
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
AGAIN_SECONDS = 5.0
"""Before something that another service must give is asked for again."""

MEASURE_TURNS = 5
"""Counting goes through all jobs that ever were."""

WARM_VERSIONS = 4
REASON_LENGTH = 2_000

_jobs = Gauge("affiant_explainer_jobs", "Explanation jobs by state", ["state"])
_waiting = Gauge("affiant_explainer_waiting_predictions", "Predictions whose version is not known yet")
_oldest = Gauge("affiant_explainer_oldest_queued_seconds", "Age of the oldest queued job")
_seconds = Histogram(
    "affiant_explainer_seconds",
    "Time to compute an explanation",
    ["method"],
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)


class Wakes(Protocol):
    """Something to be told that there is work: the outbox relay."""

    def wake(self) -> None: ...


class Work:
    """The queue's other end. `queued()` tells it of new jobs, `want()` of a version that should be loaded."""

    def __init__(
        self, store: Store, artifacts: ArtifactSource, settings: ExplainerSettings, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._settings = settings
        self._clock = clock
        self._bell = asyncio.Event()
        self._wanted: dict[str, ModelSpec] = {}
        self._warm_after: dict[str, float] = {}
        self.trouble: dict[int, str] = {}
        """Why a worker cannot be started, by its number; for the readiness probe."""

    def queued(self) -> None:
        """Jobs were added: look now. Whoever waits holds this bell; the next to wait gets a new one."""
        self._bell.set()
        self._bell = asyncio.Event()

    def want(self, spec: ModelSpec) -> None:
        """Let every worker load this version before its first job comes; the last few wanted are kept."""
        if spec.decision is None or spec.background_digest is None:
            return
        self._wanted.pop(spec.digest, None)
        self._wanted[spec.digest] = spec
        for digest in list(self._wanted)[:-WARM_VERSIONS]:
            del self._wanted[digest]
        self.queued()

    async def serve(self, worker: Worker, relay: Wakes) -> None:
        """Let `worker` do one thing after another until cancelled."""
        losses = 0
        try:
            while True:
                bell = self._bell
                try:
                    await worker.start()
                    self.trouble.pop(worker.number, None)
                    if not await self._next(worker, relay):
                        await _ring(bell)
                    losses = 0
                except WorkerLost as lost:
                    losses += 1
                    self.trouble[worker.number] = str(lost)
                    await asyncio.sleep(retry_delay(losses))
        finally:
            await worker.stop()

    async def sweep(self, predictions: Predictions, relay: Wakes) -> None:
        """Once a second deadlines and waiting predictions, less often the figures, until cancelled."""
        for turn in itertools.count():
            await predictions.settle()
            if await asyncio.to_thread(self._store.expire, self._clock(), self._expired):
                relay.wake()
            if turn % MEASURE_TURNS == 0:
                await self._measure()
            await asyncio.sleep(POLL_SECONDS)

    async def _next(self, worker: Worker, relay: Wakes) -> bool:
        """Do the next job, or load a version; False where there is neither."""
        job = await asyncio.to_thread(self._store.claim, self._clock())
        if job is None:
            return await self._load_next(worker)
        with structlog.contextvars.bound_contextvars(prediction_id=job.prediction_id, row=job.row, model=job.model):
            try:
                await self._do(worker, job)
            except asyncio.CancelledError:
                # The service stops: this attempt was not the row's fault.
                await asyncio.to_thread(self._store.put_back, _uncounted(job))
                raise
        relay.wake()
        return True

    async def _do(self, worker: Worker, job: Job) -> None:
        spec = await asyncio.to_thread(self._store.find_spec, job.model, job.version, job.digest)
        if job.fault or spec is None:
            await self._fail(job, job.fault or "the version is not known any more")
            return
        try:
            files = await self._files(spec)
        except Unavailable as error:
            log.warning("explanation postponed", reason=error.message)
            later = msgspec.structs.replace(_uncounted(job), not_before=self._clock() + AGAIN_SECONDS)
            await asyncio.to_thread(self._store.put_back, later)
            return
        except Problem as error:
            await self._fail(job, error.message)
            return
        question = Explain(files, job.values, job.label, job.score, list(job.methods), job.seed)
        await self._compute(worker, job, spec, question)

    async def _compute(self, worker: Worker, job: Job, spec: ModelSpec, question: Explain) -> None:
        started = time.perf_counter()
        try:
            answer = await worker.explain(question)
        except WorkerLost as lost:
            if job.attempts < self._settings.max_attempts:
                await asyncio.to_thread(self._store.put_back, job)
                self.queued()
            else:
                await self._fail(job, f"given up after {job.attempts} attempts: {lost}")
            return
        if isinstance(answer, CannotExplain):
            await self._fail(job, answer.reason)
            return
        event = self._event(job, spec, answer, dict(worker.software), time.perf_counter() - started)
        await self._done(job, event)
        for method, seconds in answer.seconds.items():
            _seconds.labels(method).observe(seconds)

    async def _done(self, job: Job, event: PredictionExplained) -> None:
        ended = msgspec.structs.replace(job, state="done", reason="", finished_at=self._clock())
        try:
            message = _message(job, event, event.explained_at)
        except Refused as error:
            await self._fail(job, str(error))
            return
        await asyncio.to_thread(self._store.finish, ended, message, msgspec.json.encode(event))
        log.info("prediction explained", milliseconds=event.duration_ms, trigger=job.trigger)

    async def _fail(self, job: Job, reason: str) -> None:
        reason = reason[:REASON_LENGTH]
        now = self._clock()
        event = domain.failed_event(job, "failed", reason, now=now)
        ended = msgspec.structs.replace(job, state="failed", reason=reason, finished_at=now)
        await asyncio.to_thread(self._store.finish, ended, _message(job, event, event.failed_at))
        log.warning("explanation failed", reason=reason, attempts=job.attempts)

    def _event(
        self, job: Job, spec: ModelSpec, answer: Explained, software: dict[str, str], seconds: float
    ) -> PredictionExplained:
        return PredictionExplained(
            prediction_id=job.prediction_id,
            model=job.model,
            version=job.version,
            digest=job.digest,
            row=job.row,
            trigger=job.trigger,
            seed=job.seed,
            background_digest=spec.background_digest or "",
            background_rows=answer.background_rows,
            explained_label=job.label,
            explained_output=answer.explained_output,
            explained_at=domain.moment(self._clock()),
            duration_ms=round(seconds * 1000, 1),
            software=software,
            anchor=answer.anchor,
            shap=answer.shap,
            counterfactuals=answer.counterfactuals,
            requested_by=job.requested_by,
            warnings=answer.warnings,
        )

    def _expired(self, job: Job) -> tuple[Job, wire.Message]:
        waited = job.deadline_at - job.queued_at
        return expired(job, f"not explained within {waited:.0f} seconds", self._clock())

    async def _load_next(self, worker: Worker) -> bool:
        """Load one of the wanted versions that this worker has not; False where there is none."""
        now = self._clock()
        for spec in list(self._wanted.values()):
            if spec.digest in worker.warm or self._warm_after.get(spec.digest, 0.0) > now:
                continue
            try:
                reason = await worker.preload(await self._files(spec))
            except Problem as error:
                reason = error.message
                self._warm_after[spec.digest] = now + AGAIN_SECONDS
            except WorkerLost:
                # A version that costs a worker its life is loaded again for a job at most, and jobs count attempts.
                self._warm_after[spec.digest] = math.inf
                raise
            if reason:
                log.warning("version not loaded", model=spec.model, version=spec.version, reason=reason)
            return True
        return False

    async def _files(self, spec: ModelSpec) -> ModelFiles:
        found = await self._artifacts.files(spec)
        return ModelFiles(spec, str(found.model), str(found.background))

    async def _measure(self) -> None:
        counts = await asyncio.to_thread(self._store.counts)
        for state, count in counts.items():
            _jobs.labels(state).set(count)
        oldest = await asyncio.to_thread(self._store.oldest_queued_at)
        _oldest.set(0.0 if oldest is None else max(0.0, self._clock() - oldest))
        _waiting.set(await asyncio.to_thread(self._store.count_waiting))


def _message(job: Job, event: PredictionExplained | ExplanationFailed, at: str) -> wire.Message:
    """Raises `Refused` where the event is too long for the bus."""
    return wire.encode(event, owner=OWNER, id=job.event_id, time=at, traceparent=trace.child_of(job.traceparent))


def _uncounted(job: Job) -> Job:
    return msgspec.structs.replace(job, attempts=job.attempts - 1)


async def _ring(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), POLL_SECONDS)
    except TimeoutError:
        return
