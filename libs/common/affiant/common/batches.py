"""A durable that is read in batches: for who keeps what arrives, and would else pay a transaction for every message.

What becomes of a message is as in `delivery`. Only where a whole batch cannot be kept is each of its messages handled
by itself, so that one that cannot be handled does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.common import bus, delivery, wire
from affiant.common.errors import Refused
from affiant.common.events import Event

log = structlog.get_logger(__name__)

Together = Callable[[Sequence[wire.Envelope]], Awaitable[Sequence[Refused | None]]]
"""Keeps events and answers for each why it is refused, or None. Where it raises, nothing was kept."""

MOST_MESSAGES = 100
"""One may hold a mebibyte."""

WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class _Arrived:
    message: Msg
    place: int
    single: wire.Single


async def read(
    js: JetStreamContext, durable: bus.Durable, together: Together, singly: Mapping[type[Event], delivery.Handler]
) -> None:
    """Read `durable` until cancelled: whole batches by `together`, and by `singly` where that fails."""
    subscription = await js.pull_subscribe_bind(durable.name, durable.stream)
    try:
        await _read(subscription, durable, together, singly)
    finally:
        # What was asked for may still come, and nobody takes it any more: without this the connection's drain would
        # wait for that for half a minute. What was not acked comes again.
        with suppress(NatsError):
            await subscription.unsubscribe()


async def _read(
    subscription: JetStreamContext.PullSubscription,
    durable: bus.Durable,
    together: Together,
    singly: Mapping[type[Event], delivery.Handler],
) -> None:
    failures = 0
    while True:
        try:
            messages = await subscription.fetch(MOST_MESSAGES, timeout=WAIT_SECONDS)
        except TimeoutError:
            failures = 0
            continue
        except NatsError as error:
            failures += 1
            delay = min(delivery.retry_delay(failures), 5.0)
            log.warning("the bus gives nothing", durable=durable.name, reason=repr(error), again_in_seconds=delay)
            await asyncio.sleep(delay)
            continue
        failures = 0
        with structlog.contextvars.bound_contextvars(durable=durable.name):
            await take(messages, durable, together, singly)


async def take(
    messages: Sequence[Msg], durable: bus.Durable, together: Together, singly: Mapping[type[Event], delivery.Handler]
) -> None:
    """Handle a batch of messages, and ack each or ask for it again."""
    arrived, refused = list[_Arrived](), list[tuple[_Arrived, Refused]]()
    envelopes: list[wire.Envelope] = []
    for message in messages:
        for place, single in enumerate(wire.unbatched(message.data, message.headers)):
            one = _Arrived(message, place, single)
            try:
                envelopes.append(wire.decode(message.subject, single.body, single.headers))
            except Refused as reason:
                refused.append((one, reason))
            else:
                arrived.append(one)
    try:
        answers = await together(envelopes)
    except Exception as error:
        log.warning("a batch could not be kept; each message by itself", messages=len(messages), reason=repr(error))
        for message in messages:
            await _alone(message, durable, singly)
        return
    refused += [(one, answer) for one, answer in zip(arrived, answers, strict=True) if answer is not None]
    delivery.count_handled(durable, len(arrived) - sum(answer is not None for answer in answers))
    again = await _set_aside(refused, durable)
    for message in messages:
        if id(message) not in again:
            await _ack(message)


async def _set_aside(refused: Sequence[tuple[_Arrived, Refused]], durable: bus.Durable) -> set[int]:
    """Keep what is refused as dead letters. Returns the messages that are to come again, because that failed."""
    again: set[int] = set()
    for one, reason in refused:
        deliveries = one.message.metadata.num_delivered or 1
        try:
            await delivery.set_event_aside(one.message, one.place, one.single, durable, str(reason), deliveries)
        except Exception as error:
            log.warning("cannot set a message aside now", reason=repr(error))
            if id(one.message) not in again:
                again.add(id(one.message))
                await _again(one.message, deliveries)
    return again


async def _alone(message: Msg, durable: bus.Durable, singly: Mapping[type[Event], delivery.Handler]) -> None:
    deliveries = message.metadata.num_delivered or 1
    try:
        await delivery.settle(message, durable, singly, deliveries)
    except Exception:
        log.warning("handling failed", delivery=deliveries, exc_info=True)
        await _again(message, deliveries)
    else:
        await _ack(message)


async def _ack(message: Msg) -> None:
    # An ack that does not reach the bus means a redelivery, and that changes nothing.
    with suppress(NatsError):
        await message.ack()


async def _again(message: Msg, deliveries: int) -> None:
    with suppress(NatsError):
        await message.nak(delay=delivery.retry_delay(deliveries))
