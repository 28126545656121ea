"""One contender drains the stream PREDICTIONS and says how long it took.

    python drain.py <contender> <bus> <store> <events> <folder>

    ours         the auditor as it is run: validated, de-duplicated, leaves, look-up rows, checkpoints, then acked
    no-store     the auditor's own intake, with nothing done to what it pulls: what the loop itself can do
    usual        FastStream: a handler for each message that decodes it with pydantic and inserts one row
    batches      FastStream: a batch subscriber of raw bytes, 500 at a time, inserted with executemany

Each process has a durable of its own. The last line printed is JSON: seconds from the first message to the last ack,
processor seconds, and the most memory that was held.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.annotations import NatsMessage
from nats.js.api import ConsumerConfig
from pydantic import BaseModel

from affiant.auditor.actions.record import Outcome
from affiant.auditor.app import make_service
from affiant.auditor.domain.arrival import Arrival
from affiant.auditor.handlers import intake as intakes
from affiant.auditor.handlers.intake import Intake
from affiant.auditor.settings import AuditorSettings
from affiant.common import bus
from affiant.common.client import Client
from affiant.common.service import Runtime

TABLE = "CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, model TEXT, received_at TEXT, body {bytes} NOT NULL)"
SUBJECTS = "affiant.modelserver.>"


class Clock:
    """Counts what was made durable, and knows when it began."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.done = 0
        self.began = 0.0
        self.ended = asyncio.Event()
        self._processor = 0.0

    def start(self) -> None:
        if not self.began:
            self.began, self._processor = time.perf_counter(), time.process_time()

    def add(self, number: int) -> None:
        self.done += number
        if self.done >= self.events:
            self.seconds = time.perf_counter() - self.began
            self.processor = time.process_time() - self._processor
            self.ended.set()

    def say(self) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": self.seconds, "processor": self.processor, "peak_mib": peak}))


# --- ours -----------------------------------------------------------------------------------------------------


async def ours(url: str, store: str, clock: Clock) -> None:
    """The whole service, but for its port."""
    place = {"database_url": store} if store.startswith("postgresql") else {}
    folder = store if not place else sys.argv[5]
    service = make_service(AuditorSettings(nats_url=url, data_dir=folder, **place))  # type: ignore[arg-type]
    keep = Intake._keep

    async def counted(self: Intake, batch: Any) -> None:
        clock.start()
        await keep(self, batch)
        clock.add(sum(len(held.arrivals) for held in batch))

    Intake._keep = counted  # type: ignore[method-assign]
    await _run(url, service.lifespan, clock)


async def no_store(url: str, _: str, clock: Clock) -> None:
    """The intake over a record that forgets at once: pulling, de-batching, acking."""

    async def record(arrivals: Sequence[Arrival]) -> Outcome:
        clock.start()
        clock.add(len(arrivals))
        return Outcome(len(arrivals))

    client = Client()
    await client.connect(url, inbox_prefix=bus.inbox_prefix("auditor"))
    intakes.SOURCES = (bus.AUDITOR_PREDICTIONS,)  # type: ignore[assignment]
    intake = Intake(client, client.jetstream(), record, batch=2_000, linger=0.05)
    task = asyncio.create_task(intake.run())
    await clock.ended.wait()
    _leave(clock)
    await task


async def _run(url: str, lifespan: Callable[[Runtime], Any], clock: Clock) -> None:
    client = Client()
    await client.connect(url, inbox_prefix=bus.inbox_prefix("auditor"))
    async with asyncio.TaskGroup() as tasks, lifespan(Runtime(client, client.jetstream(), tasks)):
        await clock.ended.wait()
        # What runs until it is cancelled is not waited for: the store is durable, and the folder goes anyhow.
        _leave(clock)


def _leave(clock: Clock) -> None:
    clock.say()
    sys.stdout.flush()
    os._exit(0)


# --- the usual ways -------------------------------------------------------------------------------------------


class Envelope(BaseModel):
    """What a handler written today would ask FastStream for."""

    id: str
    time: str
    data: dict[str, Any]


def opened(store: str) -> Callable[[Sequence[tuple[Any, ...]]], None]:
    """A function that inserts rows, durable when it returns."""
    if store.startswith("postgresql"):
        connection = psycopg.connect(store.replace("postgresql+psycopg", "postgresql"), autocommit=True)
        connection.execute(TABLE.format(bytes="BYTEA"))

        def insert(rows: Sequence[tuple[Any, ...]]) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany("INSERT INTO events VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", rows)

        return insert
    Path(store).mkdir(parents=True, exist_ok=True)
    lite = sqlite3.connect(Path(store) / "usual.db", isolation_level=None, check_same_thread=False)
    lite.execute("PRAGMA journal_mode = WAL")
    lite.execute("PRAGMA synchronous = FULL")
    lite.execute(TABLE.format(bytes="BLOB"))

    def insert_lite(rows: Sequence[tuple[Any, ...]]) -> None:
        lite.execute("BEGIN")
        lite.executemany("INSERT INTO events VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)
        lite.execute("COMMIT")

    return insert_lite


async def usual(url: str, store: str, clock: Clock) -> None:
    """One handler, one message, one insert."""
    insert, broker = opened(store), NatsBroker(url, log_level=50)
    stream = JStream("PREDICTIONS", declare=False)

    @broker.subscriber(
        SUBJECTS,
        stream=stream,
        durable="usual",
        pull_sub=PullSub(batch_size=500, timeout=0.2),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        config=ConsumerConfig(max_ack_pending=20_000),
        decoder=_as_json,
    )
    async def keep(event: Envelope) -> None:
        clock.start()
        insert([(event.id, event.data["model"], event.time, json.dumps(event.data).encode())])
        clock.add(1)

    await _served(broker, clock)


async def batches(url: str, store: str, clock: Clock) -> None:
    """A batch of raw bytes, one transaction."""
    insert, broker = opened(store), NatsBroker(url, log_level=50)
    stream = JStream("PREDICTIONS", declare=False)

    @broker.subscriber(
        SUBJECTS,
        stream=stream,
        durable="batches",
        pull_sub=PullSub(batch_size=500, timeout=0.2, batch=True),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        config=ConsumerConfig(max_ack_pending=20_000),
        decoder=_as_is,
    )
    async def keep(messages: list[Any]) -> None:
        clock.start()
        found = [json.loads(one) for one in messages]
        rows = [(one["id"], one["data"]["model"], one["time"], raw) for one, raw in zip(found, messages, strict=True)]
        insert(rows)
        clock.add(len(rows))

    await _served(broker, clock)


async def _as_json(message: NatsMessage) -> Any:
    # FastStream's default decoder takes application/cloudevents+json for bytes.
    return json.loads(message.body)


async def _as_is(message: Any) -> Any:
    return message.body


async def _served(broker: NatsBroker, clock: Clock) -> None:
    await broker.start()
    await clock.ended.wait()
    _leave(clock)


def main() -> None:
    contender = {"ours": ours, "no-store": no_store, "usual": usual, "batches": batches}[sys.argv[1]]
    clock = Clock(int(sys.argv[4]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(contender(sys.argv[2], sys.argv[3], clock))


if __name__ == "__main__":
    main()
