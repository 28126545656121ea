"""The columns: predictions read into tables as they are recorded, sealed in segments, asked through DuckDB.

What is sealed and what is not yet are one thing to whoever asks. All of it is derived from the entries: where a file
is missing, damaged, or of another log, everything is read again.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import structlog

from affiant.auditor.actions.project import decode
from affiant.auditor.domain.flat import flatten
from affiant.auditor.segments import columns, files, manifest
from affiant.auditor.segments.manifest import Manifest, Segment
from affiant.auditor.segments.questions import Engine, Snapshot
from affiant.auditor.store import entries, facts, projections, restated
from affiant.auditor.store.database import Connection, Database, StoreAway
from affiant.common import alone
from affiant.common.errors import Conflict, Unavailable
from affiant.common.events import OUTSIDE, ModelSpec, PredictionLogged, type_of

log = structlog.get_logger(__name__)

FOLDER = "segments"
SEAL_ROWS = 65_536
"""So many rows wait in memory before they are sealed; after a restart they are read again from the entries."""
FULL_ROWS = 262_144
"""Segments of one model grow by being written together until they hold this many rows."""
CHUNK = 2_000
MOST_BEHIND = 50_000
"""Entries that a question waits for. Reading them takes a second or two; what is further behind is said instead."""
CORRECTIONS = 5_000
INTERVAL_SECONDS = 1.0
KINDS = (type_of(PredictionLogged), type_of(PredictionLogged, OUTSIDE))

Tails = Mapping[str, tuple[pa.Table, ...]]


@dataclass(frozen=True)
class _Pinned:
    """Files that nothing names any more, to be removed once no question that began before still reads them."""

    generation: int
    names: tuple[str, ...]


class Columns:
    """Follows the log and answers over it. Any thread may ask; `busy` says that recording needs the processor more."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        busy: Callable[[], bool] = lambda: False,
        *,
        seal_rows: int = SEAL_ROWS,
        full_rows: int = FULL_ROWS,
    ) -> None:
        self.engine = Engine(folder.resolve())
        self._database = database
        self.folder = folder.resolve()
        self._busy = busy
        self._seal_rows, self._full_rows = seal_rows, full_rows
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._manifest = Manifest()
        self._seen = 0
        self._closed = True
        self._held: int | None = None
        self._tails: dict[str, list[pa.Table]] = {}
        self._specs: dict[tuple[str, int], ModelSpec] = {}
        self._generation = 0
        self._reading: Counter[int] = Counter()
        self._doomed: list[_Pinned] = []

    # --- while it runs ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take up what was sealed, if it is whole and of this log; remove what a crash left behind."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = manifest.load(self.folder)
        if found is None or not self._fits(found):
            if found is not None or (self.folder / manifest.FILE).exists():
                log.warning("the segments are made again from the entries", folder=str(self.folder))
            found = Manifest(restated=self._newest_change())
            manifest.save(self.folder, found)
        self._manifest, self._seen = found, found.high
        left = files.orphans(self.folder, {segment.file for segment in found.segments})
        files.remove(self.folder, left)
        self.engine.open()
        self._closed = False

    def close(self) -> None:
        """Wait for what is being sealed; after that nothing here touches the store any more."""
        with self._lock:
            self._closed = True
        self.engine.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    async def open_when_free(self) -> None:
        """Open, unless another auditor has this folder: one that leads, where this one stands by on the same files."""
        if not self._closed:
            return
        try:
            await asyncio.to_thread(self._open_alone)
        except (Conflict, StoreAway, OSError) as error:
            log.info("the columns stay closed for now", reason=str(error))

    def _open_alone(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._held is None:
            self._held = alone.hold(self.folder, "auditor")
        self.open()

    async def run(self, readable: asyncio.Event | None = None) -> None:
        """Follow the log and seal, until cancelled. Trouble with the disk is told in the log; the record goes on."""
        if readable is not None:
            await readable.wait()
            while self._closed:
                await self.open_when_free()
                await asyncio.sleep(INTERVAL_SECONDS)
        while True:
            try:
                more = not self._busy() and await asyncio.to_thread(self.follow)
            except (StoreAway, OSError) as error:
                log.warning("cannot seal segments now", reason=str(error))
                more = False
            # Between two chunks the event loop has its turn.
            await asyncio.sleep(0 if more else INTERVAL_SECONDS)

    def follow(self, most: int = CHUNK) -> bool:
        """Read up to `most` more entries, and seal where enough wait. Returns whether there are more."""
        with self._lock:
            if self._closed:
                return False
            self._correct()
            more = self._read_on(most)
            if sum(len(table) for tail in self._tails.values() for table in tail) >= self._seal_rows:
                self._seal()
            return more

    def rebuild(self) -> None:
        """Drop every segment and read all entries again (`follow` does that)."""
        with self._lock:
            self._replace(Manifest(restated=self._newest_change()), (one.file for one in self._manifest.segments))
            self._seen = 0
            self._tails.clear()
            self._specs.clear()

    def seal(self) -> None:
        """Seal what waits, however little."""
        with self._lock:
            self._seal()

    def settle(self, seconds: float = 60.0) -> bool:
        """Carry out the corrections that are written in the store, and wait until the bytes that they replace are
        off the disk. Returns False where a question still reads them after `seconds`."""
        with self._lock:
            while self._correct():
                pass
            return self._idle.wait_for(lambda: not self._doomed, seconds)

    async def forget(self) -> None:
        """After an erasure (whose transaction called `store.restated.add`): take the payloads out of every segment.
        Durable when this returns. Raises `Unavailable` where it could not be done in time; it is done later then."""
        try:
            done = await asyncio.to_thread(self.settle)
        except (StoreAway, OSError) as error:
            raise Unavailable(f"the segments cannot be rewritten now: {error}", hint="it is tried again") from error
        if not done:
            raise Unavailable("a question still reads what was erased", hint="it goes when that is answered")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Everything recorded until now, to ask `engine` about; its files stay until the block ends.

        Raises `Unavailable` while more than `MOST_BEHIND` entries have not been read, `StoreAway` as the store does.
        """
        with self._lock:
            if self._closed:
                raise Unavailable("the columns are not open here", hint="ask the auditor that leads, or in a moment")
            self._catch_up()
            taken, generation = self._taken(), self._generation
            self._reading[generation] += 1
        try:
            yield taken
        finally:
            with self._lock:
                self._reading[generation] -= 1
                self._drop_doomed()

    def behind(self) -> int:
        """How many entries have been recorded and not read yet."""
        with self._database.reading() as connection:
            return facts.number(connection, facts.SIZE) - self._seen

    # --- reading ------------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        behind = self.behind()
        if behind > MOST_BEHIND:
            raise Unavailable(
                f"the columns are {behind} entries behind the log", hint="they follow; try again in a while"
            )
        while self.follow():
            pass

    def _taken(self) -> Snapshot:
        tails = {model: columns.joined(parts) for model, parts in self._tails.items()}
        # Joined once, not again for the next question.
        self._tails = {model: [table.combine_chunks()] for model, table in tails.items()}
        return Snapshot(self._manifest.segments, tails, self._seen)

    def _read_on(self, most: int) -> bool:
        with self._database.reading() as connection:
            size = facts.number(connection, facts.SIZE)
            high = min(size, self._seen + most)
            found = entries.of_types(connection, KINDS, self._seen, high) if high > self._seen else []
            self._add(self._tables(connection, found))
        self._seen = max(self._seen, high)
        return high < size

    def _add(self, tables: Mapping[str, pa.Table]) -> None:
        for model, table in tables.items():
            if not len(table):
                continue
            tail = self._tails.setdefault(model, [])
            tail.append(table)
            if len(tail) > 16:
                tail[:] = [columns.joined(tail).combine_chunks()]

    def _tables(self, connection: Connection, found: Iterable[entries.Entry]) -> dict[str, pa.Table]:
        """The rows of these entries by model; an erased one has none."""
        builders: dict[str, columns.Builder] = defaultdict(columns.Builder)
        for entry in found:
            try:
                event = decode(entry)
                if isinstance(event, PredictionLogged):
                    flat = flatten(event, self._spec(connection, event))
                    builders[event.model].add(entry.idx, entry.event_id, flat)
            except Exception as error:
                # It was understood when it was recorded: somebody changed it since. `doctor` and `verify` name it.
                log.warning("an entry cannot be read into columns", index=entry.idx, reason=repr(error))
        return {model: builder.table() for model, builder in builders.items()}

    def _spec(self, connection: Connection, event: PredictionLogged) -> ModelSpec | None:
        key = (event.model, event.version or 0)
        if key not in self._specs:
            known = projections.spec(connection, *key)
            if known is None:
                return None
            self._specs[key] = known
        return self._specs[key]

    # --- sealing ------------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        if self._seen == self._manifest.high:
            return
        low, kept, gone = self._manifest.high, list(self._manifest.segments), list[Segment]()
        for model, parts in sorted(self._tails.items()):
            table, start = columns.joined(parts), low
            while (last := _last_of(kept, model)) and last.rows <= len(table) <= self._full_rows - last.rows:
                kept.remove(last)
                gone.append(last)
                table, start = columns.joined([files.read(self.folder, last), table]), last.low
            kept.append(files.write(self.folder, table, start, self._seen))
        sealed = Manifest(
            high=self._seen, anchor=self._anchor(self._seen), restated=self._manifest.restated, segments=tuple(kept)
        )
        self._replace(sealed, (one.file for one in gone))
        self._tails.clear()
        # What two segments took while they were joined is needed again in an hour, not kept until then.
        pa.default_memory_pool().release_unused()
        log.info("segments sealed", high=sealed.high, segments=len(kept), rows=sum(one.rows for one in kept))

    def _replace(self, new: Manifest, gone: Iterable[str]) -> None:
        manifest.save(self.folder, new)
        self._manifest = new
        if names := tuple(gone):
            self._doomed.append(_Pinned(self._generation, names))
        self._generation += 1
        self._drop_doomed()

    def _drop_doomed(self) -> None:
        read = [generation for generation, number in self._reading.items() if number]
        oldest = min(read, default=self._generation)
        self._reading = Counter({generation: self._reading[generation] for generation in read})
        free = [one for one in self._doomed if one.generation < oldest]
        files.remove(self.folder, [name for one in free for name in one.names])
        self._doomed = [one for one in self._doomed if one.generation >= oldest]
        self._idle.notify_all()

    # --- corrections --------------------------------------------------------------------------------------------

    def _correct(self) -> bool:
        """Read the entries again that changed since; returns whether there were any."""
        with self._database.reading() as connection:
            changes = restated.after(connection, self._manifest.restated, CORRECTIONS)
            if not changes:
                return False
            wanted = {idx for _, idx in changes if idx < self._seen}
            again = self._tables(connection, entries.of(connection, sorted(wanted)))
        tails = {model: [files.without(table, wanted) for table in parts] for model, parts in self._tails.items()}
        kept, gone = list[Segment](), list[str]()
        for segment in self._manifest.segments:
            rewritten = self._rewritten(segment, wanted, again)
            kept += rewritten
            if segment not in rewritten:
                gone.append(segment.file)
        new = Manifest(
            high=self._manifest.high, anchor=self._manifest.anchor, restated=changes[-1][0], segments=tuple(kept)
        )
        self._replace(new, gone)
        self._tails = tails
        self._add({model: _from(table, new.high) for model, table in again.items()})
        return True

    def _rewritten(self, segment: Segment, wanted: Collection[int], again: Mapping[str, pa.Table]) -> list[Segment]:
        here = {idx for idx in wanted if segment.low <= idx < segment.high}
        if not here:
            return [segment]
        table = files.read(self.folder, segment)
        kept = files.without(table, here)
        fresh = _of(again[segment.model], here) if segment.model in again else None
        if len(kept) == len(table) and not fresh:
            return [segment]
        joined = columns.joined([kept, fresh]) if fresh else kept
        return [files.write(self.folder, joined, segment.low, segment.high)] if len(joined) else []

    # --- what it follows ----------------------------------------------------------------------------------------

    def _fits(self, found: Manifest) -> bool:
        """Is it of this log, and not of one that was put in its place or rolled back?"""
        with self._database.reading() as connection:
            size, changes = facts.number(connection, facts.SIZE), restated.last(connection)
        return found.high <= size and found.restated <= changes and self._anchor(found.high) == found.anchor

    def _anchor(self, high: int) -> str:
        with self._database.reading() as connection:
            before = entries.between(connection, high - 1, high)
        return before[0].payload_hash.hex() if before else ""

    def _newest_change(self) -> int:
        with self._database.reading() as connection:
            return restated.last(connection)


def _last_of(segments: list[Segment], model: str) -> Segment | None:
    return next((one for one in reversed(segments) if one.model == model), None)


def _of(table: pa.Table, indexes: Collection[int]) -> pa.Table:
    chosen = set(indexes)
    return table.filter(pa.array([idx in chosen for idx in table.column("idx").to_pylist()], pa.bool_()))


def _from(table: pa.Table, low: int) -> pa.Table:
    return table.filter(pa.array([idx >= low for idx in table.column("idx").to_pylist()], pa.bool_()))
