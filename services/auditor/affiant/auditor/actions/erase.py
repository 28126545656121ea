"""Erasing payloads: by a person's request or because a retention class came to its end; and what forbids it.

An entry loses its payload and its salt; without the salt nobody can find out by trying what was there. Its leaf stays,
and so does every proof. That it was erased, by whom and why is an entry of the log itself, written in the same
transaction: without one, `verify` takes a payload that is not there for stolen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

import structlog

from affiant.auditor.actions.columns import Columns
from affiant.auditor.actions.look import Lookup, moment
from affiant.auditor.actions.project import decode
from affiant.auditor.actions.record import state
from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain.erasure import Hold, Kept, Rule, Scope, days_kept
from affiant.auditor.domain.views import (
    Erasure,
    ErasureLine,
    Erasures,
    HoldLine,
    Holds,
    Retention,
    RuleLine,
    Statements,
)
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import entries, erasures, holds, projections, queries, restated
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common import ids
from affiant.common.errors import Conflict, NotFound, Problem, Unavailable
from affiant.common.events import (
    ErasedEntry,
    LegalHoldLifted,
    LegalHoldSet,
    PayloadErased,
    RetentionSet,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")
Because = Literal["request", "retention"]

BATCH = 500
"""Predictions of one transaction and one statement: with what was said of them it stays far below a message's limit."""
MOST_SHOWN = 1_000
ON_THE_BUS = "the bus keeps messages as long as its streams say, 30 days for predictions; nothing may delete there"


class Eraser:
    """Erases, holds and keeps. `columns` are told what they must forget; `wake` says that there is news to publish."""

    def __init__(
        self,
        lookup: Lookup,
        writer: Writer,
        settings: AuditorSettings,
        columns: Columns | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._lookup = lookup
        self._writer = writer
        self._settings = settings
        self._columns = columns
        self._wake = wake

    # --- by request ---------------------------------------------------------------------------------------------

    async def erase(
        self, subject: str | None, prediction_id: str | None, reason: str, by: str, *, dry_run: bool
    ) -> Erasure:
        """Erase every payload about a subject, or one prediction's; with all that was said of them.

        Raises `NotFound` where there is nothing to erase and `Conflict` where a legal hold covers any of it: then
        nothing is erased.
        """
        find = partial(_wanted, subject=subject, prediction_id=prediction_id)
        found = await self._lookup.ask(find)
        said = await self._lookup.ask(lambda connection: _said_of(connection, found))
        shown = [one.prediction_id for one in found[:MOST_SHOWN]]
        if dry_run:
            return Erasure(True, len(found), len(found) + said, shown, [], [ON_THE_BUS])
        statements, many = [], 0
        for batch in _batches(found):
            statement, number = await self._write(partial(_erase, wanted=batch, rule="request", reason=reason, by=by))
            statements.append(statement)
            many += number
        log.info("payloads erased", predictions=len(found), entries=many, by=by)
        return Erasure(False, len(found), many, shown, statements, [*await self._forget(), ON_THE_BUS])

    async def _forget(self) -> list[str]:
        """Take what was erased out of copies too; what still has it, in words."""
        self._wake()
        pending = []
        if self._columns is not None:
            try:
                await self._columns.forget()
            except Unavailable as reason:
                pending.append(f"{reason.message}: {reason.hint}")
        try:
            scrubbed = await self._writer.scrub()
        except StoreAway as error:
            log.warning("cannot empty the store's journal now", reason=str(error))
            scrubbed = False
        if not scrubbed:
            pending.append("the store's journal still has it; it is emptied at the next erasure or restart")
        return pending

    async def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._writer.write(work)
        except StoreAway as error:
            raise Unavailable(f"nothing can be written now: {error}", hint="try again in a moment") from error

    async def erasures(self, limit: int) -> Erasures:
        """The newest erasures."""
        return Erasures(await self._lookup.ask(lambda connection: _erasures(connection, limit)))

    async def statements(self, low: int, high: int) -> Statements:
        """The entries that say of any entry from `low` to below `high` that it was erased."""
        return Statements(await self._lookup.ask(lambda connection: erasures.statements(connection, low, high)))

    # --- holds --------------------------------------------------------------------------------------------------

    async def hold(
        self, scope: Scope, value: str, since: str | None, until: str | None, reason: str, by: str
    ) -> HoldLine:
        """Forbid to erase what this covers. Raises `Problem` for a hold that says not what it covers."""
        if (scope == "all") != (value == ""):
            raise Problem(f"a hold of scope {scope!r} needs {'no value' if scope == 'all' else 'a value'}", status=422)
        hold = Hold(ids.uuid7(), scope, value, moment(since) or "", moment(until) or "", reason, by, ids.now())
        await self._write(partial(_set, hold=hold))
        self._wake()
        return HoldLine(*hold)

    async def lift(self, hold_id: str, reason: str, by: str) -> HoldLine:
        """Take a hold away. Raises `NotFound`."""
        hold = await self._write(partial(_lift, hold_id=hold_id, reason=reason, by=by))
        self._wake()
        return HoldLine(*hold)

    async def holds(self) -> Holds:
        """Those in force."""
        return Holds([HoldLine(*one) for one in await self._lookup.ask(holds.holds)])

    # --- retention ----------------------------------------------------------------------------------------------

    async def keep(
        self, kind: Literal["model", "tag"], value: str, days: int | None, reason: str, by: str
    ) -> Retention:
        """Set a retention class; remove it where `days` is None. Raises `NotFound` where there is none to remove."""
        await self._write(partial(_keep, kind=kind, value=value, days=days, reason=reason, by=by))
        self._wake()
        return await self.retention()

    async def retention(self) -> Retention:
        """Every class."""
        rules = await self._lookup.ask(holds.rules)
        return Retention(self._settings.retention_days, [RuleLine(*rule) for rule in rules])

    async def run(self) -> None:
        """Erase what has come to its end, at an interval, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.retention_interval_seconds)
            try:
                await self.sweep(datetime.now(UTC))
            except (StoreAway, Unavailable) as reason:
                log.warning("cannot erase what has come to its end now", reason=str(reason))

    async def sweep(self, now: datetime) -> int:
        """Erase payloads that are older than their class allows, and what was said of erased predictions since.

        Returns how many predictions. What a hold covers is passed over.
        """
        rules = await self._lookup.ask(holds.rules)
        erased = 0
        for model, version in await self._lookup.ask(queries.versions):
            spec = await self._lookup.ask(partial(projections.spec, model=model, version=version))
            days = days_kept(model, spec, rules, self._settings.retention_days)
            if days > 0:
                erased += await self._sweep(model, version, ids.timestamp(now - timedelta(days=days)), days)
        late = await self._write(_erase_late)
        if erased or late:
            log.info("payloads came to their end", predictions=erased, said_of_erased=late)
            await self._forget()
        return erased

    async def _sweep(self, model: str, version: int, before: str, days: int) -> int:
        after, erased = ("", -1), 0
        reason = f"kept for {days} days"
        while True:
            find = partial(erasures.older, model=model, version=version, before=before, after=after, limit=BATCH)
            found = await self._lookup.ask(find)
            if not found:
                return erased
            after = (found[-1].received_at, found[-1].idx)
            erased += await self._write(partial(_erase_free, wanted=found, reason=reason))


def _batches(found: Sequence[Kept]) -> Iterator[Sequence[Kept]]:
    for at in range(0, len(found), BATCH):
        yield found[at : at + BATCH]


def _wanted(connection: Connection, subject: str | None, prediction_id: str | None) -> list[Kept]:
    if (subject is None) == (prediction_id is None):
        raise Problem("erase what? a subject or a prediction", status=422)
    if subject is not None:
        found = erasures.of_subject(connection, subject)
    else:
        found = erasures.of_prediction(connection, str(prediction_id))
    if not found:
        raise NotFound("there is no such payload: it was erased before, or never logged")
    _refuse_held(connection, found)
    return found


def _refuse_held(connection: Connection, wanted: Sequence[Kept]) -> None:
    for hold in holds.holds(connection):
        covered = sum(hold.covers(one) for one in wanted)
        if covered:
            raise Conflict(
                f"the legal hold {hold.hold_id} covers {covered} of {len(wanted)} predictions: {hold.reason}",
                hint=f"none of them was erased; set by {hold.set_by} at {hold.set_at}, lifted by whoever audits",
            )


def _said_of(connection: Connection, found: Sequence[Kept]) -> int:
    return sum(len(erasures.said_of(connection, [one.prediction_id for one in batch])) for batch in _batches(found))


def _erase(connection: Connection, wanted: Sequence[Kept], rule: Because, reason: str, by: str) -> tuple[int, int]:
    """One statement and all that it says; returns its place and how many entries it is about."""
    # Read again: a hold may have been set, or some of it erased, since somebody looked.
    found = erasures.at(connection, [one.idx for one in wanted])
    _refuse_held(connection, found)
    said = erasures.said_of(connection, [one.prediction_id for one in found])
    lines = [
        ErasedEntry(
            index=one.idx,
            prediction_id=one.prediction_id,
            model=one.model,
            replica=one.replica,
            epoch=one.epoch,
            sequence=one.sequence,
        )
        for one in found
    ]
    lines += [ErasedEntry(index=index) for index in said]
    statement = _state(connection, lines, rule, reason, by)
    erasures.erase(connection, found, [line.index for line in lines], statement)
    restated.add(connection, [one.idx for one in found])
    return statement, len(lines)


def _erase_free(connection: Connection, wanted: Sequence[Kept], reason: str) -> int:
    """What no hold covers; returns how many predictions."""
    held = holds.holds(connection)
    free = [one for one in wanted if not any(hold.covers(one) for hold in held)]
    if free:
        _erase(connection, free, "retention", reason, "auditor")
    return len(free)


def _erase_late(connection: Connection) -> int:
    """What was said of a prediction after it was erased: it is erased under the same rule, by the auditor."""
    late = erasures.orphans(connection, BATCH)
    if late:
        lines = [ErasedEntry(index=index) for index in late]
        statement = _state(connection, lines, "retention", "said of a prediction that was erased", "auditor")
        erasures.erase(connection, [], late, statement)
    return len(late)


def _state(connection: Connection, lines: list[ErasedEntry], rule: Because, reason: str, by: str) -> int:
    now = ids.now()
    return state(connection, PayloadErased(entries=lines, rule=rule, reason=reason, by=by, erased_at=now), now)


def _erasures(connection: Connection, limit: int) -> list[ErasureLine]:
    found = []
    for entry in reversed(entries.of(connection, erasures.latest(connection, limit))):
        event = decode(entry)
        if isinstance(event, PayloadErased):
            made = sum(bool(line.prediction_id) for line in event.entries)
            found.append(
                ErasureLine(entry.idx, event.rule, event.reason, event.by, event.erased_at, len(event.entries), made)
            )
    return found


def _set(connection: Connection, hold: Hold) -> None:
    holds.add(connection, hold)
    told = LegalHoldSet(
        hold_id=hold.hold_id,
        scope=hold.scope,
        # The log cannot forget whom a hold was about; the store can.
        value="" if hold.scope == "subject" else hold.value,
        since=hold.since,
        until=hold.until,
        reason=hold.reason,
        by=hold.set_by,
        set_at=hold.set_at,
    )
    state(connection, told, hold.set_at)


def _lift(connection: Connection, hold_id: str, reason: str, by: str) -> Hold:
    hold = holds.lift(connection, hold_id)
    if hold is None:
        raise NotFound(f"there is no legal hold {hold_id}", hint="GET /v1/holds lists them")
    now = ids.now()
    state(connection, LegalHoldLifted(hold_id=hold_id, reason=reason, by=by, lifted_at=now), now)
    return hold


def _keep(
    connection: Connection, kind: Literal["model", "tag"], value: str, days: int | None, reason: str, by: str
) -> None:
    now = ids.now()
    if days is not None:
        holds.put_rule(connection, Rule(kind, value, days, reason, by, now))
    elif not holds.drop_rule(connection, kind, value):
        raise NotFound(f"there is no retention class for the {kind} {value}", hint="GET /v1/retention lists them")
    state(connection, RetentionSet(kind=kind, value=value, days=days, reason=reason, by=by, set_at=now), now)
