"""Events in: versions that become known, predictions that were logged."""

from __future__ import annotations

from faststream.nats import NatsRouter

from affiant.common import bus, wire
from affiant.common.delivery import subscribe
from affiant.common.events import ModelPromoted, ModelRegistered, PredictionLogged
from affiant.explainer.actions.predictions import Predictions
from affiant.explainer.actions.surveys import Surveying


def make_router(predictions: Predictions, surveys: Surveying) -> NatsRouter:
    """The subscriptions of the explainer."""
    router = NatsRouter()

    async def on_registered(event: ModelRegistered, _: wire.Envelope) -> None:
        await predictions.learn(event.spec)

    async def on_promoted(event: ModelPromoted, _: wire.Envelope) -> None:
        await predictions.learn(event.spec)
        await surveys.promoted(event.spec)

    async def on_prediction(event: PredictionLogged, envelope: wire.Envelope) -> None:
        await predictions.consider(event, envelope)

    subscribe(router, bus.EXPLAINER_MODELS, {ModelRegistered: on_registered, ModelPromoted: on_promoted})
    subscribe(router, bus.EXPLAINER_PREDICTIONS, {PredictionLogged: on_prediction})
    return router
