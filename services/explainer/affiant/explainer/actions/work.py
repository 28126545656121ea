"""Working through the queue: one slot for each worker process, which takes jobs of one version in batches."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog
from prometheus_client import Histogram

from affiant.common.delivery import retry_delay
from affiant.common.errors import Problem, Unavailable
from affiant.common.events import ModelSpec
from affiant.explainer import domain
from affiant.explainer.actions import outcomes
from affiant.explainer.backends.artifacts import ArtifactSource
from affiant.explainer.domain import Job
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import Answered, Batch, CannotExplain, Explained, ModelFiles, Row
from affiant.explainer.methods.pool import Worker
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Ended, Store

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
AGAIN_SECONDS = 5.0
"""Before something that another service must give is asked for again."""

KEEP_SECONDS = 0.05
"""Answers that come within so long are kept in one transaction: each costs a sync of the disk."""

WARM_VERSIONS = 4
NEW_WEIGHT = 0.1
"""Of the last explanation in the mean time of a version's."""

_seconds = Histogram(
    "affiant_explainer_seconds",
    "Time to compute an explanation",
    ["method"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_waited = Histogram(
    "affiant_explainer_waited_seconds",
    "Time from being queued to being explained",
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600),
)
_batches = Histogram("affiant_explainer_batch_jobs", "Jobs that a worker took at once", buckets=(1, 2, 4, 8, 16, 32))


class Wakes(Protocol):
    """Something to be told that there is work: the outbox relay."""

    def wake(self) -> None: ...


class Work:
    """The queue's other end. `queued()` tells it of new jobs, `want()` of a version that should be loaded."""

    def __init__(
        self, store: Store, artifacts: ArtifactSource, settings: ExplainerSettings, clock: Callable[[], float]
    ) -> None:
        self.spare: Callable[[Worker, Wakes], Awaitable[bool]] | None = None
        """What a worker does that has nothing else to do; it answers whether it did anything."""
        self._store = store
        self._artifacts = artifacts
        self._settings = settings
        self._clock = clock
        self._bell = asyncio.Event()
        self._wanted: dict[str, ModelSpec] = {}
        self._warm_after: dict[str, float] = {}
        self._mean_seconds: dict[str, float] = {}
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

    async def _next(self, worker: Worker, relay: Wakes) -> bool:
        """Do the next jobs, or load a version; False where there is neither."""
        taken = await asyncio.to_thread(self._store.claim, self._clock(), self._room)
        if not taken:
            return await self._load_next(worker) or (self.spare is not None and await self.spare(worker, relay))
        _batches.observe(len(taken))
        left = {(job.prediction_id, job.row, job.trigger): job for job in taken}
        with structlog.contextvars.bound_contextvars(model=taken[0].model, version=taken[0].version):
            try:
                await self._do(worker, taken, _Keeper(self._store, relay, left))
            except asyncio.CancelledError:
                # The service stops: this attempt was not the rows' fault.
                await asyncio.to_thread(self._store.put_back, *map(_uncounted, left.values()))
                raise
        return True

    def _room(self, first: Job, waiting: int) -> int:
        return domain.batch_size(waiting, self._settings.workers, self._mean_seconds.get(first.digest))

    async def _do(self, worker: Worker, taken: list[Job], keeper: _Keeper) -> None:
        first = taken[0]
        spec = await asyncio.to_thread(self._store.find_spec, first.model, first.version, first.digest)
        good = [job for job in taken if spec is not None and not job.fault]
        faulty = [job for job in taken if spec is None or job.fault]
        unknown = "the version is not known any more"
        await keeper.keep(*(outcomes.failed(job, job.fault or unknown, self._clock()) for job in faulty))
        if spec is None or not good:
            return
        try:
            files = await self._files(spec)
        except Unavailable as error:
            log.warning("explanations postponed", reason=error.message, jobs=len(good))
            later = self._clock() + AGAIN_SECONDS
            await keeper.put_back(*(msgspec.structs.replace(_uncounted(job), not_before=later) for job in good))
        except Problem as error:
            await keeper.keep(*(outcomes.failed(job, error.message, self._clock()) for job in good))
        else:
            await self._compute(worker, good, files, keeper)

    async def _compute(self, worker: Worker, given: list[Job], files: ModelFiles, keeper: _Keeper) -> None:
        async def answered(reply: Answered) -> None:
            job = given[reply.at]
            self._note(job, reply.answer)
            await keeper.take(outcomes.answered(job, files.spec, reply.answer, worker.software, self._clock()))

        rows = [self._row(job, files.spec) for job in given]
        try:
            await worker.explain_all(Batch(files, rows), answered)
        except WorkerLost as lost:
            await keeper.flush()
            await self._lost([job for job in given if keeper.holds(job)], len(given), lost, keeper)
        await keeper.flush()

    async def _lost(self, unanswered: list[Job], size: int, lost: WorkerLost, keeper: _Keeper) -> None:
        """Of several rows nobody knows which one cost the worker its life: each is tried once more, alone, and the
        loss counts for none of them. A row that was alone has used up an attempt."""
        now = self._clock()
        too_late = [job for job in unanswered if job.deadline_at <= now]
        await keeper.keep(*(outcomes.late(job, f"not explained before its deadline: {lost}", now) for job in too_late))
        again = [job for job in unanswered if job.deadline_at > now]
        if size > 1:
            await keeper.put_back(*(msgspec.structs.replace(_uncounted(job), alone=True) for job in again))
        elif again and again[0].attempts < self._settings.max_attempts:
            await keeper.put_back(again[0])
        else:
            reason = f"given up after {self._settings.max_attempts} attempts: {lost}"
            await keeper.keep(*(outcomes.failed(job, reason, now) for job in again))
        self.queued()

    def _row(self, job: Job, spec: ModelSpec) -> Row:
        return Row(
            values=job.values,
            label=job.label,
            score=job.score,
            methods=list(job.methods),
            seed=job.seed,
            work_seconds=self._settings.run_seconds,
            left_seconds=max(0.0, job.deadline_at - self._clock()),
            seeds=domain.tried_with(job, spec.policy.explain.stability_rate),
        )

    def _note(self, job: Job, answer: Explained | CannotExplain) -> None:
        if isinstance(answer, CannotExplain):
            return
        for method, seconds in answer.seconds.items():
            _seconds.labels(method).observe(seconds)
        _waited.observe(max(0.0, self._clock() - job.queued_at))
        spent = sum(answer.seconds.values())
        before = self._mean_seconds.get(job.digest, spent)
        self._mean_seconds[job.digest] = before + NEW_WEIGHT * (spent - before)

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


class _Keeper:
    """Brings what became of a batch's jobs to the disk; `left` are those that are still running."""

    def __init__(self, store: Store, relay: Wakes, left: dict[tuple[str, int, domain.Trigger], Job]) -> None:
        self._store = store
        self._relay = relay
        self._left = left
        self._waiting: list[Ended] = []
        self._kept_at = 0.0

    def holds(self, job: Job) -> bool:
        """Whether nothing became of a job yet."""
        return (job.prediction_id, job.row, job.trigger) in self._left

    async def take(self, ended: Ended) -> None:
        """A job has ended; it is kept with others that end about now."""
        self._waiting.append(ended)
        if time.monotonic() - self._kept_at > KEEP_SECONDS:
            await self.flush()

    async def keep(self, *ended: Ended) -> None:
        """Jobs have ended; they are kept now."""
        self._waiting += ended
        await self.flush()

    async def flush(self) -> None:
        """Keep what waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        await asyncio.to_thread(self._store.finish, *waiting)
        self._kept_at = time.monotonic()
        for each in waiting:
            del self._left[each.job.prediction_id, each.job.row, each.job.trigger]
            _tell(each.job)
        self._relay.wake()

    async def put_back(self, *given: Job) -> None:
        """Jobs wait again."""
        await asyncio.to_thread(self._store.put_back, *given)
        for job in given:
            del self._left[job.prediction_id, job.row, job.trigger]


def _tell(job: Job) -> None:
    ids = {"prediction_id": job.prediction_id, "row": job.row, "trigger": job.trigger}
    if job.state == "done":
        log.info("prediction explained", **ids)
    else:
        log.warning("explanation failed", state=job.state, reason=job.reason, attempts=job.attempts, **ids)


def _uncounted(job: Job) -> Job:
    return msgspec.structs.replace(job, attempts=job.attempts - 1)


async def _ring(bell: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(bell.wait(), POLL_SECONDS)
    except TimeoutError:
        return
