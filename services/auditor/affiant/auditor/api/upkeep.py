"""`/v1/rebuild`: what operators do to the store itself."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from affiant.auditor.actions.rebuild import Rebuilder
from affiant.auditor.domain import views
from affiant.common.auth import needs


def make_upkeep(rebuilder: Rebuilder) -> APIRouter:
    """The route, for operators."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(needs("operator"))])

    @api.post("/rebuild")
    async def rebuild() -> views.Rebuilt:
        """Make the look-up tables anew from the entries of the log; recording waits until it is done."""
        return await rebuilder.rebuild()

    return api
