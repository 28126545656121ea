"""Publishes messages to JetStream and says when each is stored: group commit in atomic batches.

A few messages are published each by itself, many as one atomic batch (ADR-50, nats-server ≥ 2.12), so that they
share the server's `fsync`. The messages of a batch carry `Nats-Batch-Id` and `Nats-Batch-Sequence`, the last one
`Nats-Batch-Commit`; the server stores all or none.

A batch is opened with its first message alone, and committed with all that came in the meantime once the server has
acknowledged the opening. For nats-server makes a small store on its disk for each batch, with four synchronous writes
(2–3 ms here), before it takes the first message: most requests of a batch are computed while it does, and wait for
the commit alone (under 1 ms). While one batch is committed the next may be opened.

A message is never given up. When an answer fails to come, or says no, its messages are sent again, each by itself:
what had been stored is recognised by its `Nats-Msg-Id`, but one such duplicate refuses a whole batch (error 10201).

nats-py's own `publish_async` is not used: it leaks futures after a reconnect and then stalls (nats-py#985).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from affiant.common import ids
from affiant.common.wire import Message
from affiant.modelserver.connection import Disconnected, command

log = structlog.get_logger(__name__)

SINGLES_IN_FLIGHT = 64
SMALLEST_BATCH = 6
"""An atomic batch takes the server about as long as this many single messages (`sync_interval: always`)."""
BATCHES_DISABLED = 10174
LARGEST_BATCH = 500
LARGEST_BATCH_BYTES = 4_000_000
ACK_SECONDS = 3.0
TICK_SECONDS = 0.05
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
    """Messages that were sent and whose one acknowledgement is awaited. `batch` is the id of a batch that is being
    opened with them, and empty otherwise."""

    __slots__ = ("batch", "entries", "sent_at")

    def __init__(self, entries: list[Entry], batch: str = "") -> None:
        self.entries = entries
        self.batch = batch
        self.sent_at = time.monotonic()


class _Error(Struct):
    description: str = ""
    err_code: int = 0


class _Ack(Struct):
    stream: str = ""
    error: _Error | None = None


_acks = msgspec.json.Decoder(_Ack)


class Publisher:
    """Use from one event loop. `on_stored(messages, seconds)` is told of each acknowledgement."""

    def __init__(self, bus: Bus, on_stored: Callable[[int, float], None] = lambda *_: None) -> None:
        self._bus = bus
        self._on_stored = on_stored
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry] = deque()
        self._again: deque[Entry] = deque()
        self._flights: dict[str, _Flight] = {}
        self._opening = ""
        self._batches = True
        self._busy = False
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
        if self._busy and not self._opening and self._batches and self._bus.connected:
            self._open_at_once()
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
        return [entry.message for entry in (*flying, *self._again, *self._waiting)]

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
            self._send_again()
            if self._waiting and not self._opening:
                self._send_waiting()
        except Disconnected:
            return  # what was to be sent is in a flight; `_changed` follows

    def _send_again(self) -> None:
        if time.monotonic() < self._paused_until:
            return
        while self._again and len(self._flights) < SINGLES_IN_FLIGHT:
            self._send_single(self._again.popleft())

    def _send_waiting(self) -> None:
        if self._batches and len(self._waiting) + len(self._flights) >= SMALLEST_BATCH:
            self._open()
            return
        while self._waiting and len(self._flights) < SINGLES_IN_FLIGHT:
            self._send_single(self._waiting.popleft())

    def _send_single(self, entry: Entry) -> None:
        self._write(_Flight([entry]), lambda reply: _single(entry.message, reply))

    def _open_at_once(self) -> None:
        """Under load the next batch will be a large one, too: open it before the rest of it is even computed."""
        with contextlib.suppress(Disconnected):
            self._open()

    def _open(self) -> None:
        self._opening = batch = ids.uuid7()
        entry = self._waiting.popleft()
        self._write(_Flight([entry], batch), lambda reply: _batched(entry.message, reply, batch, 1))

    def _commit(self, opened: _Flight) -> None:
        """Send what has collected since the batch was opened, and close it."""
        self._opening = ""
        entries = opened.entries + self._take()
        self._busy = len(entries) >= SMALLEST_BATCH
        self._write(_Flight(entries), lambda reply: _rest(entries, reply, opened.batch))

    def _take(self) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        while self._waiting and len(entries) < LARGEST_BATCH - 1 and size < LARGEST_BATCH_BYTES:
            entries.append(self._waiting.popleft())
            size += entries[-1].size
        return entries

    def _write(self, flight: _Flight, commands: Callable[[str], bytes]) -> None:
        self._token += 1
        token = str(self._token)
        self._flights[token] = flight
        self._bus.write(commands(self._bus.reply_subject(token)))

    # --- answers ----------------------------------------------------------------------------------------------

    def _replied(self, token: str, body: bytes, status: str) -> None:
        flight = self._flights.pop(token, None)
        if flight is None:
            return  # an answer that came after its messages were sent again
        if flight.batch and not body and not status:
            with contextlib.suppress(Disconnected):
                self._commit(flight)
            self._schedule()
            return
        refusal, code = _refusal(body, status)
        if flight.batch:
            self._opening = ""
            # A server before 2.12 does not know batches: it stores the first message, and says so.
            if not refusal or code == BATCHES_DISABLED:
                self._do_without_batches()
        if refusal:
            self._refused(flight, refusal)
        else:
            self._stored(flight)
        self._schedule()

    def _do_without_batches(self) -> None:
        if self._batches:
            self._batches = False
            log.warning("the stream takes no atomic batches; every message is sent singly, which is slower")

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
        """A refused batch is tried message by message at once; a message that is refused by itself waits."""
        self._again.extend(flight.entries)
        if flight.batch or len(flight.entries) > 1:
            log.info("a batch was refused; sending its messages singly", messages=len(flight.entries), reason=refusal)
            return
        if refusal != self._refusal:
            log.warning("the stream refused a message; trying again", reason=refusal)
        self._refusal = refusal
        self._pause = min(max(2 * self._pause, 0.1), LONGEST_PAUSE_SECONDS)
        self._paused_until = time.monotonic() + self._pause

    def _changed(self) -> None:
        """The connection was lost or is back: answers to what was sent before will not come."""
        for flight in self._flights.values():
            self._again.extend(flight.entries)
        self._flights.clear()
        self._opening = ""
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
            if flight.batch:
                self._opening = ""
            log.warning("no acknowledgement; sending again", messages=len(flight.entries), reason=self.trouble)
            self._again.extend(flight.entries)


def _single(message: Message, reply: str) -> bytes:
    return command(message.subject, reply, message.headers, message.body)


def _batched(message: Message, reply: str, batch: str, number: int, commit: str = "") -> bytes:
    headers = {**message.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
    if commit:
        headers["Nats-Batch-Commit"] = commit
    return command(message.subject, reply, headers, message.body)


def _rest(entries: list[Entry], reply: str, batch: str) -> bytes:
    """All but the first message of a batch, the last of them with the commit. A batch that has stayed alone is
    committed by a message that the server does not store (`eob`)."""
    last = len(entries)
    if last == 1:
        return _batched(Message(entries[0].message.subject, b"", {}, ""), reply, batch, 2, "eob")
    commands = [_batched(entry.message, "", batch, number) for number, entry in enumerate(entries[1:-1], 2)]
    return b"".join([*commands, _batched(entries[-1].message, reply, batch, last, "1")])


def _refusal(body: bytes, status: str) -> tuple[str, int]:
    """Why the server did not store the message, and its error code; empty when it did."""
    if status:
        return "no stream takes the subject" if status == "503" else f"the bus answered {status}", 0
    try:
        ack = _acks.decode(body)
    except msgspec.DecodeError as error:
        return f"the bus answered what is no acknowledgement: {error}", 0
    if ack.error is not None:
        return f"{ack.error.description} ({ack.error.err_code})", ack.error.err_code
    return "" if ack.stream else "the bus answered without naming a stream", 0
