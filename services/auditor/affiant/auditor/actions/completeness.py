"""Was everything that was served recorded, and is everything that was recorded still here?"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from affiant.auditor.actions import history
from affiant.auditor.domain.completeness import Ending, Hole, Span, belongs, holes
from affiant.auditor.domain.sequences import Run
from affiant.auditor.domain.views import Completeness, MissingRange, ReplicaLine
from affiant.auditor.store import numbering, projections
from affiant.auditor.store.database import Connection
from affiant.auditor.store.projections import Replica
from affiant.common.errors import Problem
from affiant.common.events import OUTSIDE


def report(connection: Connection, model: str | None, day: str | None) -> Completeness:
    """Every replica that numbered requests, of one model or all, whole or of one day (UTC). Raises `Problem`."""
    said, here = numbering.endings(connection, model), numbering.arrived(connection, model)
    # Reading every row takes long: only where the counts say that some are gone.
    still = numbering.present(connection, model) if numbering.damaged(connection, model) else None
    spans = None if day is None else numbering.spans(connection, model, *_bounds(day))
    serving = _serving(connection, model)
    lines = []
    for replica in sorted(said.keys() | here.keys()):
        runs = projections.runs(connection, replica)
        present = runs if still is None else still.get(replica, [])
        line = _line(replica, runs, present, said.get(replica), serving)
        if day is None or spans is None:
            lines.append(line)
        elif part := _of_day(line, holes(runs, present, said.get(replica)), spans.get(replica), day, present, said):
            lines.append(part)
    return _summed(lines, day)


def _line(
    replica: Replica, runs: list[Run], present: list[Run], ending: Ending | None, serving: set[str]
) -> ReplicaLine:
    found = holes(runs, present, ending)
    return ReplicaLine(
        *replica,
        first=present[0].first if present else 0,
        last=present[-1].last if present else 0,
        received=sum(run.last - run.first + 1 for run in present),
        missing=_missing(found),
        removed=_removed(found),
        drawn=ending.last if ending else None,
        ended_at=ending.since if ending else None,
        end="ended" if ending else "serving" if replica[1] in serving else "open",
    )


def _of_day(
    line: ReplicaLine,
    found: list[Hole],
    span: Span | None,
    day: str,
    present: list[Run],
    said: dict[Replica, Ending],
) -> ReplicaLine | None:
    """The part of `line` that belongs to one day; None where nothing does."""
    ending = said.get((line.model, line.replica, line.epoch))
    mine = [hole for hole in found if belongs(hole, span, day, present, ending)]
    if span is None and not mine:
        return None
    return ReplicaLine(
        line.model,
        line.replica,
        line.epoch,
        first=span.first if span else 0,
        last=span.last if span else 0,
        received=span.count if span else 0,
        missing=_missing(mine),
        removed=_removed(mine),
        drawn=line.drawn,
        ended_at=line.ended_at,
        end=line.end,
    )


def _missing(found: Iterable[Hole]) -> list[MissingRange]:
    return [MissingRange(gap.first, gap.last, gap.since) for hole in found for gap in hole.missing]


def _removed(found: Iterable[Hole]) -> list[MissingRange]:
    return [MissingRange(first, last, "") for hole in found for first, last in hole.removed]


def _summed(lines: list[ReplicaLine], day: str | None) -> Completeness:
    ours = [line for line in lines if not line.replica.startswith(f"{OUTSIDE}:")]
    missing = sum(gap.last - gap.first + 1 for line in ours for gap in line.missing)
    removed = sum(gap.last - gap.first + 1 for line in lines for gap in line.removed)
    received = sum(line.received for line in lines)
    served = sum(line.received for line in ours) + missing
    served += sum(gap.last - gap.first + 1 for line in ours for gap in line.removed)
    return Completeness(
        replicas=lines,
        received=received,
        missing=missing,
        removed=removed,
        served=served,
        open_ends=sum(line.end == "open" for line in ours),
        complete=not missing and not removed,
        day=day,
    )


def _bounds(day: str) -> tuple[str, str]:
    """The day in UTC, from its first moment to the first of the next, as times are stored."""
    try:
        begin = date.fromisoformat(day)
        if begin.isoformat() != day:
            raise ValueError(day)
        return f"{begin}T00:00:00.000000Z", f"{begin + timedelta(days=1)}T00:00:00.000000Z"
    except (ValueError, OverflowError) as error:
        raise Problem(f"{day!r} is no day", status=422, hint="for example 2026-11-24; days are in UTC") from error


def _serving(connection: Connection, model: str | None) -> set[str]:
    """The replicas that answer by the deployer's last word."""
    standing = history.standings(connection, model, None)
    return {name for one in standing.values() for up in one.deployments.values() for name in up.replicas}
