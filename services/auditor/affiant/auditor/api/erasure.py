"""`/v1/erasures`, `/v1/holds`, `/v1/retention`: forgetting payloads, and what forbids it.

Operators erase and set how long is kept; auditors set and lift holds. So nobody lifts a hold and erases what it covered
by himself.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from affiant.auditor.actions.erase import Eraser
from affiant.auditor.domain import views
from affiant.common.auth import ROLES, Person, needs

Operator = Annotated[Person, Depends(needs("operator"))]
Auditor = Annotated[Person, Depends(needs("auditor"))]
Reason = Annotated[str, Field(min_length=1, max_length=2_000, description="kept in the log for good: name nobody")]
Name = Annotated[str, Field(min_length=1, max_length=500)]


class ErasureBody(BaseModel):
    """What to erase: every payload about a subject, or one prediction's. With `dry_run` nothing is."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    subject: Name | None = None
    prediction_id: Name | None = None
    dry_run: bool = False


class HoldBody(BaseModel):
    """What must not be erased: all, or what a model, a subject or a prediction is named by `value`."""

    model_config = ConfigDict(extra="forbid")

    scope: Literal["all", "model", "subject", "prediction"]
    reason: Reason
    value: Annotated[str, Field(max_length=500)] = ""
    since: str | None = None
    until: str | None = None


class LiftBody(BaseModel):
    """Why a hold is lifted."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class RetentionBody(BaseModel):
    """For how many days payloads of a model, or of versions with a tag (`key=value`), are kept; 0 for ever, null to
    remove the class."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["model", "tag"]
    value: Name
    days: Annotated[int, Field(ge=0, le=100_000)] | None
    reason: Reason


def make_erasure(eraser: Eraser) -> APIRouter:
    """The routes."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(needs(*ROLES))])

    @api.post("/erasures")
    async def erase(body: ErasureBody, person: Operator) -> views.Erasure:
        """Erase payloads; the entries and every proof stay."""
        return await eraser.erase(body.subject, body.prediction_id, body.reason, person.name, dry_run=body.dry_run)

    @api.get("/erasures")
    async def erasures(limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> views.Erasures:
        """The newest erasures, newest first."""
        return await eraser.erasures(limit)

    @api.get("/erasures/entries")
    async def statements(low: Annotated[int, Query(ge=0)], high: Annotated[int, Query(ge=0)]) -> views.Statements:
        """The entries that say of any entry from `low` to below `high` that it was erased."""
        return await eraser.statements(low, high)

    @api.post("/holds")
    async def hold(body: HoldBody, person: Auditor) -> views.HoldLine:
        """Set a legal hold."""
        return await eraser.hold(body.scope, body.value, body.since, body.until, body.reason, person.name)

    @api.get("/holds")
    async def holds() -> views.Holds:
        """The holds in force."""
        return await eraser.holds()

    @api.post("/holds/{hold_id}/lift")
    async def lift(hold_id: str, body: LiftBody, person: Auditor) -> views.HoldLine:
        """Lift a legal hold."""
        return await eraser.lift(hold_id, body.reason, person.name)

    @api.post("/retention")
    async def keep(body: RetentionBody, person: Operator) -> views.Retention:
        """Set a retention class, or remove it."""
        return await eraser.keep(body.kind, body.value, body.days, body.reason, person.name)

    @api.get("/retention")
    async def retention() -> views.Retention:
        """Every retention class."""
        return await eraser.retention()

    return api
