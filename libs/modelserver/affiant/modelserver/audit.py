"""When a record counts as kept, so that an answer may leave: `acked` or `buffered`.

**A request that gets 503.** Its number was drawn and its model may have run, so its record must not be missing. It
goes on being tried without end, but as what it has become: a failed record, without outputs, that says why no answer
left. One case remains that nobody can decide: the first record had been stored and only its acknowledgement was lost.
Then the log says `answered` where the client got 503. The log may thus know of an answer too many, never of one too
few. What is still unpublished when the process ends is written to the write-ahead folder, whatever the policy, and
the next process publishes it.

**When no more records can be held** (`unpublished_max_bytes`), requests are refused at the door: no number is drawn
and the model does not run, so that nothing is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from affiant.common.wire import Message
from affiant.modelserver.buffer import Buffer
from affiant.modelserver.publisher import NotDurable, Publisher

Instead = Callable[[str], Message]
"""Makes the record of a request that gets no answer, from the reason."""


class Audit(Protocol):
    """A policy."""

    def full(self) -> str:
        """Why no further request can be taken in; empty when one can."""

    def trouble(self) -> str:
        """Why answers would not leave at this moment; empty when they would."""

    async def keep(self, message: Message, instead: Instead) -> None:
        """Returns when `message` is kept. Raises `NotDurable` otherwise, and then `instead(reason)` is being kept."""

    def leave(self, message: Message) -> None:
        """Keep `message` without anybody who waits for it."""


class Acked:
    """Kept means: JetStream has acknowledged it."""

    def __init__(self, publisher: Publisher, seconds: float, max_bytes: int) -> None:
        self._publisher = publisher
        self._seconds = seconds
        self._max_bytes = max_bytes

    def full(self) -> str:
        if self._publisher.size < self._max_bytes:
            return ""
        return f"{self._publisher.count} records wait for the bus; no more can be held: {self._publisher.trouble}"

    def trouble(self) -> str:
        return self._publisher.trouble

    async def keep(self, message: Message, instead: Instead) -> None:
        entry = self._publisher.submit(message, self._seconds)
        try:
            await entry.durable
        except NotDurable as error:
            entry.message = instead(str(error))
            raise

    def leave(self, message: Message) -> None:
        self._publisher.submit(message)


class Buffered:
    """Kept means: it is on this disk. The bus gets it as soon as it can."""

    def __init__(self, buffer: Buffer, publisher: Publisher, max_bytes: int) -> None:
        self._buffer = buffer
        self._publisher = publisher
        self._max_bytes = max_bytes

    def full(self) -> str:
        # Records of requests that could not be written to the disk are in the publisher alone.
        if self._buffer.size + self._publisher.size < self._max_bytes:
            return ""
        reason = self._publisher.trouble or "the bus is slow"
        return f"the write-ahead file has reached {self._max_bytes} bytes: {reason}"

    def trouble(self) -> str:
        return ""

    async def keep(self, message: Message, instead: Instead) -> None:
        try:
            await self._buffer.append(message)
        except NotDurable as error:
            self._publisher.submit(instead(str(error)))
            raise

    def leave(self, message: Message) -> None:
        self._publisher.submit(message)
