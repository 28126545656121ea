"""Publishes events to JetStream and says when each is stored: group commit.

While one message is on its way the events that come in the meantime collect, and travel together in the next one
(`wire.batched`): one message, one `fsync` of nats-server, one acknowledgement for all of them. A lone event leaves at
once, alone. When an acknowledgement takes long, the next message does not wait for it any more.

A message is never given up. When an answer fails to come, or says no, the same events are sent again together, under
the same `Nats-Msg-Id`, so that what had been stored is recognised.

nats-py's own `publish_async` is not used: it leaks futures after a reconnect and then stalls (nats-py#985). JetStream's
atomic batches (ADR-50) are not used either: decision 5 has the figures.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from affiant.common.wire import Message, batched
from affiant.modelserver.connection import Disconnected, command

log = structlog.get_logger(__name__)

FLIGHTS = 8
"""Messages that may be on their way at once."""
PATIENCE_SECONDS = 0.02
"""How long events wait for the message before them to be acknowledged. Longer than a sync of a good disk: waiting for
it makes fewer and larger messages, which costs both sides less. Shorter than what a client would notice."""
LARGEST_BATCH = 200
LARGEST_BATCH_BYTES = 500_000
ACK_SECONDS = 3.0
TICK_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 2.0


class NotDurable(Exception):
    """The message was not stored within its time; the text says why. It will be stored later all the same."""


class Bus(Protocol):
    """What is needed of a connection."""

    on_reply: Callable[[str, bytes, str], None]
    on_change: Callable[[], None]

    @property
    def connected(self) -> bool: ...

    @property
    def trouble(self) -> str: ...

    def reply_subject(self, token: str) -> str: ...

    def write(self, commands: bytes) -> None: ...


class Entry:
    """A message on its way. `message` may be replaced by another with the same id while it is not stored.

    Where the first one had been stored already and only the acknowledgement was lost, the first one counts.
    """

    __slots__ = ("deadline", "durable", "message", "size")

    def __init__(self, message: Message, durable: asyncio.Future[None], deadline: float) -> None:
        self.message = message
        self.durable = durable
        self.deadline = deadline
        self.size = len(message.body)


class _Flight:
    """Events that were sent in one message, whose acknowledgement is awaited."""

    __slots__ = ("entries", "sent_at")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.sent_at = time.monotonic()


class _Error(Struct):
    description: str = ""
    err_code: int = 0


class _Ack(Struct):
    stream: str = ""
    error: _Error | None = None


_acks = msgspec.json.Decoder(_Ack)


class Publisher:
    """Use from one event loop. `on_stored(events, seconds)` is told of each acknowledgement."""

    def __init__(self, bus: Bus, on_stored: Callable[[int, float], None] = lambda *_: None) -> None:
        self._bus = bus
        self._on_stored = on_stored
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry] = deque()
        self._again: deque[list[Entry]] = deque()
        self._flights: dict[str, _Flight] = {}
        self._last_sent_at = 0.0
        self._expiring: deque[Entry] = deque()
        self._scheduled = False
        self._ticking = False
        self._token = 0
        self._pause = 0.0
        self._paused_until = 0.0
        self._refusal = ""
        self._empty = asyncio.Event()
        self._empty.set()
        self.count = 0
        self.size = 0
        bus.on_reply = self._replied
        bus.on_change = self._changed

    def submit(self, message: Message, seconds: float | None = None) -> Entry:
        """Take `message` over. `entry.durable` is done when it is stored; after `seconds` it raises `NotDurable`,
        and the message goes on being tried."""
        deadline = self._loop.time() + seconds if seconds else 0.0
        entry = Entry(message, self._loop.create_future(), deadline)
        self._waiting.append(entry)
        if deadline:
            self._expiring.append(entry)
        self.count += 1
        self.size += entry.size
        self._schedule()
        return entry

    @property
    def trouble(self) -> str:
        """Why messages are not stored at this moment, in words."""
        return self._bus.trouble or self._refusal

    async def flush(self, seconds: float) -> list[Message]:
        """Wait until everything is stored; returns what is not after `seconds`."""
        if self.count:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                log.warning("messages are left unpublished", messages=self.count, reason=self.trouble)
        flying = [entry for flight in self._flights.values() for entry in flight.entries]
        again = [entry for entries in self._again for entry in entries]
        return [entry.message for entry in (*flying, *again, *self._waiting)]

    # --- sending ----------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Send at the end of this turn of the event loop: requests that are handled in one turn share a batch."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _send(self) -> None:
        self._scheduled = False
        if not self._bus.connected:
            return
        try:
            while self._again and len(self._flights) < FLIGHTS and time.monotonic() >= self._paused_until:
                self._write(self._again.popleft())
            while self._waiting and self._may_send():
                self._write(self._take())
        except Disconnected:
            return  # what was to be sent is in a flight; `_changed` follows

    def _may_send(self) -> bool:
        """Whether what waits should leave now, and not with what comes until the last message is acknowledged."""
        if not self._flights:
            return True
        patient = time.monotonic() < self._last_sent_at + PATIENCE_SECONDS
        return not patient and len(self._flights) < FLIGHTS

    def _take(self) -> list[Entry]:
        """Those that have waited longest, as many as fit into one message; events of one subject only."""
        entries = [self._waiting.popleft()]
        size = entries[0].size
        while self._waiting and len(entries) < LARGEST_BATCH:
            size += self._waiting[0].size
            if size > LARGEST_BATCH_BYTES or self._waiting[0].message.subject != entries[0].message.subject:
                break
            entries.append(self._waiting.popleft())
        return entries

    def _write(self, entries: list[Entry]) -> None:
        self._token += 1
        token = str(self._token)
        self._flights[token] = flight = _Flight(entries)
        self._last_sent_at = flight.sent_at
        message = batched([entry.message for entry in entries])
        self._bus.write(command(message.subject, self._bus.reply_subject(token), message.headers, message.body))

    # --- answers ----------------------------------------------------------------------------------------------

    def _replied(self, token: str, body: bytes, status: str) -> None:
        flight = self._flights.pop(token, None)
        if flight is None:
            return  # an answer that came after its events were sent again
        refusal = _refusal(body, status)
        if refusal:
            self._refused(flight, refusal)
        else:
            self._stored(flight)
        self._schedule()

    def _stored(self, flight: _Flight) -> None:
        self._pause = 0.0
        self._refusal = ""
        for entry in flight.entries:
            self.count -= 1
            self.size -= entry.size
            if not entry.durable.done():
                entry.durable.set_result(None)
        self._on_stored(len(flight.entries), time.monotonic() - flight.sent_at)
        if not self.count:
            self._empty.set()

    def _refused(self, flight: _Flight, refusal: str) -> None:
        self._again.append(flight.entries)
        if refusal != self._refusal:
            log.warning("the stream refused a message; trying again", reason=refusal, events=len(flight.entries))
        self._refusal = refusal
        self._pause = min(max(2 * self._pause, 0.1), LONGEST_PAUSE_SECONDS)
        self._paused_until = time.monotonic() + self._pause

    def _changed(self) -> None:
        """The connection was lost or is back: answers to what was sent before will not come."""
        self._again.extend(flight.entries for flight in self._flights.values())
        self._flights.clear()
        self._schedule()

    # --- time -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticking = False
        self._expire()
        self._doubt()
        if self.count:
            self._schedule()

    def _expire(self) -> None:
        now = self._loop.time()
        while self._expiring and (self._expiring[0].durable.done() or self._expiring[0].deadline <= now):
            entry = self._expiring.popleft()
            if not entry.durable.done():
                entry.durable.set_exception(NotDurable(self.trouble or "the bus does not acknowledge in time"))

    def _doubt(self) -> None:
        oldest = time.monotonic() - ACK_SECONDS
        for token in [token for token, flight in self._flights.items() if flight.sent_at < oldest]:
            flight = self._flights.pop(token)
            log.warning("no acknowledgement; sending again", events=len(flight.entries), reason=self.trouble)
            self._again.append(flight.entries)


def _refusal(body: bytes, status: str) -> str:
    """Why the server did not store the message; empty when it did."""
    if status:
        return "no stream takes the subject" if status == "503" else f"the bus answered {status}"
    try:
        ack = _acks.decode(body)
    except msgspec.DecodeError as error:
        return f"the bus answered what is no acknowledgement: {error}"
    if ack.error is not None:
        return f"{ack.error.description} ({ack.error.err_code})"
    return "" if ack.stream else "the bus answered without naming a stream"
