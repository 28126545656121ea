"""One durable, pulled as fast as it is recorded.

A request for many messages is kept under way at all times; the server answers with messages as it has them, or
with a status when the request's time is over. What was asked for and has not come is counted, so that no more is
under way than this process can hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from affiant.auditor.domain.arrival import Arrival
from affiant.common import bus, wire
from affiant.common.client import Client

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 5.0
MOST_BYTES = 64 * 1024**2
"""As much is held of one durable; half of what nats-py lets wait in a subscription before it drops messages."""
LEAST_BYTES = 8 * 1024**2
"""With less room than this no more is asked for: one message may be a mebibyte."""
_ENDED = {"404", "408", "409"}
"""Statuses that end a request: nothing there, its time is over, the consumer or the limit does not allow it."""


class Held(Struct, frozen=True):
    """A message that was delivered and is not acked yet, with the events in it. `stored_at`: when the bus took it,
    seconds since 1970; `size`: its bytes."""

    arrivals: tuple[Arrival, ...]
    durable: str
    reply: str
    stored_at: float
    size: int


class Pull:
    """Requests messages of `durable`, at most `window` of them delivered and not yet acked, for `deliver`."""

    def __init__(self, nats: Client, durable: bus.Durable, window: int, deliver: Callable[[Held], None]) -> None:
        self.durable = durable
        self.held: dict[str, Held] = {}
        self.last_stored_at: float | None = None
        self._held_bytes = 0
        self._nats = nats
        self._window = min(window, durable.max_ack_pending)
        self._deliver = deliver
        self._next = f"{nats.api}.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}"
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._expected = 0
        self._expires = 0.0
        self._reconnects = 0

    async def start(self) -> None:
        """Listen for what will be delivered."""
        self._inbox = self._nats.new_inbox()
        self._subscription = await self._nats.subscribe(self._inbox, cb=self._receive)

    async def stop(self) -> None:
        """Take no more; what is under way to here is delivered again later."""
        if self._subscription is not None and not self._nats.is_closed:
            await self._subscription.unsubscribe()

    async def ask(self) -> None:
        """Ask for more where there is room and the last request has (almost) been answered; cheap to repeat."""
        room, room_bytes = self._window - len(self.held), MOST_BYTES - self._held_bytes
        # After a reconnect the server knows nothing of the old request.
        if time.monotonic() > self._expires or self._nats.stats["reconnects"] != self._reconnects:
            self._expected = 0
        if not self._nats.is_connected or self._expected > room // 2 or room <= 0 or room_bytes < LEAST_BYTES:
            return
        number = room - self._expected
        request = {"batch": number, "max_bytes": room_bytes, "expires": int(REQUEST_SECONDS * 1e9)}
        await self._nats.publish(self._next, msgspec.json.encode(request), reply=self._inbox)
        self._expected += number
        self._expires = time.monotonic() + REQUEST_SECONDS + 1.0
        self._reconnects = self._nats.stats["reconnects"]

    def release(self, held: Held) -> None:
        """This message is acked, or will be delivered again."""
        if self.held.pop(held.reply, None) is not None:
            self._held_bytes -= held.size

    async def _receive(self, message: Msg) -> None:
        if not message.reply:
            self._take_status(message)
            return
        tokens = message.reply.split(".")
        # $JS.ACK.<stream>.<durable>.<deliveries>.<sequence>.<…>.<nanoseconds>.<pending>, or with domain and account
        # before the stream (ADR-15 of nats-architecture-and-design).
        shift = 0 if len(tokens) == 9 else 2
        sequence, nanoseconds = int(tokens[5 + shift]), int(tokens[7 + shift])
        arrivals = tuple(
            Arrival(
                message.subject, single.body, single.headers, self.durable.name, self.durable.stream, sequence, place
            )
            for place, single in enumerate(wire.unbatched(message.data, message.headers))
        )
        held = Held(arrivals, self.durable.name, message.reply, nanoseconds / 1e9, len(message.data))
        self._expected -= 1
        self.last_stored_at = held.stored_at
        self.held[held.reply] = held
        self._held_bytes += held.size
        self._deliver(held)

    def _take_status(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status in _ENDED:
            self._expected = max(0, self._expected - int(headers.get("Nats-Pending-Messages", self._expected)))
        if status not in ("404", "408") and "MaxBytes" not in headers.get("Description", ""):
            log.warning("the bus ended a request", durable=self.durable.name, status=status, headers=dict(headers))
