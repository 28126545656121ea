"""`/v1/predictions/{id}/dossier`: the whole story of one decision."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from affiant.auditor.actions.dossier import Dossiers
from affiant.auditor.actions.reads import Reads
from affiant.auditor.domain import views
from affiant.common.auth import ROLES, Person, needs

Reader = Annotated[Person, Depends(needs(*ROLES))]


def make_dossiers(dossiers: Dossiers, reads: Reads) -> APIRouter:
    """The route. Whoever may read a prediction may read its dossier; that he did is noted."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(needs(*ROLES))])

    @api.get("/predictions/{prediction_id}/dossier")
    async def dossier(prediction_id: str, person: Reader) -> views.Dossier:
        """The prediction, what stood at that moment, the figures of that day, and a proof of every entry used."""
        found = await dossiers.make(prediction_id)
        reads.note(person.name, "dossier", prediction_id)
        return found

    return api
