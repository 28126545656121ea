"""Who was shown which payload: noted before it is answered, and an entry of the log about a second later.

A note is a line in a file of this auditor's own, written before the payload leaves: it survives the process (not the
loss of power within that second). Once a second what was noted is published as one event, which comes back off the bus
into the log like everything else; so standbys, which answer reads too, need not write the store. The file's name is the
event's id: what is published twice after a crash is known by it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.project import decode
from affiant.auditor.domain.views import PayloadReads, ReadLine
from affiant.auditor.store import entries, reads
from affiant.auditor.store.database import Connection
from affiant.common import ids, wire
from affiant.common.errors import NotFound, Unavailable
from affiant.common.events import PayloadRead, PayloadsRead

log = structlog.get_logger(__name__)

FOLDER = "reads"
OPEN = "open.jsonl"
INTERVAL_SECONDS = 1.0
EVENT_READS = 1_000
MOST_SHOWN = 1_000

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PayloadRead).decode


class Reads:
    """Notes reads in files below `folder`, and publishes them."""

    def __init__(self, lookup: Lookup, folder: Path) -> None:
        self._lookup = lookup
        self._folder = folder
        self._open: int | None = None
        # A file is closed in another thread than the one that notes.
        self._lock = threading.Lock()

    def note(self, by: str, how: str, prediction_id: str = "", first: int = 0, last: int = 0) -> None:
        """`by` is about to be shown a payload: of a prediction, or of the entries `first` to below `last`.

        Raises `Unavailable` where it cannot be noted: then nothing may be shown.
        """
        read = PayloadRead(by=by, at=ids.now(), how=how, prediction_id=prediction_id, first=first, last=last)
        try:
            with self._lock:
                self._write(_encode(read) + b"\n")
        except OSError as error:
            words = f"who reads payloads is noted, and that cannot be written now: {error.strerror}"
            raise Unavailable(words, hint="make room on the auditor's disk") from error

    def _write(self, line: bytes) -> None:
        if self._open is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open = os.open(self._folder / OPEN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._open, line)

    async def run(self, js: JetStreamContext) -> None:
        """Publish what was noted, at an interval, until cancelled; also what a process before this one left."""
        while True:
            try:
                for path in await asyncio.to_thread(self._closed):
                    await self._publish(js, path)
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("reads of payloads wait to be published", reason=repr(error))
            await asyncio.sleep(INTERVAL_SECONDS)

    def close(self) -> None:
        """What was not published yet is by the next process."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open)
            self._open = None

    def _closed(self) -> list[Path]:
        """Files that nothing is added to any more; the one that was open is one of them now."""
        path = self._folder / OPEN
        if path.exists() and path.stat().st_size:
            with self._lock:
                self._close()
                path.replace(self._folder / f"{ids.uuid7()}.jsonl")
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return sorted(one for one in self._folder.glob("*.jsonl") if one.name != OPEN)

    async def _publish(self, js: JetStreamContext, path: Path) -> None:
        for number, event in enumerate(batches(_noted(path))):
            message = wire.encode(event, owner="auditor", id=f"{path.stem}-{number}")
            await js.publish(message.subject, message.body, headers=message.headers)
        await asyncio.to_thread(path.unlink)

    async def of(self, prediction_id: str) -> PayloadReads:
        """Who was shown this prediction's payload, newest first; exports that held it too. Raises `NotFound`."""
        return await self._lookup.ask(partial(_of, prediction_id=prediction_id))


def _noted(path: Path) -> list[PayloadRead]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(_decode(line))
        except msgspec.DecodeError:
            # The last line of a process that died while it wrote.
            log.warning("a noted read is cut off", file=path.name)
    return found


def batches(noted: Sequence[PayloadRead]) -> list[PayloadsRead]:
    """Events over what was noted. Bundles of one export that follow each other are one read."""
    ranges = sorted((read for read in noted if read.last), key=lambda read: (read.by, read.how, read.first))
    joined: list[PayloadRead] = []
    for read in ranges:
        before = joined[-1] if joined else None
        if before is not None and (before.by, before.how, before.last) == (read.by, read.how, read.first):
            joined[-1] = msgspec.structs.replace(before, last=read.last)
        else:
            joined.append(read)
    told = [*(read for read in noted if not read.last), *joined]
    return [PayloadsRead(reads=told[at : at + EVENT_READS]) for at in range(0, len(told), EVENT_READS)]


def _of(connection: Connection, prediction_id: str) -> PayloadReads:
    entry = entries.by_event(connection, prediction_id)
    if entry is None:
        raise NotFound(f"no prediction {prediction_id} is on record", hint="GET /v1/predictions lists them")
    found = []
    told = reads.of(connection, prediction_id, MOST_SHOWN)
    for one in entries.of(connection, sorted({place.entry for place in told})):
        event = decode(one)
        if isinstance(event, PayloadsRead):
            wanted = {place.place for place in told if place.entry == one.idx}
            found += [
                ReadLine(read.by, read.at, read.how, one.idx)
                for place, read in enumerate(event.reads)
                if place in wanted and (read.prediction_id or read.first <= entry.idx < read.last)
            ]
    return PayloadReads(sorted(found, key=lambda line: line.at, reverse=True))
