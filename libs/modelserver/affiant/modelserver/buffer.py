"""The write-ahead buffer: appends with group commit, and a pump that carries the file to the bus.

The file is the queue: what the pump publishes it reads from there, so that the memory needed does not grow with an
outage, and a restart has one way to go on, not two.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from affiant.common.wire import Message
from affiant.modelserver import wal
from affiant.modelserver.publisher import NotDurable, Publisher

log = structlog.get_logger(__name__)

SEGMENT_BYTES = 4_000_000
PUBLISH_BYTES = 500_000
ADOPT_SECONDS = 10.0


class Buffer:
    """The segments of one process in `folder`; `name` is unique for all time, and sorts by time."""

    def __init__(self, folder: Path, name: str, publisher: Publisher) -> None:
        self._folder = folder
        self._name = name
        self._publisher = publisher
        self._segments: deque[wal.Segment] = deque()
        self._active: wal.Segment | None = None
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wal")
        self._made = 0
        self.messages = 0
        """How many of this process are not yet handed to the publisher."""

    @property
    def size(self) -> int:
        """The bytes that are in the file, or will be, and are not all published."""
        return sum(segment.size for segment in self._segments) + sum(len(line) for line, _ in self._pending)

    # --- in ---------------------------------------------------------------------------------------------------

    async def append(self, message: Message) -> None:
        """Returns when `message` is on the disk; raises `NotDurable` when it cannot be written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((wal.line(message), written))
        self.messages += 1
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await written

    async def _write(self) -> None:
        """Group commit: while the disk is busy with one batch of lines the next one collects."""
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                segment = await loop.run_in_executor(self._thread, self._append, b"".join(line for line, _ in batch))
            except OSError as error:
                self._fail(batch, error)
                continue
            self._commit(segment, batch)
        self._writing = None

    def _append(self, lines: bytes) -> wal.Segment:
        """In the thread: nothing else touches the active segment."""
        if self._active is None:
            self._made += 1
            self._active = wal.create(self._folder / f"{self._name}-{self._made:08d}{wal.SUFFIX}")
        self._active.append(lines)
        return self._active

    def _commit(self, segment: wal.Segment, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        if not self._segments or self._segments[-1] is not segment:
            self._segments.append(segment)
        if segment.size >= SEGMENT_BYTES:
            self._seal()
        self._wake()
        for _, written in batch:
            if not written.done():
                written.set_result(None)

    def _fail(self, batch: list[tuple[bytes, asyncio.Future[None]]], error: OSError) -> None:
        log.error("the write-ahead file cannot be written", reason=str(error))
        self.messages -= len(batch)
        self._seal()  # whatever is wrong with this file, the next lines go into another
        for _, written in batch:
            if not written.done():
                written.set_exception(NotDurable(f"the write-ahead file cannot be written: {error.strerror}"))

    def _seal(self) -> None:
        if self._active is not None:
            self._active.sealed = True
            if self._active not in self._segments:
                self._segments.append(self._active)
            self._active = None

    # --- out --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish what is in the file, for ever; also what processes that died have left in the folder."""
        asyncio.get_running_loop().call_later(0, self._adopt)
        while True:
            self._news.clear()
            while self._segments:
                if not await self._carry(self._segments[0]):
                    break
            else:
                self._idle.set()
            await self._news.wait()

    async def _carry(self, segment: wal.Segment) -> bool:
        """Publish some of `segment`; false when it may still grow and nothing is left in it for now."""
        messages = segment.read(PUBLISH_BYTES)
        if messages:
            entries = [self._publisher.submit(message) for message in messages]
            if not segment.adopted:
                self.messages -= len(messages)
            await asyncio.gather(*(entry.durable for entry in entries))
            return True
        if not segment.sealed:
            self._idle.set()
            return False
        if segment.damaged:
            log.error("lines of the write-ahead file are damaged", path=str(segment.path), lines=segment.damaged)
        segment.remove()
        self._segments.remove(segment)
        return True

    def _adopt(self) -> None:
        """Segments of our own are locked by us; what is left is of processes that are no more."""
        for segment in wal.adopt(self._folder):
            log.info("publishing what another process left", path=str(segment.path), size=segment.size)
            self._segments.appendleft(segment)
            self._wake()
        asyncio.get_running_loop().call_later(ADOPT_SECONDS, self._adopt)

    def _wake(self) -> None:
        self._idle.clear()
        self._news.set()

    # --- end --------------------------------------------------------------------------------------------------

    async def flush(self, seconds: float) -> bool:
        """Wait until everything is published and the files are gone; false when that took too long."""
        if self._writing is not None:
            await self._writing
        self._seal()
        self._wake()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def spill(self, messages: list[Message]) -> None:
        """Write what could not be published before this process ends; the next one finds it. Raises `OSError`."""
        if not messages:
            return
        segment = wal.create(self._folder / f"{self._name}-spill{wal.SUFFIX}")
        segment.append(b"".join(wal.line(message) for message in messages))
        segment.close()
        log.warning("unpublished records are kept in a file", path=str(segment.path), messages=len(messages))

    def close(self) -> None:
        """Let go of the files; those that are left are taken over by the next process."""
        self._thread.shutdown()
        for segment in self._segments:
            segment.close()
        self._segments.clear()


def name_of(replica: str, epoch: int) -> str:
    """The start of a process's file names."""
    return f"{epoch:015d}-{replica}-{os.getpid()}"
