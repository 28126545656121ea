"""HTTP in: ask for an explanation, see how it stands."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from affiant.common.auth import Person, needs
from affiant.explainer.actions.requests import Explanation, Queue, Requests
from affiant.explainer.domain import Method

Someone = Annotated[Person, Depends(needs())]
"""Any known person."""


class Wanted(BaseModel):
    """Which row to explain, and how; an anchor and SHAP values where none is named."""

    prediction_id: str = Field(min_length=1, max_length=200)
    row: int = Field(default=0, ge=0)
    methods: list[Method] = []


class Explanations(BaseModel):
    """All explanations of one prediction."""

    explanations: list[Explanation]


def make_api(requests: Requests) -> APIRouter:
    """The routes of the explainer."""
    api = APIRouter(prefix="/v1", tags=["explanations"])

    @api.post("/explanations", status_code=202)
    async def ask(wanted: Wanted, person: Someone) -> Explanation:
        """Ask for an explanation of one row; it is computed before all others."""
        return await requests.ask(wanted.prediction_id, wanted.row, wanted.methods, person.name)

    @api.get("/explanations/{prediction_id}")
    async def explanations(prediction_id: str, _: Someone) -> Explanations:
        """How the explanations of a prediction stand, with the ones that are done."""
        return Explanations(explanations=await requests.explanations(prediction_id))

    @api.get("/queue")
    async def queue(_: Someone) -> Queue:
        """How much there is to do."""
        return await requests.queue()

    return api
