"""Events in: what the deployer says of the versions."""

from __future__ import annotations

from faststream.nats import NatsRouter

from affiant.common import bus, delivery
from affiant.common.events import Event, ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from affiant.common.wire import Envelope
from affiant.registry.actions.deployments import Deployments
from affiant.registry.domain.lifecycle import Deployment


def make_router(deployments: Deployments) -> NatsRouter:
    """The registry's subscriptions."""

    async def deployed(event: ModelDeployed, envelope: Envelope) -> None:
        state = Deployment(event.alias, "serving", event.url, "", event.deployed_at)
        await deployments.note(envelope.id, event.model, event.version, state, event.previous_version)

    async def failed(event: ModelDeploymentFailed, envelope: Envelope) -> None:
        state = Deployment(event.alias, "failed", "", event.reason, event.failed_at)
        await deployments.note(envelope.id, event.model, event.version, state)

    async def undeployed(event: ModelUndeployed, envelope: Envelope) -> None:
        state = Deployment(event.alias, "undeployed", "", event.reason, event.undeployed_at)
        await deployments.note(envelope.id, event.model, event.version, state)

    router = NatsRouter()
    table: dict[type[Event], delivery.Handler] = {
        ModelDeployed: deployed,
        ModelDeploymentFailed: failed,
        ModelUndeployed: undeployed,
    }
    delivery.subscribe(router, bus.REGISTRY_DEPLOYMENTS, table)
    return router
