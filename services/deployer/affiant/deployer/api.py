"""HTTP in: how the deployments are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends

from affiant.common.auth import Person, needs
from affiant.deployer.actions.view import DeploymentsView


def make_api(deployments: Callable[[], Awaitable[DeploymentsView]]) -> APIRouter:
    """The HTTP doors of the deployer."""
    api = APIRouter(prefix="/v1", tags=["deployments"])

    @api.get("/deployments")
    async def list_deployments(_: Annotated[Person, Depends(needs())]) -> DeploymentsView:
        """Every alias that is served or should be: which version, where, since when, and why not."""
        return await deployments()

    return api
