"""Which numbers of a replica's sequence have arrived, as runs without a gap, and which are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """The numbers `first` to `last` have all arrived. `since`: when the gap before this run was first seen."""

    first: int
    last: int
    since: str


@dataclass(frozen=True, slots=True)
class Gap:
    """The numbers `first` to `last` have not arrived, though a later one has, at `since`."""

    first: int
    last: int
    since: str

    @property
    def width(self) -> int:
        return self.last - self.first + 1


def merged(runs: Sequence[Run], numbers: Iterable[int], now: str) -> list[Run]:
    """`runs` (in order, apart from one another) with `numbers` added. Numbers that are there already change nothing."""
    # Of runs that begin at the same number the older one goes first: its `since` is the true one.
    pending = sorted([*runs, *_runs_of(numbers, now)], key=lambda run: (run.first, run.since))
    out: list[Run] = []
    for run in pending:
        if out and run.first <= out[-1].last + 1:
            before = out[-1]
            out[-1] = Run(before.first, max(before.last, run.last), min(before.since, run.since))
        else:
            out.append(run)
    return out


def _runs_of(numbers: Iterable[int], now: str) -> list[Run]:
    """The numbers as runs: a batch is mostly one."""
    ordered = sorted(set(numbers))
    if ordered and ordered[-1] - ordered[0] == len(ordered) - 1:
        return [Run(ordered[0], ordered[-1], now)]
    return [Run(number, number, now) for number in ordered]


def gaps(runs: Sequence[Run]) -> list[Gap]:
    """What is missing before and between `runs`; a sequence begins at 1."""
    found = []
    expected = 1
    for run in runs:
        if run.first > expected:
            found.append(Gap(expected, run.first - 1, run.since))
        expected = run.last + 1
    return found
