"""Watching: gaps that stay open and groups that fare worse are published, once each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import structlog

from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.measure import Measure
from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain import fairness
from affiant.auditor.domain.completeness import Range, minus, open_gaps
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import facts, numbering, outbox, projections, queries
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common import ids, wire
from affiant.common.errors import Unavailable
from affiant.common.events import GapClosed, GapFound, MetricBreached

log = structlog.get_logger(__name__)

_GAPS = "gaps "
MOST_RANGES = 1_000
"""As many missing ranges as one event names; the completeness report names them all."""


class Watch:
    """Looks at an interval for what should be known without being asked for."""

    def __init__(
        self,
        lookup: Lookup,
        writer: Writer,
        measure: Measure,
        settings: AuditorSettings,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._lookup = lookup
        self._writer = writer
        self._measure = measure
        self._settings = settings
        self._wake = wake

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._settings.watch_interval_seconds)
            try:
                await self.look(datetime.now(UTC))
            except (StoreAway, Unavailable) as reason:
                log.warning("cannot watch now", reason=str(reason))

    async def look(self, now: datetime) -> None:
        """Publish what is new at this moment."""
        await self._measure.fill()
        await self._gaps(now)
        for model in await self._lookup.ask(queries.models):
            for column in await self._lookup.ask(partial(queries.protected_columns, model=model)):
                await self._fairness(model, column, now)
        self._wake()

    async def _gaps(self, now: datetime) -> None:
        seen_before = ids.timestamp(now - timedelta(seconds=self._settings.gap_grace_seconds))
        broken = await self._lookup.ask(numbering.broken)
        open_before = [replica for replica in await self._lookup.ask(_reported) if replica not in broken]
        for replica in [*broken, *open_before]:
            await self._writer.write(
                partial(_report_gaps, replica=replica, seen_before=seen_before, now=ids.timestamp(now))
            )

    async def _fairness(self, model: str, column: str, now: datetime) -> None:
        counts = await self._lookup.ask(
            lambda connection: queries.latest_group_counts(
                connection, model, column, self._settings.fairness_window_rows
            )
        )
        worst = fairness.worst_breach(fairness.groups(counts), self._settings.fairness_group_rows)
        if worst is None or worst.disparate_impact_ratio is None:
            return
        breach = MetricBreached(
            model=model,
            metric="disparate_impact_ratio",
            value=worst.disparate_impact_ratio,
            lower=fairness.LOWEST_RATIO,
            upper=fairness.HIGHEST_RATIO,
            breached_at=ids.timestamp(now),
            column=column,
            group=worst.value,
        )
        await self._writer.write(partial(_report_breach, breach=breach))


def _reported(connection: Connection) -> list[projections.Replica]:
    """The replicas of which gaps were published that have not all been closed."""
    names = facts.open_reports(connection, _GAPS)
    return [msgspec.json.decode(name.removeprefix(_GAPS), type=projections.Replica) for name in names]


def _report_gaps(connection: Connection, replica: projections.Replica, seen_before: str, now: str) -> None:
    """Publish gaps that were first seen before `seen_before`, and which of those published were closed since."""
    name = _GAPS + msgspec.json.encode(replica).decode()
    before = msgspec.json.decode(facts.reported(connection, name) or "[]", type=list[Range])
    ending = numbering.endings(connection, replica[0]).get(replica)
    found = open_gaps(projections.runs(connection, replica), ending)
    due = [(gap.first, gap.last) for gap in found if gap.since <= seen_before][:MOST_RANGES]
    closed = minus(before, [(gap.first, gap.last) for gap in found])
    fresh = minus(due, before)
    model, server, epoch = replica
    if closed:
        arrived = GapClosed(model=model, replica=server, epoch=epoch, arrived=closed, closed_at=now)
        outbox.put(connection, wire.encode(arrived, owner="auditor"))
        log.info("missing requests have arrived", model=model, replica=server, epoch=epoch, arrived=closed[:10])
    if fresh:
        event = GapFound(model=model, replica=server, epoch=epoch, missing=due, found_at=now)
        outbox.put(connection, wire.encode(event, owner="auditor"))
        log.warning("requests are missing from the record", model=model, replica=server, epoch=epoch, missing=due[:10])
    if closed or fresh:
        facts.report(connection, name, msgspec.json.encode(due).decode(), now)


def _report_breach(connection: Connection, breach: MetricBreached) -> None:
    """Publish a breach, at most once a day for each model and column."""
    name, day = "breach " + msgspec.json.encode((breach.model, breach.column)).decode(), breach.breached_at[:10]
    if facts.reported(connection, name) == day:
        return
    outbox.put(connection, wire.encode(breach, owner="auditor"))
    facts.report(connection, name, day, breach.breached_at)
    log.warning(
        "groups do not fare alike",
        model=breach.model,
        column=breach.column,
        group=breach.group,
        disparate_impact_ratio=breach.value,
    )
