"""How messages are delivered: the policy that every subscriber shares.

Success acks. `Refused` sets the message aside at once, with the reason. Any other error asks for the message
again after a delay that doubles; after `GIVE_UP_AFTER` deliveries it is set aside too, with the last error.
A message that is set aside is acked only once the dead-letter stream has it: it is never in neither place.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from faststream import AckPolicy
from faststream.exceptions import NackMessage
from faststream.nats import JStream, NatsMessage, NatsRouter, PullSub
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from prometheus_client import Counter

from affiant.common import bus, trace, wire
from affiant.common.errors import Refused
from affiant.common.events import Event

log = structlog.get_logger(__name__)

Handler = Callable[[Any, wire.Envelope], Awaitable[None]]

GIVE_UP_AFTER = 12
"""Deliveries before a message that keeps failing is set aside: with the delays below, about ten minutes."""

_handled = Counter("affiant_messages_total", "Messages by what became of them", ["durable", "result"])


def retry_delay(deliveries: int) -> float:
    """Seconds to wait after the `deliveries`-th delivery failed: 0.25 doubling up to two minutes, ±10 %."""
    return float(min(0.25 * 2 ** (deliveries - 1), 120.0) * random.uniform(0.9, 1.1))


def subscribe(router: NatsRouter, durable: bus.Durable, table: Mapping[type[Event], Handler]) -> None:
    """Let `router` read `durable`, one message at a time in the order of the stream, and call what `table` names.

    Events that the table does not name are acked: they are somebody else's.
    """

    @router.subscriber(
        durable.filters[0],
        stream=JStream(durable.stream, declare=False),
        durable=durable.name,
        pull_sub=PullSub(batch_size=1, timeout=1.0),
        # Without a prefix of its own, a user that may only subscribe to its private inbox receives nothing, and
        # no error either.
        inbox_prefix=f"{bus.inbox_prefix(durable.service)}.".encode(),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        title=durable.name,
    )
    async def receive(message: NatsMessage) -> None:
        await _receive(message, durable, table)


async def _receive(message: NatsMessage, durable: bus.Durable, table: Mapping[type[Event], Handler]) -> None:
    deliveries = message.raw_message.metadata.num_delivered or 1
    with structlog.contextvars.bound_contextvars(durable=durable.name):
        try:
            await settle(message.raw_message, durable, table, deliveries)
        except Exception as error:
            delay = retry_delay(deliveries)
            log.warning("handling failed", delivery=deliveries, again_in_seconds=round(delay, 2), exc_info=True)
            _handled.labels(durable.name, "again").inc()
            # A plain nack makes JetStream redeliver at once, so we ask for a delay. Also when it is the dead-letter
            # stream that takes nothing: without the delay a few messages would be delivered over and over.
            raise NackMessage(delay=delay) from error


async def settle(raw: Msg, durable: bus.Durable, table: Mapping[type[Event], Handler], deliveries: int) -> None:
    """Handle each event of a message or set it aside; the message may be acked when this returns, and is to come
    again when it raises. Then what was handled is handled again: handlers know an event by its id."""
    for place, single in enumerate(wire.unbatched(raw.data, raw.headers)):
        try:
            await _dispatch(wire.decode(raw.subject, single.body, single.headers), table)
        except Refused as reason:
            await set_event_aside(raw, place, single, durable, str(reason), deliveries)
        except Exception as error:
            if deliveries < GIVE_UP_AFTER:
                raise
            await set_event_aside(raw, place, single, durable, f"{type(error).__name__}: {error}", deliveries)
        else:
            count_handled(durable)


def count_handled(durable: bus.Durable, events: int = 1) -> None:
    """Say in the metrics that events of `durable` were handled."""
    _handled.labels(durable.name, "done").inc(events)


async def _dispatch(envelope: wire.Envelope, table: Mapping[type[Event], Handler]) -> None:
    handler = table.get(type(envelope.event)) if envelope.event is not None else None
    if handler is None:
        return
    ids = {"event_id": envelope.id, "type": envelope.type, "trace_id": trace.trace_id(envelope.traceparent)}
    with structlog.contextvars.bound_contextvars(**ids):
        await handler(envelope.event, envelope)


async def set_event_aside(
    raw: Msg, place: int, single: wire.Single, durable: bus.Durable, reason: str, deliveries: int
) -> None:
    """Keep one event of a message as a dead letter; see `set_aside`."""
    js: JetStreamContext = raw._client.jetstream()
    await set_aside(
        js,
        durable,
        subject=raw.subject,
        body=single.body,
        headers=single.headers,
        reason=reason,
        deliveries=deliveries,
        key=f"{raw.metadata.stream}.{raw.metadata.sequence.stream}.{place}",
    )


async def set_aside(
    js: JetStreamContext,
    durable: bus.Durable,
    *,
    subject: str,
    body: bytes,
    headers: Mapping[str, str] | None,
    reason: str,
    deliveries: int = 1,
    key: str = "",
) -> None:
    """Keep a message as a dead letter: `affiant.dead.<durable>`, the body as it was, the story in the headers.

    `key` (stream and sequence of the original, and the event's place in it) makes setting aside the same event twice
    one dead letter.
    Returns once the stream has it; raises what nats-py raises when it has not.
    """
    given = {name.lower(): value for name, value in (headers or {}).items()}
    kept = {
        "Affiant-Subject": subject,
        "Affiant-Durable": durable.name,
        "Affiant-Reason": _header_text(reason),
        "Affiant-Deliveries": str(deliveries),
        "Affiant-Msg-Id": _header_text(given.get("nats-msg-id", "")),
    }
    for name, value in given.items():
        if name == "content-type" or name.startswith("ce-"):
            kept[name] = _header_text(value)
    if key:
        kept["Nats-Msg-Id"] = f"dead.{durable.name}.{key}"
    await js.publish(f"{bus.DEAD_LETTERS}.{durable.name}", body, headers=kept)
    log.error("message set aside", subject=subject, reason=reason, deliveries=deliveries)
    _handled.labels(durable.name, "set aside").inc()


def _header_text(text: str) -> str:
    """Headers are one line of printable ASCII: anything else could end the header block early."""
    return " ".join(text.encode("ascii", "replace").decode().split())[:1000]
