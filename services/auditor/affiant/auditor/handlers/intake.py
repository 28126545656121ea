"""The intake: one loop that gathers batches from every durable, has them recorded, and acks what is durable.

While the store is away the batch is held: the bus is told that work is in progress (+WPI), nothing is acked and
nothing is given up, and the same batch is tried again until it is on the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog
from nats.errors import Error as NatsError, MaxPayloadError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from affiant.auditor.actions import metrics
from affiant.auditor.actions.record import Outcome
from affiant.auditor.domain.arrival import Arrival, Fault
from affiant.auditor.handlers.pull import Held, Pull
from affiant.auditor.store.database import Standby, StoreAway
from affiant.common import bus, delivery
from affiant.common.client import Client

log = structlog.get_logger(__name__)

Record = Callable[[Sequence[Arrival]], Awaitable[Outcome]]

SOURCES = (bus.AUDITOR_MODELS, bus.AUDITOR_PREDICTIONS, bus.AUDITOR_EXPLANATIONS, bus.AUDITOR_OWN)
PROGRESS_SECONDS = min(durable.ack_wait_seconds for durable in SOURCES) / 4
"""How often the bus is told that held messages are being worked on: before it would deliver them again."""
RETRY_SECONDS = 0.5
STOP_SECONDS = 5.0
NO_ROOM = 10077
"""What nats-server answers when a stream is full, or its disk."""


class Intake:
    """Reads every durable of the auditor into `record`, in batches of at most `batch` events."""

    def __init__(self, nats: Client, js: JetStreamContext, record: Record, *, batch: int, linger: float) -> None:
        self.away = ""
        self._nats = nats
        self._js = js
        self._record = record
        self._batch = batch
        self._linger = linger
        self._waiting: deque[Held] = deque()
        self._waiting_events = 0
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._pulls = {durable.name: Pull(nats, durable, 3 * batch, self._deliver) for durable in SOURCES}
        self._last_progress = time.monotonic()
        self._keeping: asyncio.Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether more has arrived than fits into the next batch: there is a backlog."""
        return self._waiting_events >= self._batch

    async def run(self) -> None:
        """Gather, record, ack, until cancelled; then finish the batch under way and hand back the rest."""
        for pull in self._pulls.values():
            await pull.start()
        try:
            while True:
                if batch := await self._gather():
                    self._keeping = asyncio.ensure_future(self._keep(batch))
                    await asyncio.shield(self._keeping)
        finally:
            await self._hand_back()

    async def _hand_back(self) -> None:
        """Nack what is held and not acked: the next process gets it at once, not when `ack_wait` is over."""
        if self._keeping is not None and not self._keeping.done():
            await asyncio.wait({self._keeping}, timeout=STOP_SECONDS)
            self._keeping.cancel()
        for pull in self._pulls.values():
            await pull.stop()
        with suppress(NatsError):
            for pull in self._pulls.values():
                for reply in list(pull.held):
                    await self._nats.publish(reply, b"-NAK")

    def oldest(self, durable: str) -> float | None:
        """When the bus took the oldest message that is not durable here, in seconds since 1970: of those that are
        held, or at the earliest after the last one that was delivered; None before any was.
        """
        pull = self._pulls[durable]
        return min((held.stored_at for held in pull.held.values()), default=pull.last_stored_at)

    def _deliver(self, held: Held) -> None:
        self._waiting.append(held)
        self._waiting_events += len(held.arrivals)
        self._arrived.set()
        if self._waiting_events >= self._batch:
            self._full.set()

    async def _gather(self) -> list[Held]:
        """The next batch: full, or what came within the linger after its first event."""
        await self._ask()
        if not self._waiting:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), 1.0)
        self._full.clear()
        if self._waiting and self._waiting_events < self._batch:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._linger)
        return self._take()

    def _take(self) -> list[Held]:
        """The messages that have waited longest, until they hold a batch of events."""
        taken: list[Held] = []
        events = 0
        while self._waiting and events < self._batch:
            taken.append(self._waiting.popleft())
            events += len(taken[-1].arrivals)
        self._waiting_events -= events
        return taken

    async def _ask(self) -> None:
        for pull in self._pulls.values():
            # A bus that goes away in this moment is asked again after the reconnect.
            with suppress(NatsError):
                await pull.ask()

    async def _keep(self, batch: list[Held]) -> None:
        outcome = await self._until_durable([arrival for held in batch for arrival in held.arrivals])
        metrics.lag_seconds.observe(max(0.0, time.time() - min(held.stored_at for held in batch)))
        refused = await self._set_aside(outcome.faults)
        for held in batch:
            self._pulls[held.durable].release(held)
            if not any(id(arrival) in refused for arrival in held.arrivals):
                await self._ack(held)
        metrics.count(outcome)

    async def _until_durable(self, arrivals: list[Arrival]) -> Outcome:
        """Record `arrivals`, however long the store is away."""
        while True:
            working = asyncio.ensure_future(self._record(arrivals))
            try:
                while not working.done():
                    await asyncio.wait({working}, timeout=PROGRESS_SECONDS)
                    await self._progress()
                outcome = await working
            except Standby:
                # Whoever leads now records it: what is held here goes back to the bus.
                raise
            except StoreAway as reason:
                self._note_away(str(reason))
                await self._progress()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._note_away("")
                return outcome

    def _note_away(self, reason: str) -> None:
        if reason and not self.away:
            log.error("the store is away; holding what arrived", reason=reason)
        elif self.away and not reason:
            log.info("the store is back")
        self.away = reason
        metrics.store_away.set(1 if reason else 0)

    async def _progress(self) -> None:
        """Tell the bus that every held message is being worked on, or it would deliver them again."""
        if time.monotonic() - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = time.monotonic()
        with suppress(NatsError):
            for pull in self._pulls.values():
                for reply in list(pull.held):
                    await self._nats.publish(reply, b"+WPI")

    async def _set_aside(self, faults: Sequence[Fault]) -> set[int]:
        """Every fault becomes a dead letter too. Returns the arrivals for which the bus gave no answer: they are
        not acked, and set aside once more when they are delivered again.

        What the stream refuses, because it is full, stays in the quarantine alone. To wait for room would let whoever
        sends enough of what is malformed hold up the record: so many messages may be unacked, and then none comes.
        """
        failed = set()
        for fault in faults:
            await self._progress()
            try:
                await self._dead_letter(fault)
            except MaxPayloadError:
                # No room for the reason beside the body, and there never will be; the quarantine has both.
                log.error("too large for a dead letter", subject=fault.arrival.subject, reason=fault.reason)  # noqa: TRY400
            except (NatsError, TimeoutError) as error:
                if isinstance(error, APIError) and error.err_code == NO_ROOM:
                    log.error("no dead letter, only quarantined", subject=fault.arrival.subject, reason=str(error))  # noqa: TRY400
                    continue
                log.warning("cannot set a message aside now", reason=repr(error), subject=fault.arrival.subject)
                failed.add(id(fault.arrival))
        return failed

    async def _dead_letter(self, fault: Fault) -> None:
        arrival = fault.arrival
        await delivery.set_aside(
            self._js,
            next(durable for durable in SOURCES if durable.name == arrival.durable),
            subject=arrival.subject,
            body=arrival.body,
            headers=arrival.headers,
            reason=fault.reason,
            key=f"{arrival.stream}.{arrival.sequence}.{arrival.place}",
        )

    async def _ack(self, held: Held) -> None:
        # An ack that does not reach the bus means a redelivery, and that changes nothing.
        with suppress(NatsError):
            await self._nats.publish(held.reply, b"")
