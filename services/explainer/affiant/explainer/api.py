"""HTTP in: ask for an explanation, see how it stands."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, Field

from affiant.common.auth import Person, needs
from affiant.explainer.actions.plots import Plots, RowPlot, VersionPlot
from affiant.explainer.actions.requests import Explanation, Queue, Requests
from affiant.explainer.actions.surveys import Surveying, VersionExplanation
from affiant.explainer.domain import Method, State

Version = Annotated[int, Path(ge=1, lt=2**31)]
Someone = Annotated[Person, Depends(needs())]
"""Any known person."""


class Wanted(BaseModel):
    """Which row to explain, and how; an anchor and SHAP values where none is named.

    After `deadline_seconds` nobody needs the answer any more; the explainer's own limit where it is absent.
    """

    prediction_id: str = Field(min_length=1, max_length=200)
    row: int = Field(default=0, ge=0)
    methods: list[Method] = []
    deadline_seconds: float | None = Field(default=None, gt=0)


class Explanations(BaseModel):
    """All explanations of one prediction."""

    explanations: list[Explanation]


class Listed(BaseModel):
    """Explanations in one state, and the queue as a whole."""

    explanations: list[Explanation]
    queue: Queue


def make_api(requests: Requests, surveys: Surveying, plots: Plots) -> APIRouter:
    """The routes of the explainer."""
    api = APIRouter(prefix="/v1", tags=["explanations"])

    @api.post("/explanations", status_code=202)
    async def ask(wanted: Wanted, person: Someone) -> Explanation:
        """Ask for an explanation of one row; it is computed before all others."""
        return await requests.ask(
            wanted.prediction_id, wanted.row, wanted.methods, person.name, wanted.deadline_seconds
        )

    @api.get("/explanations")
    async def listed(
        _: Someone,
        state: State = "queued",
        model: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Listed:
        """Explanations in a state, of one model or of all, the oldest first, and how much there is to do."""
        return Listed(explanations=await requests.listed(state, model, limit), queue=await requests.queue())

    @api.get("/explanations/{prediction_id}")
    async def explanations(prediction_id: str, _: Someone) -> Explanations:
        """How the explanations of a prediction stand, with the ones that are done."""
        return Explanations(explanations=await requests.explanations(prediction_id))

    @api.get("/explanations/{prediction_id}/plots/{kind}.svg", response_class=Response)
    async def row_plot(prediction_id: str, kind: RowPlot, _: Someone, row: Annotated[int, Query(ge=0)] = 0) -> Response:
        """The SHAP values of one row as a picture."""
        return _svg(await plots.of_prediction(prediction_id, row, kind))

    @api.post("/models/{model}/versions/{version}/explanation", status_code=202)
    async def survey(model: str, version: Version, _: Someone) -> VersionExplanation:
        """Have a version explained as a whole, unless it is already."""
        return await surveys.ask(model, version)

    @api.get("/models/{model}/versions/{version}/explanation")
    async def surveyed(model: str, version: Version, _: Someone) -> VersionExplanation:
        """How the explanation of a version as a whole stands, with what it says once it is done."""
        return await surveys.look(model, version)

    @api.get("/models/{model}/versions/{version}/plots/{kind}.svg", response_class=Response)
    async def version_plot(model: str, version: Version, kind: VersionPlot, _: Someone) -> Response:
        """A version as a whole as a picture."""
        return _svg(await plots.of_version(model, version, kind))

    @api.get("/queue")
    async def queue(_: Someone) -> Queue:
        """How much there is to do."""
        return await requests.queue()

    return api


def _svg(document: str) -> Response:
    # A picture of what somebody else named: it may draw, and do nothing else, should a browser open it by itself.
    headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
    return Response(document, media_type="image/svg+xml", headers=headers)
