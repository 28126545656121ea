"""Versions explained as a whole: asked for when they are promoted, done by a worker that has time, told by an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from affiant.common import trace, wire
from affiant.common.errors import Conflict, NotFound, Problem, Refused, Unavailable
from affiant.common.events import ModelExplained, ModelSpec
from affiant.explainer import domain
from affiant.explainer.actions.predictions import OWNER
from affiant.explainer.actions.work import AGAIN_SECONDS, Wakes
from affiant.explainer.backends.artifacts import ArtifactSource
from affiant.explainer.domain import State, Survey
from affiant.explainer.methods import messages
from affiant.explainer.methods.errors import WorkerLost
from affiant.explainer.methods.messages import CannotExplain, ModelFiles, Overview
from affiant.explainer.methods.pool import Worker
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store, Surveys

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class VersionExplanation:
    """A version's explanation as it stands. `event` is the body of `model_explained`, once it is done."""

    model: str
    version: int
    state: State
    queued_at: str
    finished_at: str | None
    attempts: int
    reason: str
    event: dict[str, Any] | None


class Surveying:
    """`queued` is called after a survey was added."""

    def __init__(
        self,
        store: Store,
        artifacts: ArtifactSource,
        settings: ExplainerSettings,
        clock: Callable[[], float],
        queued: Callable[[], None],
    ) -> None:
        self._store = store
        self._surveys = Surveys(store)
        self._artifacts = artifacts
        self._settings = settings
        self._clock = clock
        self._queued = queued

    def recover(self) -> None:
        """Queue again what was running when the last process ended."""
        self._surveys.recover()

    async def promoted(self, spec: ModelSpec) -> None:
        """Have a promoted version explained, unless it is already or has nothing to explain."""
        if spec.decision is not None and spec.background_digest is not None:
            await self._add(spec)

    async def ask(self, model: str, version: int) -> VersionExplanation:
        """Have a version explained, and see how that stands. Raises `NotFound` or `Conflict` in words."""
        spec = await asyncio.to_thread(self._store.find_version, model, version)
        if spec is None:
            raise NotFound(f"no version {version} of {model} is registered here", hint="affiant models shows them")
        if spec.decision is None or spec.background_digest is None:
            raise Conflict(
                f"{model} version {version} has no decision or no background: there is nothing to explain",
                hint="register a version that names its favourable outcome and brings background data",
            )
        await self._add(spec)
        return await self.look(model, version)

    async def look(self, model: str, version: int) -> VersionExplanation:
        """How a version's explanation stands. Raises `NotFound` where none was asked for."""
        found = await asyncio.to_thread(self._surveys.find, model, version)
        if found is None:
            raise NotFound(
                f"no explanation of {model} version {version} as a whole was asked for",
                hint=f"it is made when the version is promoted; affiant explain-model {model}/{version} asks for it",
            )
        survey, result = found
        return VersionExplanation(
            model=survey.model,
            version=survey.version,
            state=survey.state,
            queued_at=domain.moment(survey.queued_at),
            finished_at=None if survey.finished_at is None else domain.moment(survey.finished_at),
            attempts=survey.attempts,
            reason=survey.reason,
            event=None if result is None else msgspec.json.decode(result),
        )

    async def next(self, worker: Worker, relay: Wakes) -> bool:
        """Let a worker that has time do the next survey; False where there is none."""
        survey = await asyncio.to_thread(self._surveys.claim, self._clock())
        if survey is None:
            return False
        with structlog.contextvars.bound_contextvars(model=survey.model, version=survey.version):
            try:
                await self._do(worker, survey, relay)
            except asyncio.CancelledError:
                await asyncio.to_thread(self._surveys.put_back, _uncounted(survey))
                raise
        return True

    async def _add(self, spec: ModelSpec) -> None:
        survey = Survey(model=spec.model, version=spec.version, digest=spec.digest, queued_at=self._clock())
        if await asyncio.to_thread(self._surveys.add, survey):
            self._queued()

    async def _do(self, worker: Worker, survey: Survey, relay: Wakes) -> None:
        spec = await asyncio.to_thread(self._store.find_version, survey.model, survey.version)
        if spec is None:
            await self._fail(survey, "the version is not known any more")
            return
        try:
            found = await self._artifacts.files(spec)
        except Unavailable as error:
            log.warning("survey postponed", reason=error.message)
            later = msgspec.structs.replace(_uncounted(survey), not_before=self._clock() + AGAIN_SECONDS)
            await asyncio.to_thread(self._surveys.put_back, later)
            return
        except Problem as error:
            await self._fail(survey, error.message)
            return
        files = ModelFiles(spec, str(found.model), str(found.background))
        await self._compute(worker, survey, messages.Survey(files, survey.seed))
        relay.wake()

    async def _compute(self, worker: Worker, survey: Survey, question: messages.Survey) -> None:
        started = time.perf_counter()
        try:
            answer = await worker.survey(question)
        except WorkerLost as lost:
            if survey.attempts < self._settings.max_attempts:
                await asyncio.to_thread(self._surveys.put_back, survey)
            else:
                await self._fail(survey, f"given up after {survey.attempts} attempts: {lost}")
            return
        if isinstance(answer, CannotExplain):
            await self._fail(survey, answer.reason)
            return
        spent = time.perf_counter() - started
        await self._done(survey, _event(survey, question.files.spec, answer, worker.software, spent, self._clock()))

    async def _done(self, survey: Survey, event: ModelExplained) -> None:
        ended = msgspec.structs.replace(survey, state="done", finished_at=self._clock())
        try:
            message = wire.encode(
                event, owner=OWNER, id=survey.event_id, time=event.explained_at, traceparent=trace.new_traceparent()
            )
        except Refused as error:  # the event is too long for the bus
            await self._fail(survey, str(error))
            return
        await asyncio.to_thread(self._surveys.finish, ended, message, msgspec.json.encode(event))
        log.info("version explained as a whole", milliseconds=event.duration_ms)

    async def _fail(self, survey: Survey, reason: str) -> None:
        ended = msgspec.structs.replace(survey, state="failed", reason=reason, finished_at=self._clock())
        await asyncio.to_thread(self._surveys.finish, ended)
        log.warning("version not explained as a whole", reason=reason)


def _event(
    survey: Survey, spec: ModelSpec, answer: Overview, software: Mapping[str, str], seconds: float, now: float
) -> ModelExplained:
    return ModelExplained(
        model=survey.model,
        version=survey.version,
        digest=survey.digest,
        seed=survey.seed,
        background_digest=spec.background_digest or "",
        background_rows=answer.background_rows,
        explained_output=answer.explained_output,
        importance=answer.importance,
        effects=answer.effects,
        explained_at=domain.moment(now),
        duration_ms=round(seconds * 1000, 1),
        software=dict(software),
        warnings=answer.warnings,
    )


def _uncounted(survey: Survey) -> Survey:
    return msgspec.structs.replace(survey, attempts=survey.attempts - 1)
