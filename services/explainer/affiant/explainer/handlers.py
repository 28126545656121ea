"""Events in: versions that become known, predictions that were logged."""

from __future__ import annotations

from collections.abc import Sequence

from faststream.nats import NatsRouter
from nats.js import JetStreamContext

from affiant.common import batches, bus, wire
from affiant.common.delivery import subscribe
from affiant.common.errors import Refused
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

    subscribe(router, bus.EXPLAINER_MODELS, {ModelRegistered: on_registered, ModelPromoted: on_promoted})
    return router


async def read_predictions(js: JetStreamContext, predictions: Predictions) -> None:
    """Read the stream of predictions until cancelled: thousands a second, of which most need nothing."""

    async def together(envelopes: Sequence[wire.Envelope]) -> Sequence[Refused | None]:
        return await predictions.consider_all(envelopes)

    async def on_prediction(event: PredictionLogged, envelope: wire.Envelope) -> None:
        await predictions.consider(event, envelope)

    await batches.read(js, bus.EXPLAINER_PREDICTIONS, together, {PredictionLogged: on_prediction})
