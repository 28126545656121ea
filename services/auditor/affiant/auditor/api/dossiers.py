"""`/v1/predictions/{id}/dossier`: the whole story of one decision."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from affiant.auditor.actions.dossier import Dossiers
from affiant.auditor.domain import views
from affiant.common.auth import ROLES, needs


def make_dossiers(dossiers: Dossiers) -> APIRouter:
    """The route. Whoever may read a prediction may read its dossier."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(needs(*ROLES))])

    @api.get("/predictions/{prediction_id}/dossier")
    async def dossier(prediction_id: str) -> views.Dossier:
        """The prediction, what stood at that moment, the figures of that day, and a proof of every entry used."""
        return await dossiers.make(prediction_id)

    return api
