"""Looking up: predictions and what is known of them, counts, what is missing, what happened to a model."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from affiant.auditor.actions import completeness, history, sworn
from affiant.auditor.actions.columns import Columns
from affiant.auditor.actions.project import decode
from affiant.auditor.domain.rows import utc
from affiant.auditor.domain.views import (
    Completeness,
    ErasedLine,
    EventLine,
    History,
    Lifecycle,
    PredictionLine,
    PredictionPage,
    Quarantine,
    Summary,
)
from affiant.auditor.log import proofs, tiles
from affiant.auditor.segments.questions import Engine, Snapshot, Wanted
from affiant.auditor.store import entries, erasures, facts, holes, projections, queries, testimony
from affiant.auditor.store.database import Connection, Database, StoreAway
from affiant.common.errors import NotFound, Problem, Refused, Unavailable
from affiant.common.events import BY_TYPE, PayloadErased, PredictionLogged

T = TypeVar("T")


class Found(NamedTuple):
    """A prediction's entry, its explanations, the lineage of its version, its outcomes and overrides.

    `erased` says by what its payload was erased.
    """

    entry: entries.Entry
    explanations: list[EventLine]
    lineage: list[EventLine]
    outcomes: list[EventLine]
    overrides: list[EventLine]
    erased: ErasedLine | None = None


class Lookup:
    """Answers questions beside the writer: each with one view of the store, in a thread of its own."""

    def __init__(self, database: Database, columns: Columns | None = None) -> None:
        self._database = database
        self._columns = columns

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer of `question`. Raises `Unavailable` when the store cannot be read."""
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Callable[[Connection], T]) -> T:
        try:
            with self._database.reading() as connection:
                return question(connection)
        except StoreAway as error:
            raise Unavailable(f"the record cannot be read: {error}", hint="try again in a moment") from error

    async def columnar(self, question: Callable[[Engine, Snapshot], T]) -> T:
        """The answer of `question` over the columns. Raises `Unavailable` while they are far behind the log."""
        return await asyncio.to_thread(self._columnar, question)

    def _columnar(self, question: Callable[[Engine, Snapshot], T]) -> T:
        if self._columns is None:
            raise Unavailable("this auditor keeps no columns")
        try:
            with self._columns.snapshot() as snapshot:
                return question(self._columns.engine, snapshot)
        except StoreAway as error:
            raise Unavailable(f"the record cannot be read: {error}", hint="try again in a moment") from error

    async def predictions(self, wanted: queries.Filter, limit: int, cursor: str | None) -> PredictionPage:
        """A page of predictions, newest first."""
        wanted = replace(wanted, since=moment(wanted.since), until=moment(wanted.until), before=_read_cursor(cursor))
        # One more than asked for tells whether there is a next page.
        if wanted.needs_columns:
            places = await self.columnar(partial(_places, wanted=wanted, limit=limit + 1))
            found = await self.ask(lambda connection: queries.predictions_at(connection, places))
        else:
            found = await self.ask(lambda connection: queries.predictions(connection, wanted, limit + 1))
        page = found[:limit]
        return PredictionPage(page, _cursor(page[-1]) if len(found) > limit else None)

    async def prediction(self, prediction_id: str) -> Found:
        """One prediction's entry and what is known of it."""
        return await self.ask(partial(_prediction, prediction_id=prediction_id))

    async def summary(self, model: str | None) -> Summary:
        """What there is, in numbers."""
        return await self.ask(partial(_summary, model=model))

    async def completeness(self, model: str | None, day: str | None = None) -> Completeness:
        """What was numbered and what of it is here. `missing` counts what never came of our own model servers."""
        return await self.ask(lambda connection: completeness.report(connection, model, day))

    async def history(self, model: str, at: str | None) -> History:
        """What stood of a model at a moment, by the events alone."""
        return await self.ask(lambda connection: history.history(connection, model, moment(at)))

    async def lifecycle(self, model: str | None) -> Lifecycle:
        """What registry and deployer told, in the order of the log."""
        return Lifecycle(await self.ask(lambda connection: _lines(connection, queries.lifecycle(connection, model))))

    async def quarantine(self, limit: int) -> Quarantine:
        """What could not enter the record, newest first."""
        return Quarantine(await self.ask(lambda connection: queries.quarantined(connection, limit)))


def _places(engine: Engine, snapshot: Snapshot, wanted: queries.Filter, limit: int) -> list[int]:
    asked = columnar(snapshot, wanted)
    return [idx for _, idx in engine.places(snapshot, asked, wanted.before, wanted.adverse, limit)]


def columnar(snapshot: Snapshot, wanted: queries.Filter) -> Wanted:
    """The same filter for the columns. Raises `NotFound` for a condition on a column that nothing has."""
    for condition in wanted.where:
        _refuse_unknown(snapshot, condition.column, wanted.model)
    return Wanted(
        wanted.model,
        wanted.version,
        wanted.digest,
        wanted.status,
        () if wanted.label is None else _labels(wanted.label),
        wanted.since,
        wanted.until,
        wanted.where,
    )


def _labels(typed: str) -> tuple[str, ...]:
    """A label as a person types it: a word, or a number, which a model may have meant as either."""
    word = msgspec.json.encode(typed).decode()
    return (word, typed) if typed.lstrip("-").isdecimal() else (word,)


def _refuse_unknown(snapshot: Snapshot, column: str, model: str | None) -> None:
    """A condition on a column that nothing has is a slip of the pen; an empty answer would hide it."""
    known = snapshot.column_names(model)
    if column not in known:
        named = ", ".join(sorted(known)[:30]) or "none yet"
        whose = f"model {model}" if model else "any model"
        raise NotFound(f"no prediction of {whose} has a column {column!r}", hint=f"columns on record: {named}")


def moment(text: str | None) -> str | None:
    """A time that a person asked with, as it is stored. Raises `Problem` when it is none."""
    if text is None:
        return None
    try:
        return utc(text)
    except Refused as reason:
        raise Problem(str(reason), hint="for example 2026-11-23T14:03:00Z") from reason


def data_of(entry: entries.Entry) -> dict[str, Any] | None:
    """The data of an entry's event, ready for JSON."""
    event = decode(entry)
    return None if event is None else dict(msgspec.to_builtins(event))


def _prediction(connection: Connection, prediction_id: str) -> Found:
    entry = entries.by_event(connection, prediction_id)
    if entry is None:
        _refuse_with_holes(connection)
    else:
        sworn.check(connection, entry)
    if entry is None or BY_TYPE.get(entry.type) is not PredictionLogged:
        raise NotFound(f"no prediction {prediction_id} is on record", hint="GET /v1/predictions lists them")
    made = projections.made_by(connection, entry.idx)
    if made is None:
        raise sworn.altered(entry.idx, "its row in the table of predictions was removed")
    model, version = made
    explained = _lines(connection, queries.explanations(connection, prediction_id))
    told = _lines(connection, queries.lifecycle(connection, model))
    return Found(
        entry,
        explained,
        [line for line in told if line.event and line.event.get("version") == (version or None)],
        _lines(connection, testimony.of(connection, "outcomes", prediction_id, model)),
        _lines(connection, testimony.of(connection, "overrides", prediction_id, model)),
        _erased(connection, entry) if entry.body is None else None,
    )


def _erased(connection: Connection, entry: entries.Entry) -> ErasedLine | None:
    """By what an entry was erased; that it was has been checked."""
    statement = erasures.statement_of(connection, entry.idx)
    for one in entries.of(connection, [] if statement is None else [statement]):
        event = decode(one)
        if isinstance(event, PayloadErased):
            return ErasedLine(one.idx, event.rule, event.reason, event.by, event.erased_at)
    return None


def _refuse_with_holes(connection: Connection) -> None:
    """An id that is not found is unknown only in a log without holes: the entry may be the one that is gone."""
    missing = holes.first_missing(connection, facts.number(connection, facts.SIZE))
    if missing is not None:
        raise sworn.altered(missing, f"{sworn.REMOVED}; it may be what was asked for")


def _lines(connection: Connection, indexes: list[int]) -> list[EventLine]:
    by_index = {entry.idx: entry for entry in entries.of(connection, indexes)}
    for index in indexes:
        if index not in by_index:
            raise sworn.altered(index, sworn.REMOVED)
        sworn.check(connection, by_index[index])
    ordered = [by_index[index] for index in indexes]
    return [
        EventLine(one.idx, one.event_id, one.type, one.source, one.time, one.audited_at, data_of(one))
        for one in ordered
    ]


def _summary(connection: Connection, model: str | None) -> Summary:
    found = queries.totals(connection, model)
    size = facts.number(connection, facts.SIZE)
    root = proofs.root(size, tiles.nodes(partial(entries.tile, connection)))
    return Summary(
        predictions=found.answered + found.failed,
        answered=found.answered,
        failed=found.failed,
        rows=found.rows,
        adverse_rows=found.adverse_rows,
        explained=found.explained,
        explanation_failed=found.explanation_failed,
        outcomes=testimony.count(connection, "outcomes", model),
        overridden=testimony.count(connection, "overrides", model),
        missing=found.missing,
        doubled_ignored=facts.number(connection, facts.DOUBLED),
        quarantined=found.quarantined,
        size=size,
        root=root.hex(),
        versions=found.versions,
    )


def _cursor(line: PredictionLine) -> str:
    return base64.urlsafe_b64encode(json.dumps([line.received_at, line.index]).encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[str, int] | None:
    if not cursor:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[str, int])
    except (binascii.Error, ValueError) as error:
        raise Problem("this cursor is none of ours", hint="pass on what `next` of the last page said") from error
