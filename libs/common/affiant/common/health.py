"""Is this process alive, and may it be given work? Two questions, because they have two answers.

Alive: the event loop turns. Ready: connected to the bus, every durable found, no permission refused, and nothing
that the service itself misses.
"""

from __future__ import annotations

import time

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from affiant.common import bus

log = structlog.get_logger(__name__)

CACHE_SECONDS = 2.0
VIOLATION_SECONDS = 60.0


class BusHealth:
    """What is wrong between this service and the bus, in words."""

    def __init__(self, service: str) -> None:
        self._durables = bus.durables_of(service)
        self._violation = ""
        self._violated_at = 0.0
        self._asked_at = 0.0
        self._answer: list[str] = ["not connected to the bus yet"]

    async def on_error(self, error: Exception) -> None:
        """nats-py shows a permission violation only here: the call itself sees a time-out."""
        if "permissions violation" in str(error).lower():
            self._violation, self._violated_at = str(error), time.monotonic()
        log.warning("the bus reports an error", reason=str(error) or repr(error))

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
