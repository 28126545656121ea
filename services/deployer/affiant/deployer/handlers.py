"""Events in: what the registry promoted and archived."""

from __future__ import annotations

from faststream.nats import NatsRouter

from affiant.common import bus
from affiant.common.delivery import subscribe
from affiant.common.events import ModelArchived, ModelPromoted
from affiant.common.wire import Envelope
from affiant.deployer.actions.wishes import Wishes


def make_router(wishes: Wishes) -> NatsRouter:
    """The event doors of the deployer."""

    async def promoted(event: ModelPromoted, envelope: Envelope) -> None:
        await wishes.promoted(event, event_id=envelope.id, traceparent=envelope.traceparent)

    async def archived(event: ModelArchived, _: Envelope) -> None:
        await wishes.archived(event)

    router = NatsRouter()
    subscribe(router, bus.DEPLOYER_MODELS, {ModelPromoted: promoted, ModelArchived: archived})
    return router
