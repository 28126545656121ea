"""Publishes what waits in the outbox, in order; the counterpart of `affiant.common.outbox` over the auditor's store."""

from __future__ import annotations

import asyncio

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.auditor.actions.writer import Writer
from affiant.auditor.store import outbox
from affiant.auditor.store.database import Database, StoreAway
from affiant.common.delivery import retry_delay

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
BATCH = 100


class Relay:
    """One relay for each store. `wake` after a commit; without it the next poll finds what waits."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: look now."""
        self._woken.set()

    async def run(self, js: JetStreamContext) -> None:
        """Publish until cancelled; nothing leaves the outbox before the bus has acked it."""
        failures = 0
        while True:
            self._woken.clear()
            try:
                while await self._publish(js):
                    failures = 0
            except (NatsError, TimeoutError, StoreAway) as error:
                failures += 1
                log.warning("the outbox cannot publish", reason=repr(error), failures=failures)
                await asyncio.sleep(min(retry_delay(failures), 5.0))
                continue
            try:
                await asyncio.wait_for(self._woken.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def _publish(self, js: JetStreamContext) -> int:
        waiting = await asyncio.to_thread(self._waiting)
        done: list[str] = []
        try:
            for one in waiting:
                await js.publish(one.subject, one.body, headers=one.headers)
                done.append(one.event_id)
        finally:
            if done:
                await self._writer.write(lambda connection: outbox.remove(connection, done))
        return len(waiting)

    def _waiting(self) -> list[outbox.Waiting]:
        with self._database.reading() as connection:
            return outbox.waiting(connection, BATCH)
