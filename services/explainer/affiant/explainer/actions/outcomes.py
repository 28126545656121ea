"""What an answered job becomes: its last state, and the event that says so."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from affiant.common import trace, wire
from affiant.common.errors import Refused
from affiant.common.events import ExplanationFailed, ModelSpec, PredictionExplained
from affiant.explainer import domain
from affiant.explainer.actions.predictions import OWNER, expired
from affiant.explainer.domain import Job
from affiant.explainer.methods.messages import CannotExplain, Explained
from affiant.explainer.store import Ended

REASON_LENGTH = 2_000


def answered(
    job: Job, spec: ModelSpec, answer: Explained | CannotExplain, software: Mapping[str, str], now: float
) -> Ended:
    """The job, done, failed or expired."""
    if isinstance(answer, CannotExplain):
        return late(job, answer.reason, now) if answer.late else failed(job, answer.reason, now)
    event = _explained(job, spec, answer, software, now)
    ended = msgspec.structs.replace(job, state="done", reason="", finished_at=now)
    try:
        message = _message(job, event, event.explained_at)
    except Refused as error:  # the event is too long for the bus
        return failed(job, str(error), now)
    return Ended(ended, message, msgspec.json.encode(event))


def failed(job: Job, reason: str, now: float) -> Ended:
    """The job, failed."""
    reason = reason[:REASON_LENGTH]
    event = domain.failed_event(job, "failed", reason, now=now)
    ended = msgspec.structs.replace(job, state="failed", reason=reason, finished_at=now)
    return Ended(ended, _message(job, event, event.failed_at))


def late(job: Job, reason: str, now: float) -> Ended:
    """The job, expired."""
    return Ended(*expired(job, reason[:REASON_LENGTH], now))


def _explained(
    job: Job, spec: ModelSpec, answer: Explained, software: Mapping[str, str], now: float
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
        explained_at=domain.moment(now),
        duration_ms=round(sum(answer.seconds.values()) * 1000, 1),
        software=dict(software),
        anchor=answer.anchor,
        shap=answer.shap,
        counterfactuals=answer.counterfactuals,
        trust=answer.trust,
        reasons=answer.reasons,
        requested_by=job.requested_by,
        warnings=answer.warnings,
    )


def _message(job: Job, event: PredictionExplained | ExplanationFailed, at: str) -> wire.Message:
    """Raises `Refused` where the event is too long for the bus."""
    return wire.encode(event, owner=OWNER, id=job.event_id, time=at, traceparent=trace.child_of(job.traceparent))
