"""Exporting predictions: as many as there are, in memory that does not grow with them.

What is exported is what was on record when it began, oldest first. Each entry is held against its leaf before it
leaves; at one that was altered the stream breaks off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from affiant.auditor.actions import sworn
from affiant.auditor.actions.checkpoints import reader
from affiant.auditor.actions.look import Lookup, columnar
from affiant.auditor.actions.project import decode
from affiant.auditor.domain import sheet
from affiant.auditor.domain.flat import flatten
from affiant.auditor.segments import columns
from affiant.auditor.segments.questions import Engine, Snapshot
from affiant.auditor.store import entries, facts, projections, queries
from affiant.auditor.store.database import Connection
from affiant.common.events import ModelSpec, PredictionLogged

Form = Literal["jsonl", "csv", "parquet"]
MEDIA: dict[str, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
PAGE = 1_000
ROW_GROUP_PAGES = 16
"""Pages that become one row group of a Parquet file."""
SCHEMA = pa.schema(
    [
        *columns.FIXED,
        ("alias", pa.string()),
        ("request_id", pa.string()),
        ("subject_ref", pa.string()),
        ("error", pa.string()),
        ("source", pa.string()),
        ("audited_at", pa.string()),
    ]
)
"""What every flattened row begins with; then come the inputs and the protected columns, each by its own name."""
_TYPES = {"number": pa.float64(), "boolean": pa.bool_()} | dict.fromkeys(("nothing", "text", "json"), pa.string())
_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct):
    """One line of JSON Lines; `event` is null once its payload was erased."""

    index: int
    event_id: str
    type: str
    source: str
    subject: str
    time: str
    audited_at: str
    event: object


class Page(NamedTuple):
    """Entries of one page with their events, None for one that was erased, and the specs that their versions have."""

    found: Sequence[tuple[entries.Entry, PredictionLogged | None]]
    specs: dict[tuple[str, int], ModelSpec | None]


@dataclass(frozen=True)
class _Plan:
    """What is exported: how many predictions, of the first `size` entries; where only the columns can tell which, all
    their places. `schema` is that of the flattened rows."""

    number: int
    size: int
    chosen: Sequence[int] | None
    schema: pa.Schema


class Export:
    """Streams what a filter lets through."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def stream(
        self, wanted: queries.Filter, form: Form, note: Callable[[int, int], None]
    ) -> tuple[int, AsyncIterator[bytes]]:
        """How many predictions there are, and the bytes of the file. Raises `Problem` before the first byte.

        `note` is told of the entries (from the first to below the last) whose payloads are about to leave.
        """
        plan = await self._plan(wanted, form)
        pages = _noted(self._pages(wanted, plan), note)
        if form == "jsonl":
            return plan.number, _lines(pages)
        return plan.number, _csv(pages, plan.schema) if form == "csv" else _parquet(pages, plan.schema)

    async def _plan(self, wanted: queries.Filter, form: Form) -> _Plan:
        size = await self._lookup.ask(lambda connection: facts.number(connection, facts.SIZE))
        schema = SCHEMA
        if form != "jsonl":
            schema = await self._lookup.columnar(lambda _, snapshot: schema_of(snapshot, wanted.model))
        if wanted.needs_columns:
            chosen = await self._lookup.columnar(partial(_all_places, wanted=wanted, size=size))
            return _Plan(len(chosen), size, chosen, schema)
        number = await self._lookup.ask(partial(queries.number_of, wanted=wanted, size=size))
        return _Plan(number, size, None, schema)

    async def _pages(self, wanted: queries.Filter, plan: _Plan) -> AsyncIterator[Page]:
        if plan.chosen is not None:
            for start in range(0, len(plan.chosen), PAGE):
                some = [int(index) for index in plan.chosen[start : start + PAGE]]
                yield await self._lookup.ask(partial(_page, indexes=some))
            return
        after: tuple[str, int] | None = None
        while found := await self._lookup.ask(
            partial(queries.places, wanted=wanted, size=plan.size, after=after, limit=PAGE)
        ):
            after = found[-1]
            yield await self._lookup.ask(partial(_page, indexes=[index for _, index in found]))


async def _noted(pages: AsyncIterator[Page], note: Callable[[int, int], None]) -> AsyncIterator[Page]:
    async for page in pages:
        for first, last in runs(sorted(entry.idx for entry, event in page.found if event is not None)):
            note(first, last)
        yield page


def runs(indexes: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges without a gap, each from its first to below its last."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def schema_of(snapshot: Snapshot, model: str | None) -> pa.Schema:
    """The columns of flattened rows of one model, or of all."""
    return pa.schema([*SCHEMA, *((name, _TYPES[kind]) for name, kind in snapshot.column_kinds(model).items())])


def _all_places(engine: Engine, snapshot: Snapshot, wanted: queries.Filter, size: int) -> Sequence[int]:
    found = engine.all_places(snapshot, columnar(snapshot, wanted), wanted.adverse, size)
    chosen: Sequence[int] = memoryview(found.data)
    return chosen


def _page(connection: Connection, indexes: Sequence[int]) -> Page:
    by_index = {entry.idx: entry for entry in entries.of(connection, indexes)}
    node = reader(connection)
    specs: dict[tuple[str, int], ModelSpec | None] = {}
    found = []
    for index in indexes:
        entry = by_index.get(index)
        if entry is None:
            raise sworn.altered(index, sworn.REMOVED)
        if entry.body is not None and (why := sworn.objection(entry, node(0, index))):
            raise sworn.altered(index, why)
        event = decode(entry)
        event = event if isinstance(event, PredictionLogged) else None
        found.append((entry, event))
        if event is not None and (key := (event.model, event.version or 0)) not in specs:
            specs[key] = projections.spec(connection, *key)
    return Page(found, specs)


async def _lines(pages: AsyncIterator[Page]) -> AsyncIterator[bytes]:
    async for page in pages:
        yield await asyncio.to_thread(_as_lines, page)


def _as_lines(page: Page) -> bytes:
    return b"".join(
        _encode(Line(one.idx, one.event_id, one.type, one.source, one.subject, one.time, one.audited_at, event)) + b"\n"
        for one, event in page.found
    )


async def _csv(pages: AsyncIterator[Page], schema: pa.Schema) -> AsyncIterator[bytes]:
    yield sheet.lines([schema.names])
    async for page in pages:
        yield await asyncio.to_thread(lambda page=page: sheet.lines(_rows(_table(page, schema))))  # type: ignore[misc]


async def _parquet(pages: AsyncIterator[Page], schema: pa.Schema) -> AsyncIterator[bytes]:
    sink = _Sink()
    writer = pq.ParquetWriter(sink, schema, compression="zstd")
    waiting: list[pa.Table] = []

    def write() -> bytes:
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
            waiting.clear()
        return sink.taken()

    async for page in pages:
        waiting.append(await asyncio.to_thread(_table, page, schema))
        if len(waiting) == ROW_GROUP_PAGES:
            yield await asyncio.to_thread(write)
    yield await asyncio.to_thread(write)
    writer.close()
    yield sink.taken()


class _Sink:
    """A file that only grows, and whose bytes are taken away as they come."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Whoever takes the bytes sends them on."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _table(page: Page, schema: pa.Schema) -> pa.Table:
    builder = columns.Builder(SCHEMA)
    for entry, event in page.found:
        if event is not None:
            flat = flatten(event, page.specs[event.model, event.version or 0])
            made = flat.made
            more = {
                "alias": made.alias,
                "request_id": made.request_id,
                "subject_ref": made.subject_ref,
                "error": made.error,
                "source": entry.source,
                "audited_at": entry.audited_at,
            }
            builder.add(entry.idx, entry.event_id, flat, more)
    table = columns.conformed(builder.table(), schema)
    for place, name in enumerate(table.column_names):
        if name == "label" or name.startswith(columns.PROTECTED):
            plain = [None if text is None else _plain(text) for text in table.column(name).to_pylist()]
            table = table.set_column(place, name, pa.array(plain, pa.string()))
    return table


def _plain(text: str) -> str | None:
    """What JSON text says: words without quotes, numbers as they are; None for null."""
    value = msgspec.json.decode(text)
    return value if isinstance(value, str) or value is None else text


def _rows(table: pa.Table) -> Iterator[Sequence[sheet.Cell]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
