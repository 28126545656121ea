"""Explanations as pictures, from what is kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from affiant import plots
from affiant.common.errors import NotFound
from affiant.common.events import ModelExplained, PredictionExplained, Shap
from affiant.explainer.actions.requests import Requests
from affiant.explainer.actions.surveys import Surveying
from affiant.explainer.store import Store

RowPlot = Literal["waterfall", "force"]
VersionPlot = Literal["importance", "ale", "partial_dependence", "beeswarm"]
BEESWARM_ROWS = 500

_OF_ROW: dict[RowPlot, Callable[[Shap, str], str]] = {"waterfall": plots.waterfall, "force": plots.force}


class Plots:
    """SVG documents. Raises `NotFound` in words where there is nothing to draw."""

    def __init__(self, store: Store, requests: Requests, surveys: Surveying) -> None:
        self._store = store
        self._requests = requests
        self._surveys = surveys

    async def of_prediction(self, prediction_id: str, row: int, kind: RowPlot) -> str:
        """The SHAP values of one row."""
        for found in await self._requests.explanations(prediction_id):
            if found.row == row and found.event is not None:
                event = msgspec.convert(found.event, PredictionExplained)
                if event.shap is not None:
                    return _OF_ROW[kind](event.shap, event.explained_output)
        raise NotFound(
            f"row {row} of prediction {prediction_id} has no SHAP values",
            hint=f"affiant explain {prediction_id} --method shap",
        )

    async def of_version(self, model: str, version: int, kind: VersionPlot) -> str:
        """A version as a whole; the beeswarm from its latest explanations."""
        if kind == "beeswarm":
            return await self._beeswarm(model, version)
        found = await self._surveys.look(model, version)
        if found.event is None:
            raise NotFound(f"the explanation of {model} version {version} is {found.state}", hint="ask again later")
        event = msgspec.convert(found.event, ModelExplained)
        if kind == "importance":
            return plots.importance(event.importance, f"mean absolute change of the {event.explained_output}")
        return plots.effects([one for one in event.effects if one.kind == kind], event.explained_output)

    async def _beeswarm(self, model: str, version: int) -> str:
        found = await asyncio.to_thread(self._store.recent_shap, model, version, BEESWARM_ROWS)
        if not found:
            raise NotFound(f"no prediction of {model} version {version} has SHAP values yet")
        units = {shap.units for shap in found}
        return plots.beeswarm(found, f"explained output ({', '.join(sorted(units))})")
