"""Is this process alive, and may it be given work? Two questions, because they have two answers.

Alive: the event loop turns. Ready: connected to the bus, every durable found, no permission refused, and nothing
that the service itself misses.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from affiant.common import bus

log = structlog.get_logger(__name__)

CACHE_SECONDS = 2.0
VIOLATION_SECONDS = 60.0


LONGEST_SILENCE_SECONDS = 60.0


class Seldom:
    """Says when something that goes on may be logged again: at once, after 1 s, 2 s, 4 s… at last once a minute.

    After twice that time without it, it is news again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silence = 1.0
        self._next = self._asked = clock()

    def due(self) -> bool:
        """Whether to log it now."""
        now = self._clock()
        if now - self._asked > 2 * LONGEST_SILENCE_SECONDS:
            self._silence, self._next = 1.0, now
        self._asked = now
        if now < self._next:
            return False
        self._next = now + self._silence
        self._silence = min(2 * self._silence, LONGEST_SILENCE_SECONDS)
        return True


class BusHealth:
    """What is wrong between this service and the bus, in words."""

    def __init__(self, service: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = ""
        self._said = Seldom(clock)
        self._durables = bus.durables_of(service)
        self._violation = ""
        self._violated_at = 0.0
        self._asked_at = 0.0
        self._answer: list[str] = ["not connected to the bus yet"]

    async def on_error(self, error: Exception) -> None:
        """nats-py shows a permission violation only here: the call itself sees a time-out."""
        if "permissions violation" in str(error).lower():
            self._violation, self._violated_at = str(error), time.monotonic()
        reason = str(error) or repr(error)
        if reason != self._last:
            self._last, self._said = reason, Seldom(self._clock)
        if self._said.due():
            log.warning("the bus reports an error", reason=reason)

    async def problems(self, nats: Client | None, js: JetStreamContext | None) -> list[str]:
        """Why this service could not do its work on the bus at this moment; asked at most every two seconds."""
        if nats is None or js is None:
            return ["not connected to the bus yet"]
        if not nats.is_connected:
            return ["the connection to the bus is lost; trying again"]
        if time.monotonic() - self._asked_at > CACHE_SECONDS:
            self._answer = await self._missing(js)
            self._asked_at = time.monotonic()
        return self._answer + self._violations()

    def _violations(self) -> list[str]:
        recent = self._violation and time.monotonic() - self._violated_at < VIOLATION_SECONDS
        return [f"the bus refused something: {self._violation}"] if recent else []

    async def _missing(self, js: JetStreamContext) -> list[str]:
        problems = []
        for durable in self._durables:
            try:
                await js.consumer_info(durable.stream, durable.name, timeout=2)
            except NotFoundError:
                problems.append(f"durable {durable.name} on stream {durable.stream} is not declared")
            except (NatsError, TimeoutError) as error:
                problems.append(f"cannot ask for durable {durable.name}: {error or 'no answer in time'}")
        return problems
