"""Which numbers of a replica's sequence are not here: those that never arrived, and those that were here once.

A number belongs to the day of the next one that is here, or of the sequence's end: so the days add up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from affiant.auditor.domain.sequences import Gap, Run, gaps

Range = tuple[int, int]
"""The numbers from the first to the last, inclusive."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A process said that it numbered 1 to `last`; this was known at `since`."""

    last: int
    since: str


@dataclass(frozen=True, slots=True)
class Span:
    """What of a replica's sequence is here of one day: `count` numbers, from `first` to `last`."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Numbers side by side that are not here: `missing` never arrived, `removed` did."""

    first: int
    last: int
    missing: tuple[Gap, ...]
    removed: tuple[Range, ...]


def open_gaps(runs: Sequence[Run], ending: Ending | None) -> list[Gap]:
    """What never arrived: before and between `runs`, and after them where the process said that there was more."""
    found = gaps(runs)
    last = runs[-1].last if runs else 0
    if ending is not None and ending.last > last:
        found.append(Gap(last + 1, ending.last, ending.since))
    return found


def holes(runs: Sequence[Run], present: Sequence[Run], ending: Ending | None) -> list[Hole]:
    """What is not in `present`, each maximal range. `runs` is what arrived, `present` what is still here of it."""
    arrived = open_gaps(runs, ending)
    end = max(runs[-1].last if runs else 0, ending.last if ending else 0)
    here = present[-1].last if present else 0
    absent = [(gap.first, gap.last) for gap in gaps(present)] + ([(here + 1, end)] if end > here else [])
    return [
        Hole(
            first,
            last,
            tuple(Gap(*cut, gap.since) for gap in arrived if (cut := _cut((gap.first, gap.last), (first, last)))),
            tuple(cut for run in runs if (cut := _cut((run.first, run.last), (first, last)))),
        )
        for first, last in absent
    ]


def belongs(hole: Hole, span: Span | None, day: str, present: Sequence[Run], ending: Ending | None) -> bool:
    """Whether `hole` is one of the day that `span` is of; None where nothing of the replica is here of that day."""
    here = present[-1].last if present else 0
    if hole.first > here:  # at the end: nothing after it is here
        if ending is not None:
            return ending.since[:10] == day
        return span is not None and span.last == here
    return span is not None and span.first - 1 <= hole.last < span.last


def _cut(one: Range, other: Range) -> Range | None:
    first, last = max(one[0], other[0]), min(one[1], other[1])
    return (first, last) if first <= last else None


def minus(ranges: Iterable[Range], less: Iterable[Range]) -> list[Range]:
    """The numbers of `ranges` that are not in `less`; both in order."""
    taken = sorted(less)
    left: list[Range] = []
    for first, last in sorted(ranges):
        start = first
        for low, high in taken:
            if high < start or low > last:
                continue
            if low > start:
                left.append((start, low - 1))
            start = high + 1
        if start <= last:
            left.append((start, last))
    return left
