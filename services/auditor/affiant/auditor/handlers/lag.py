"""How far behind the bus the record is, for whoever watches."""

from __future__ import annotations

import asyncio
import time

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.auditor.actions import metrics
from affiant.auditor.handlers.intake import SOURCES, Intake
from affiant.common import bus

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0


async def watch_lag(js: JetStreamContext, intake: Intake) -> None:
    """Set the gauges at an interval, until cancelled."""
    while True:
        for durable in SOURCES:
            try:
                await _measure(js, intake, durable)
            except (NatsError, TimeoutError) as error:
                log.warning("cannot measure the lag now", durable=durable.name, reason=repr(error))
        await asyncio.sleep(INTERVAL_SECONDS)


async def _measure(js: JetStreamContext, intake: Intake, durable: bus.Durable) -> None:
    info = await js.consumer_info(durable.stream, durable.name)
    pending = (info.num_pending or 0) + (info.num_ack_pending or 0)
    metrics.pending.labels(durable.name).set(pending)
    oldest = intake.oldest(durable.name) if pending else None
    metrics.oldest_unaudited.labels(durable.name).set(max(0.0, time.time() - oldest) if oldest else 0.0)
