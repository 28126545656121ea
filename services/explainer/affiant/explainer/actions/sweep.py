"""What is done every second beside the work: deadlines, waiting predictions, figures, and what may be forgotten."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import structlog
from prometheus_client import Gauge

from affiant.common import wire
from affiant.explainer.actions.predictions import Predictions, expired
from affiant.explainer.actions.work import Wakes
from affiant.explainer.domain import Job
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
MEASURE_TURNS = 5
"""Counting goes through all jobs that are kept."""

FORGET_TURNS = 60
FORGET_JOBS = 1_000
DAY = 86_400.0

_jobs = Gauge("affiant_explainer_jobs", "Explanation jobs by state", ["state"])
_waiting = Gauge("affiant_explainer_waiting_predictions", "Predictions whose version is not known yet")
_oldest = Gauge("affiant_explainer_oldest_queued_seconds", "Age of the oldest queued job")


class Sweep:
    """Runs beside the workers until cancelled."""

    def __init__(
        self, store: Store, predictions: Predictions, settings: ExplainerSettings, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._predictions = predictions
        self._settings = settings
        self._clock = clock

    async def run(self, relay: Wakes) -> None:
        """Once a second deadlines and waiting predictions, less often figures and what is old."""
        for turn in itertools.count():
            await self._predictions.settle()
            if await asyncio.to_thread(self._store.expire, self._clock(), self._expired):
                relay.wake()
            if turn % MEASURE_TURNS == 0:
                await self._measure()
            if turn % FORGET_TURNS == 0:
                await self._forget()
            await asyncio.sleep(POLL_SECONDS)

    def _expired(self, job: Job) -> tuple[Job, wire.Message]:
        waited = job.deadline_at - job.queued_at
        return expired(job, f"not explained within {waited:.0f} seconds", self._clock())

    async def _measure(self) -> None:
        counts = await asyncio.to_thread(self._store.counts)
        for state, count in counts.items():
            _jobs.labels(state).set(count)
        oldest = await asyncio.to_thread(self._store.oldest_queued_at)
        _oldest.set(0.0 if oldest is None else max(0.0, self._clock() - oldest))
        _waiting.set(await asyncio.to_thread(self._store.count_waiting))

    async def _forget(self) -> None:
        """Ended jobs are kept to be looked up here; what they found is in the auditor's record for good."""
        if not self._settings.retention_days:
            return
        before = self._clock() - self._settings.retention_days * DAY
        forgotten = 0
        while found := await asyncio.to_thread(self._store.forget, before, FORGET_JOBS):
            forgotten += found
        if forgotten:
            log.info("ended jobs forgotten", jobs=forgotten)
