"""Explanations on request, and what can be told about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from affiant.common import trace
from affiant.common.errors import Conflict, NotFound, Problem
from affiant.common.events import ModelSpec, PredictionLogged
from affiant.explainer import domain
from affiant.explainer.actions.predictions import waiting_jobs
from affiant.explainer.backends.records import RecordSource
from affiant.explainer.domain import OPEN, Job, Method, State, Trigger
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store


@dataclass(frozen=True)
class Explanation:
    """One row's explanation as it stands. `event` is the body of `prediction_explained`, once it is done."""

    prediction_id: str
    row: int
    state: State
    trigger: Trigger
    priority: int
    methods: list[Method]
    attempts: int
    model: str
    version: int
    queued_at: str
    deadline_at: str
    started_at: str | None
    finished_at: str | None
    reason: str
    event: dict[str, Any] | None


@dataclass(frozen=True)
class Queue:
    """How many jobs are in each state; `waiting`: predictions whose version is not known yet."""

    queued: int
    running: int
    done: int
    failed: int
    expired: int
    waiting: int
    oldest_queued_seconds: float


class Requests:
    """`queued` is called after a job was added."""

    def __init__(
        self,
        store: Store,
        records: RecordSource,
        settings: ExplainerSettings,
        clock: Callable[[], float],
        queued: Callable[[], None],
    ) -> None:
        self._store = store
        self._records = records
        self._settings = settings
        self._clock = clock
        self._queued = queued

    async def ask(
        self,
        prediction_id: str,
        row: int,
        methods: list[Method],
        person: str,
        deadline_seconds: float | None = None,
    ) -> Explanation:
        """Explain a row now, before all others, and not at all once `deadline_seconds` have passed.

        What is explained already with these methods is not computed again; what is queued by policy is moved to the
        front; what failed is tried once more. Raises `Problem` where there is nothing that could be explained.
        """
        wanted = methods or list(domain.DEFAULT_METHODS)
        known = await asyncio.to_thread(self._store.jobs_of, prediction_id, row)
        for job, result in known:
            if set(wanted) <= set(job.methods) and (job.state in OPEN or job.state == "done"):
                return _view(await self._to_the_front(job), result)
        job = await self._new_job(prediction_id, row, wanted, person, [job for job, _ in known])
        if deadline_seconds is not None:
            job = msgspec.structs.replace(job, deadline_at=job.queued_at + deadline_seconds)
        if not await asyncio.to_thread(self._store.replace, job):
            raise Conflict(
                f"an explanation of row {row} of prediction {prediction_id} is under way",
                hint="ask again when it is done",
            )
        self._queued()
        return _view(job, None)

    async def explanations(self, prediction_id: str) -> list[Explanation]:
        """Every explanation of a prediction, in the order of rows. Raises `NotFound` where none was asked for."""
        known = await asyncio.to_thread(self._store.jobs_of, prediction_id)
        if known:
            return [_view(job, result) for job, result in known]
        waited = await asyncio.to_thread(self._store.waiting_for, prediction_id)
        if waited is None:
            raise NotFound(
                f"no explanation of prediction {prediction_id} was asked for",
                hint="the version's policy did not choose it, or it is still to be read; POST /v1/explanations asks",
            )
        return [_view(job, None) for job in waiting_jobs(waited)]

    async def listed(self, state: State, model: str | None, limit: int) -> list[Explanation]:
        """Explanations in a state, of one model or of all, the oldest first; without the events."""
        found = await asyncio.to_thread(self._store.listed, state, model, limit)
        return [_view(job, None) for job in found]

    async def queue(self) -> Queue:
        """How much there is to do."""
        counts = await asyncio.to_thread(self._store.counts)
        oldest = await asyncio.to_thread(self._store.oldest_queued_at)
        waiting = await asyncio.to_thread(self._store.count_waiting)
        age = 0.0 if oldest is None else max(0.0, self._clock() - oldest)
        return Queue(**counts, waiting=waiting, oldest_queued_seconds=round(age, 3))

    async def _to_the_front(self, job: Job) -> Job:
        if job.state != "queued" or job.priority == domain.ON_REQUEST:
            return job
        moved = await asyncio.to_thread(self._store.move, job, domain.ON_REQUEST)
        self._queued()
        return moved

    async def _new_job(self, prediction_id: str, row: int, methods: list[Method], person: str, known: list[Job]) -> Job:
        rounds = [job.round for job in known if job.trigger == "request"]
        job = known[0] if known else await self._job_on_record(prediction_id, row)
        now = self._clock()
        return msgspec.structs.replace(
            job,
            trigger="request",
            state="queued",
            methods=methods,
            priority=domain.ON_REQUEST,
            round=max(rounds, default=0) + 1,
            attempts=0,
            queued_at=now,
            deadline_at=now + self._settings.deadline_seconds,
            not_before=0.0,
            started_at=None,
            finished_at=None,
            reason="",
            requested_by=person,
        )

    async def _job_on_record(self, prediction_id: str, row: int) -> Job:
        """A job for a row that this service has not seen or did not choose, from the auditor's record."""
        record = await self._records.record(prediction_id)
        spec = await asyncio.to_thread(self._store.find_spec, record.model, record.version, record.digest)
        return domain.job_for(
            _explainable(spec, record, row),
            record,
            row,
            trigger="request",
            methods=list(domain.DEFAULT_METHODS),
            traceparent=trace.new_traceparent(),
            now=self._clock(),
            deadline_seconds=self._settings.deadline_seconds,
        )


def _explainable(spec: ModelSpec | None, record: PredictionLogged, row: int) -> ModelSpec:
    if record.status != "answered":
        raise Conflict(f"prediction {record.prediction_id} was not answered: {record.error or 'it failed'}")
    if spec is None:
        raise NotFound(
            f"the model of prediction {record.prediction_id} is not registered here: {record.model} {record.digest}",
            hint="only predictions of registered versions can be explained",
        )
    if spec.decision is None:
        raise _without_decision(spec)
    if not 0 <= row < len(record.labels):
        raise Problem(f"prediction {record.prediction_id} has no row {row}", hint=f"it has {len(record.labels)} rows")
    return spec


def _without_decision(spec: ModelSpec) -> Conflict:
    return Conflict(
        f"{spec.model} version {spec.version}: this version has no decision: nothing to explain",
        hint="register a version that names its favourable label",
    )


def _view(job: Job, result: bytes | None) -> Explanation:
    return Explanation(
        prediction_id=job.prediction_id,
        row=job.row,
        state=job.state,
        trigger=job.trigger,
        priority=job.priority,
        methods=job.methods,
        attempts=job.attempts,
        model=job.model,
        version=job.version,
        queued_at=domain.moment(job.queued_at),
        deadline_at=domain.moment(job.deadline_at),
        started_at=None if job.started_at is None else domain.moment(job.started_at),
        finished_at=None if job.finished_at is None else domain.moment(job.finished_at),
        reason=job.reason,
        event=None if result is None else msgspec.json.decode(result),
    )
