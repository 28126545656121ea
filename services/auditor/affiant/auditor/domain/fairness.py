"""Do groups fare alike? Approval rates by group, and the two figures that the field compares them by.

Statistical parity difference: rate(group) - rate(reference). Disparate impact ratio: rate(group) / rate(reference);
under 0.8 is the "four-fifths rule" of the US Uniform Guidelines on Employee Selection Procedures (29 CFR 1607.4 D).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from affiant.common.events import Scalar

MISSING = "(missing)"
MOST_GROUPS = 8
"""A numeric column with more distinct values than this is compared in four bands of about equal numbers of rows."""
LOWEST_RATIO = 0.8
HIGHEST_RATIO = 1.0

_Key = tuple[bool, Scalar]


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows had this value, and how many of them the favourable decision."""

    value: Scalar
    rows: int
    favourable: int


@dataclass(frozen=True)
class Group:
    """One group; `rate` is the share of its rows with the favourable decision (0-1)."""

    value: str
    rows: int
    favourable: int
    rate: float


@dataclass(frozen=True)
class Comparison:
    """A group beside the reference group; the ratio is None where the reference's rate is 0."""

    value: str
    statistical_parity_difference: float
    disparate_impact_ratio: float | None


def tally(found: Iterable[tuple[str, int, int]]) -> list[Count]:
    """The counts of (JSON text of a value, rows, favourable). Texts of one value, as 30 and 30.0, count together."""
    totals: dict[_Key, tuple[int, int]] = {}
    for text, rows, favourable in found:
        key = _key(json.loads(text))
        before = totals.get(key, (0, 0))
        totals[key] = (before[0] + rows, before[1] + favourable)
    return [Count(value, rows, favourable) for (_, value), (rows, favourable) in totals.items()]


def groups(counts: Sequence[Count]) -> list[Group]:
    """The groups, most numerous first; values that are null or "" form a group of their own."""
    totals: dict[str, tuple[int, int]] = {}
    names = _names(counts)
    for count in counts:
        name = names[_key(count.value)]
        rows, favourable = totals.get(name, (0, 0))
        totals[name] = (rows + count.rows, favourable + count.favourable)
    found = [Group(name, rows, favourable, favourable / rows) for name, (rows, favourable) in totals.items() if rows]
    return sorted(found, key=lambda group: (-group.rows, group.value))


def most_numerous(found: Sequence[Group]) -> str:
    """The reference group where none is asked for: the largest whose value is known; "" where there is none."""
    return next((group.value for group in found if group.value != MISSING), "")


def comparisons(found: Sequence[Group], reference: str) -> list[Comparison]:
    """Every other group beside `reference`. Raises `KeyError` when no group has that value."""
    base = {group.value: group for group in found}[reference].rate
    return [
        Comparison(group.value, group.rate - base, group.rate / base if base else None)
        for group in found
        if group.value != reference
    ]


def worst_breach(found: Sequence[Group], least_rows: int) -> Comparison | None:
    """The group with the lowest rate, if that is less than four fifths of the highest, among groups of at least
    `least_rows` rows. Beside the best treated group, as 29 CFR 1607.4 D has it, not the most numerous.
    """
    large = [group for group in found if group.rows >= least_rows and group.value != MISSING]
    if len(large) < 2:
        return None
    best = max(large, key=lambda group: group.rate)
    worst = min(comparisons(large, best.value), key=lambda comparison: comparison.statistical_parity_difference)
    ratio = worst.disparate_impact_ratio
    return worst if ratio is not None and ratio < LOWEST_RATIO else None


def named(counts: Sequence[Count]) -> Callable[[Scalar], str]:
    """What the group of a value is called, among the groups that `counts` make."""
    names = _names(counts)
    return lambda value: names.get(_key(value), MISSING)


def _key(value: Scalar) -> _Key:
    """True and 1 are one to Python, and two values to whoever wrote them."""
    return isinstance(value, bool), value


def _names(counts: Sequence[Count]) -> Mapping[_Key, str]:
    """What each value's group is called."""
    known = [count for count in counts if count.value is not None and count.value != ""]
    numbers = [count for count in known if isinstance(count.value, int | float) and not isinstance(count.value, bool)]
    names: dict[_Key, str] = {_key(count.value): MISSING for count in counts}
    if len(numbers) == len(known) and len(numbers) > MOST_GROUPS:
        return names | _bands(numbers)
    return names | {_key(count.value): _text(count.value) for count in known}


def _bands(numbers: Sequence[Count]) -> dict[_Key, str]:
    """Four bands along the quartiles of the rows; equal values always fall into the same band."""
    ordered = sorted(numbers, key=lambda count: float(count.value or 0))
    total, before, bands = sum(count.rows for count in ordered), 0, [list[Count]() for _ in range(4)]
    for count in ordered:
        bands[min(3, 4 * before // total)].append(count)
        before += count.rows
    return {
        _key(count.value): f"{_text(band[0].value)} to {_text(band[-1].value)}"
        for band in bands
        if band
        for count in band
    }


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
