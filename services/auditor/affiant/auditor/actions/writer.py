"""The one writer: everything that changes the store runs here, one after another, beside the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from affiant.auditor.actions import metrics
from affiant.auditor.actions.record import Outcome, Recorder
from affiant.auditor.domain.arrival import Arrival
from affiant.auditor.store.database import Connection, Database

T = TypeVar("T")


class Writer:
    """One thread that owns the store's writing connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recorder = Recorder(database)
        database.on_commit = metrics.sync_seconds.observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def open(self) -> None:
        """Lead, and open the store or make it where there is none. Raises `Standby`, `StoreAway`."""
        await self._run(self._database.open)

    async def lead(self) -> None:
        """Make sure that this process leads still. Raises `Standby`, `StoreAway`."""
        await self._run(self._database.lead)

    async def compact(self, most: int) -> int:
        """Give up to `most` free bytes back to the disk; returns how many it were. Raises `Standby`, `StoreAway`."""
        return await self._run(lambda: self._database.compact(most))

    async def version(self) -> int:
        """The version of the store; 0 where there is none yet. Raises `StoreAway`."""
        return await self._run(self._database.version)

    async def record(self, arrivals: Sequence[Arrival]) -> Outcome:
        """`Recorder.record`, measured."""
        return await self._run(lambda: self._record(arrivals))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of its own. Raises `StoreAway`."""
        return await self._run(lambda: self._write(work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` after what is being written now, reading only. Raises `StoreAway`."""
        return await self._run(lambda: self._read(work))

    async def scrub(self) -> bool:
        """`Database.scrub`."""
        return await self._run(self._database.scrub)

    def close(self) -> None:
        """Wait for what is being written, then close the store."""
        self._thread.shutdown(wait=True)
        self._database.close()

    def _record(self, arrivals: Sequence[Arrival]) -> Outcome:
        begun = time.perf_counter()
        outcome = self._recorder.record(arrivals)
        metrics.write_seconds.observe(time.perf_counter() - begun)
        metrics.batch_events.observe(len(arrivals))
        return outcome

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self._database.transaction() as connection:
            return work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._database.reading() as connection:
            return work(connection)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
