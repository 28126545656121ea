"""The outbox: an event is written in the same transaction as the state that it tells of, and published after.

Never save, then publish: a process that dies between the two has changed the world and told nobody. The relay
publishes in order and removes a row once JetStream has acknowledged it; what was published twice around a crash
carries the same `Nats-Msg-Id`, and every consumer keeps events by their id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog
from nats.js import JetStreamContext
from prometheus_client import Gauge
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    select,
)

from affiant.common import wire
from affiant.common.delivery import retry_delay

log = structlog.get_logger(__name__)

_waiting = Gauge("affiant_outbox_waiting", "Events written but not yet on the bus")

POLL_SECONDS = 1.0
BATCH = 100


def outbox_table(metadata: MetaData) -> Table:
    """The table of events that wait; part of the service's own schema, so that one transaction covers both."""
    return Table(
        "outbox",
        metadata,
        Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", String(64), nullable=False, unique=True),
        Column("subject", String(255), nullable=False),
        Column("headers", LargeBinary, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )


def put(connection: Connection, table: Table, message: wire.Message) -> None:
    """Let `message` wait for the relay, in the transaction that `connection` has open."""
    connection.execute(
        insert(table).values(
            event_id=message.id,
            subject=message.subject,
            headers=msgspec.json.encode(message.headers),
            body=message.body,
        )
    )


@dataclass(frozen=True)
class _Waiting:
    event_id: str
    subject: str
    headers: dict[str, str]
    body: bytes


class Relay:
    """Publishes what waits in the outbox, in order, for as long as it runs."""

    def __init__(self, engine: Engine, table: Table, js: JetStreamContext) -> None:
        self._engine = engine
        self._table = table
        self._js = js
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: look now instead of at the next poll. Call from the event loop."""
        self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled. A bus that is away is waited for; nothing leaves the table without its ack."""
        failures = 0
        while True:
            self._woken.clear()
            try:
                while await self.publish_waiting():
                    failures = 0
            except Exception as error:
                failures += 1
                log.warning("the outbox cannot publish", reason=repr(error), failures=failures)
                await asyncio.sleep(min(retry_delay(failures), 5.0))
                continue
            await self._wait()

    async def publish_waiting(self) -> int:
        """Publish up to one batch; returns how many there were."""
        waiting = await asyncio.to_thread(self._read)
        done: list[str] = []
        try:
            for row in waiting:
                await self._js.publish(row.subject, row.body, headers=row.headers)
                done.append(row.event_id)
        finally:
            if done:
                _waiting.set(await asyncio.to_thread(self._remove, done))
        return len(waiting)

    def _read(self) -> Sequence[_Waiting]:
        columns = self._table.c
        query = select(columns.event_id, columns.subject, columns.headers, columns.body)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(columns.sequence).limit(BATCH)).all()
        return [_Waiting(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str]), row[3]) for row in rows]

    def _remove(self, event_ids: list[str]) -> int:
        """By the events' ids: an emptied SQLite table counts from one again, and by its number a row that was written
        meanwhile would be removed unpublished, should a second process publish from the same file.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(self._table).where(self._table.c.event_id.in_(event_ids)))
            return int(connection.execute(select(func.count()).select_from(self._table)).scalar_one())

    async def _wait(self) -> None:
        # Not wait_for: before Python 3.12 it can lose a cancellation that comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()
