"""Keeping what the deployer says, so that a version's view shows where it is served."""

from __future__ import annotations

from dataclasses import dataclass

from affiant.registry.domain.lifecycle import Deployment
from affiant.registry.store.database import Store
from affiant.registry.store.records import Records


@dataclass(frozen=True)
class Deployments:
    """Each event is applied once, by its id; an older one does not overwrite a newer one."""

    store: Store

    async def note(
        self, event_id: str, model: str, version: int, deployment: Deployment, replaced: int | None = None
    ) -> None:
        """Keep the state of a version under an alias; `replaced` is the version that it took over from."""

        def work(records: Records) -> None:
            if not records.first_time(event_id):
                return
            records.set_deployment(model, version, deployment)
            if replaced is not None and replaced != version:
                gone = Deployment(deployment.alias, "undeployed", "", f"replaced by version {version}", deployment.at)
                records.set_deployment(model, replaced, gone)

        await self.store.transact(work)
