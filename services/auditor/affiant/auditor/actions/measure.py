"""Fairness: approval rates by group, asked for or watched."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from affiant.auditor.actions import errors
from affiant.auditor.actions.look import Lookup, moment
from affiant.auditor.actions.project import fill_protected
from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain import drift, fairness
from affiant.auditor.domain.fairness import Count
from affiant.auditor.domain.views import Accuracy, Drift, DriftLine, Fairness
from affiant.auditor.segments.columns import INPUT
from affiant.auditor.segments.questions import Engine, Snapshot, Wanted
from affiant.auditor.store import projections, queries
from affiant.auditor.store.database import Connection, Standby
from affiant.common.errors import NotFound, Unavailable

FILL_BATCH = 500
MANY_ROWS = 20_000
"""From here on a model's groups are counted in the columns: the row store needs over a microsecond for each row."""


class Measure:
    """Compares groups by what was recorded of them."""

    def __init__(self, lookup: Lookup, writer: Writer) -> None:
        self._lookup = lookup
        self._writer = writer

    async def fill(self) -> None:
        """Find the protected values of predictions that came before their model's registration."""
        # Looking first costs a reader nothing; the writer has other work. Whoever leads fills them; another only waits.
        with suppress(Standby):
            while await self._lookup.ask(lambda connection: projections.awaiting_spec(connection, 1)):
                await self._writer.write(lambda connection: fill_protected(connection, FILL_BATCH))

    async def fairness(
        self, model: str, column: str, since: str | None, until: str | None, version: int | None, reference: str | None
    ) -> Fairness:
        """Approval rates by value of `column`, each group beside `reference` (the most numerous where none is given).

        Raises `NotFound` when no decision of the model tells a value of that column, or no group is `reference`.
        """
        await self.fill()
        counts = await self._group_counts(model, column, moment(since), moment(until), version)
        if not counts:
            raise await self._lookup.ask(partial(_nothing, model=model, column=column))
        favourable = await self._lookup.ask(partial(_favourable, model=model))
        groups = fairness.groups(counts)
        chosen = _reference(column, groups, reference)
        window, name = (moment(since), moment(until), version), fairness.named(counts)
        held = await self._lookup.ask(
            lambda connection: errors.by_group(connection, model, column, window, name, chosen)
        )
        return Fairness(
            model=model,
            column=column,
            favourable=favourable,
            rows=sum(group.rows for group in groups),
            groups=groups,
            reference=chosen,
            reference_rule="asked for" if reference else "most numerous",
            comparisons=fairness.comparisons(groups, chosen) if chosen else [],
            errors=held,
        )

    async def accuracy(self, model: str, since: str | None, until: str | None, version: int | None) -> Accuracy:
        """How often the decisions of a model agree with what became of them, as far as that is known."""
        window = (moment(since), moment(until), version)
        return await self._lookup.ask(lambda connection: errors.whole(connection, model, window))

    async def drift(
        self, model: str, version: int | None, now: tuple[str, str | None], before: tuple[str | None, str]
    ) -> Drift:
        """Every input column and the score in one window beside another, each from its first moment to below its last.

        Raises `NotFound` where nothing is on record of the model.
        """
        since, until = moment(now[0]) or "", moment(now[1])
        start, end = moment(before[0]), moment(before[1]) or ""
        wanted = Wanted(model, version, since=since, until=until)
        reference = Wanted(model, version, since=start, until=end)
        lines = await self._lookup.columnar(partial(_drifted, wanted=wanted, reference=reference))
        return Drift(model, since, until, start, end, lines)

    async def _group_counts(
        self, model: str, column: str, since: str | None, until: str | None, version: int | None
    ) -> list[Count]:
        """From the columns where there is much to count and they are up to date; both ways say the same."""
        if await self._lookup.ask(lambda connection: queries.decided_rows(connection, model)) >= MANY_ROWS:
            wanted = Wanted(model, version, since=since, until=until)
            with suppress(Unavailable):
                found = await self._lookup.columnar(lambda engine, at: engine.group_counts(at, wanted, column))
                return fairness.tally(found)
        return await self._lookup.ask(
            lambda connection: queries.group_counts(connection, model, column, since, until, version)
        )


def _reference(column: str, groups: list[fairness.Group], asked: str | None) -> str:
    values = [group.value for group in groups]
    if asked and asked not in values:
        raise NotFound(f"no group {asked!r} in {column}", hint=f"there are: {', '.join(values)}")
    return asked or fairness.most_numerous(groups)


def _nothing(connection: Connection, model: str, column: str) -> NotFound:
    known = queries.protected_columns(connection, model)
    hint = f"recorded columns: {', '.join(known)}" if known else f"no decisions of model {model} are on record"
    return NotFound(f"no decision of {model} in that time tells its {column}", hint=hint)


def _favourable(connection: Connection, model: str) -> str | int | None:
    decisions = [spec.decision for spec in projections.specs_of(connection, model) if spec.decision]
    return decisions[-1].favourable if decisions else None


def _drifted(engine: Engine, snapshot: Snapshot, wanted: Wanted, reference: Wanted) -> list[DriftLine]:
    known = snapshot.column_kinds(wanted.model)
    inputs = [name for name in known if name.startswith(INPUT)]
    if not known:
        raise NotFound(f"no prediction of {wanted.model} is on record", hint="GET /v1/summary tells what is")
    return [_line(column, engine, snapshot, wanted, reference) for column in ["score", *inputs]]


def _line(column: str, engine: Engine, snapshot: Snapshot, wanted: Wanted, reference: Wanted) -> DriftLine:
    now, missing = engine.values(snapshot, wanted, column)
    before, missing_before = engine.values(snapshot, reference, column)
    figures = drift.compared(now, before) if len(now) and len(before) else None
    return DriftLine(
        column.removeprefix(INPUT), len(now) + missing, missing, len(before) + missing_before, missing_before, figures
    )
