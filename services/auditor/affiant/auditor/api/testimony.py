"""`/v1/outcomes`, `/v1/overrides`: what became of decisions, and what people decided instead."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from affiant.auditor.actions.depositions import MOST_AT_ONCE, Depositions
from affiant.auditor.actions.look import moment
from affiant.auditor.domain import views
from affiant.auditor.domain.testimony import LONGEST_TEXT
from affiant.common import ids
from affiant.common.auth import Person, needs
from affiant.common.events import DecisionOverridden, OutcomeRecorded

TELLERS = ("approver", "operator", "service")
"""Who may say something of a decision. Whoever audits reads, and adds nothing."""
Teller = Annotated[Person, Depends(needs(*TELLERS))]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class OutcomeBody(BaseModel):
    """What became of one decided row; `observed_at` is now where it is left out."""

    model_config = ConfigDict(extra="forbid")

    label: str | int
    row: Annotated[int, Field(ge=0, description="of the request, counted from 0")] = 0
    observed_at: str | None = None
    comment: Text = ""
    on_behalf_of: Text = ""


class OverrideBody(BaseModel):
    """What was decided instead for one row, and why."""

    model_config = ConfigDict(extra="forbid")

    decision: str | int
    reason: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
    row: Annotated[int, Field(ge=0, description="of the request, counted from 0")] = 0
    overridden_at: str | None = None
    on_behalf_of: Text = ""


class OutcomeLine(OutcomeBody):
    """One of many."""

    prediction_id: str


class OverrideLine(OverrideBody):
    """One of many."""

    prediction_id: str


class Outcomes(BaseModel):
    """At most a thousand at once; either all are taken or none."""

    outcomes: Annotated[list[OutcomeLine], Field(min_length=1, max_length=MOST_AT_ONCE)]


class Overrides(BaseModel):
    """At most a thousand at once; either all are taken or none."""

    overrides: Annotated[list[OverrideLine], Field(min_length=1, max_length=MOST_AT_ONCE)]


def make_testimony(depositions: Depositions) -> APIRouter:
    """The routes. Who told it is who called; the body cannot say otherwise."""
    api = APIRouter(prefix="/v1")

    @api.post("/predictions/{prediction_id}/outcomes", status_code=201)
    async def outcome(prediction_id: str, body: OutcomeBody, teller: Teller) -> views.Told:
        """Record what became of one decision. A later outcome for the same row supersedes it; both stay."""
        return await depositions.tell([_outcome(prediction_id, body, teller)])

    @api.post("/outcomes", status_code=201)
    async def outcomes(body: Outcomes, teller: Teller) -> views.Told:
        """Record many outcomes."""
        return await depositions.tell([_outcome(line.prediction_id, line, teller) for line in body.outcomes])

    @api.post("/predictions/{prediction_id}/overrides", status_code=201)
    async def override(prediction_id: str, body: OverrideBody, teller: Teller) -> views.Told:
        """Record that a person decided otherwise, or confirmed the decision. A later one supersedes it; both stay."""
        return await depositions.tell([_override(prediction_id, body, teller)])

    @api.post("/overrides", status_code=201)
    async def overrides(body: Overrides, teller: Teller) -> views.Told:
        """Record many overrides."""
        return await depositions.tell([_override(line.prediction_id, line, teller) for line in body.overrides])

    return api


def _outcome(prediction_id: str, body: OutcomeBody, teller: Person) -> OutcomeRecorded:
    return OutcomeRecorded(
        prediction_id=prediction_id,
        model="",  # the prediction's own: filled in from the record
        row=body.row,
        label=body.label,
        observed_at=moment(body.observed_at) or ids.now(),
        by=teller.name,
        on_behalf_of=body.on_behalf_of,
        comment=body.comment,
    )


def _override(prediction_id: str, body: OverrideBody, teller: Person) -> DecisionOverridden:
    return DecisionOverridden(
        prediction_id=prediction_id,
        model="",
        row=body.row,
        decision=body.decision,
        reason=body.reason,
        by=teller.name,
        overridden_at=moment(body.overridden_at) or ids.now(),
        on_behalf_of=body.on_behalf_of,
    )
