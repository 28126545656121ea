"""What becomes of a logged prediction: jobs by its version's policy, at once or when the version is known.

Nothing is computed here: a handler that takes long would hold up the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from affiant.common import trace, wire
from affiant.common.errors import Refused
from affiant.common.events import OUTSIDE, ModelSpec, PredictionLogged
from affiant.explainer import domain
from affiant.explainer.domain import Job
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store, Waiting

log = structlog.get_logger(__name__)

OWNER = "explainer"
MOST_SPECS = 256
SpecKey = tuple[str, int | None, str]
"""Model, version where the record names one, digest."""


class Predictions:
    """`queued` is called after jobs were added, `learnt` with each version that becomes known."""

    def __init__(
        self,
        store: Store,
        settings: ExplainerSettings,
        clock: Callable[[], float],
        queued: Callable[[], None],
        learnt: Callable[[ModelSpec], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._queued = queued
        self._learnt = learnt
        self._specs: dict[SpecKey, ModelSpec] = {}

    async def learn(self, spec: ModelSpec) -> None:
        """A version was registered or promoted: keep what it is, and plan what waited for it."""
        await asyncio.to_thread(self._store.keep_spec, spec, self._clock())
        # A newer version with the same bytes changes which one a record without a number speaks of.
        self._specs.clear()
        self._learnt(spec)
        await self._settle_arrived()

    async def consider(self, record: PredictionLogged, envelope: wire.Envelope) -> None:
        """Queue what the version's policy wants explained; see `consider_all`. Raises `Refused` for one that claims
        too much."""
        [refused] = await self.consider_all([msgspec.structs.replace(envelope, event=record)])
        if refused is not None:
            raise refused

    async def consider_all(self, envelopes: Sequence[wire.Envelope]) -> list[Refused | None]:
        """Queue what the versions' policies want explained, in one transaction; for each event why it is refused.

        A version that is not known yet is waited for: the streams are not ordered against each other. A prediction
        of an outside system whose model is not registered here cannot be explained, and is not waited for.
        """
        await self._look_up(envelopes)
        planned, waiting = list[Job](), list[Waiting]()
        answers: list[Refused | None] = []
        for envelope in envelopes:
            try:
                self._consider(envelope, planned, waiting)
            except Refused as reason:
                answers.append(reason)
            else:
                answers.append(None)
        if planned or waiting:
            await asyncio.to_thread(self._store.keep, planned, waiting)
        if planned:
            self._queued()
        return answers

    async def _look_up(self, envelopes: Sequence[wire.Envelope]) -> None:
        """Have the versions at hand that the events speak of."""
        for record in (each.event for each in envelopes):
            if isinstance(record, PredictionLogged) and (key := _key(record)) not in self._specs:
                found = await asyncio.to_thread(self._store.find_spec, *key)
                if found is not None:
                    if len(self._specs) >= MOST_SPECS:
                        self._specs.clear()
                    self._specs[key] = found

    def _consider(self, envelope: wire.Envelope, planned: list[Job], waiting: list[Waiting]) -> None:
        record = envelope.event
        if not isinstance(record, PredictionLogged):
            return
        if envelope.type.startswith(f"affiant.{OUTSIDE}."):
            domain.check_outside(record, envelope.id)
        spec = self._specs.get(_key(record))
        if spec is not None:
            planned += self._plan(spec, record, envelope.traceparent, self._clock())
        elif envelope.type.startswith("affiant.modelserver.") and record.version is not None:
            waiting += self._waiting(record, record.version, envelope.traceparent)
        else:
            log.debug("not explained: the model is not registered here", model=record.model, digest=record.digest)

    async def settle(self) -> None:
        """Plan the waiting predictions whose version is known by now, and give up those that waited too long."""
        while await self._settle_arrived():
            pass
        for waited in await asyncio.to_thread(self._store.overdue, self._clock()):
            await self._give_up(waited)

    async def _settle_arrived(self) -> int:
        arrived = await asyncio.to_thread(self._store.arrived)
        for waited, spec in arrived:
            planned = self._plan(spec, _record(waited), waited.traceparent, waited.queued_at)
            await asyncio.to_thread(self._store.settle, waited.prediction_id, planned)
        if arrived:
            self._queued()
        return len(arrived)

    def _plan(self, spec: ModelSpec, record: PredictionLogged, traceparent: str, now: float) -> list[Job]:
        return domain.plan(
            spec, record, traceparent=traceparent, now=now, deadline_seconds=self._settings.deadline_seconds
        )

    def _waiting(self, record: PredictionLogged, version: int, traceparent: str) -> list[Waiting]:
        if record.status != "answered" or not record.labels:
            return []
        now = self._clock()
        return [
            Waiting(
                prediction_id=record.prediction_id,
                model=record.model,
                version=version,
                digest=record.digest,
                record=msgspec.Raw(msgspec.json.encode(record)),
                traceparent=traceparent,
                queued_at=now,
                until=now + self._settings.wait_for_model_seconds,
            )
        ]

    async def _give_up(self, waited: Waiting) -> None:
        """Denied rows get an event that says why they have no explanation: silence would look like an oversight."""
        ended = [self._expired(job) for job in waiting_jobs(waited)]
        messages = [message for _, message in ended]
        await asyncio.to_thread(self._store.settle, waited.prediction_id, [job for job, _ in ended], messages)
        log.warning("version never became known", model=waited.model, version=waited.version, rows=len(ended))

    def _expired(self, job: Job) -> tuple[Job, wire.Message]:
        reason = f"version {job.version} of {job.model} with digest {job.digest} is not known"
        return expired(job, reason, self._clock())


def expired(job: Job, reason: str, now: float) -> tuple[Job, wire.Message]:
    """The job, expired, and the event that says so."""
    event = domain.failed_event(job, "expired", reason, now=now)
    message = wire.encode(
        event, owner=OWNER, id=job.event_id, time=event.failed_at, traceparent=trace.child_of(job.traceparent)
    )
    return msgspec.structs.replace(job, state="expired", reason=reason, finished_at=now), message


def waiting_jobs(waited: Waiting) -> list[Job]:
    """What a waiting prediction would become if its version had the default policy: a job for each denied row."""
    record = _record(waited)
    return [
        Job(
            prediction_id=waited.prediction_id,
            row=row,
            trigger="policy",
            model=waited.model,
            version=waited.version,
            digest=waited.digest,
            label=record.labels[row],
            score=None,
            priority=domain.ADVERSE,
            queued_at=waited.queued_at,
            deadline_at=waited.until,
            reason=f"waits until version {waited.version} of {waited.model} is known",
            traceparent=waited.traceparent,
        )
        for row, denied in enumerate(record.adverse)
        if denied and row < len(record.labels)
    ]


def _record(waited: Waiting) -> PredictionLogged:
    return msgspec.json.decode(waited.record, type=PredictionLogged)


def _key(record: PredictionLogged) -> SpecKey:
    return record.model, record.version, record.digest
