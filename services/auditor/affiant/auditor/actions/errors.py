"""Decisions held against their outcomes: coverage, error rates, whole and by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from affiant.auditor.domain import errors
from affiant.auditor.domain.views import Accuracy, Coverage, Errors
from affiant.auditor.store import projections, testimony
from affiant.auditor.store.database import Connection
from affiant.auditor.store.testimony import Tally
from affiant.common.events import Scalar

Window = tuple[str | None, str | None, int | None]
"""(since, until, version); times in UTC as stored."""

_encode = msgspec.json.Encoder().encode
_decode_values = msgspec.json.Decoder(dict[str, Scalar]).decode


def by_group(
    connection: Connection, model: str, column: str, window: Window, name: Callable[[Scalar], str], reference: str
) -> Errors:
    """Error rates by the groups of `column`; `name` says which group a value belongs to."""
    found = testimony.tallies(connection, model, *window)

    def group(tally: Tally) -> str | None:
        values = _decode_values(tally.protected)
        return name(values[column]) if column in values else None

    groups = errors.rates(_cells(connection, model, found, group))
    coverage = _coverage(connection, model, window, found)
    return Errors(coverage, groups, errors.comparisons(groups, reference), _caveat(coverage))


def whole(connection: Connection, model: str, window: Window) -> Accuracy:
    """The same over all rows of a model whose outcome is known."""
    found = testimony.tallies(connection, model, *window)
    rates = errors.rates(_cells(connection, model, found, lambda _: model))
    coverage = _coverage(connection, model, window, found)
    decisions = [spec.decision for spec in projections.specs_of(connection, model) if spec.decision]
    favourable = decisions[-1].favourable if decisions else None
    return Accuracy(model, favourable, coverage, rates[0] if rates else None, _caveat(coverage))


def _cells(
    connection: Connection, model: str, found: Sequence[Tally], group: Callable[[Tally], str | None]
) -> list[errors.Cell]:
    favourable = {version: _favourable(connection, model, version) for version in {one.version for one in found}}
    named = [(group(one), one) for one in found]
    return [
        errors.Cell(name, not one.adverse, one.label in favourable[one.version], one.rows)
        for name, one in named
        if name is not None
    ]


def _favourable(connection: Connection, model: str, version: int) -> set[str]:
    """The favourable labels (JSON) of a version: the registered one, else those that its decisions show."""
    spec = projections.spec(connection, model, version)
    if spec is not None and spec.decision is not None:
        return {_encode(spec.decision.favourable).decode()}
    return testimony.favourable_labels(connection, model, version)


def _coverage(connection: Connection, model: str, window: Window, found: Sequence[Tally]) -> Coverage:
    decided = testimony.decided(connection, model, *window)
    known = {adverse: sum(one.rows for one in found if one.adverse is adverse) for adverse in (False, True)}
    return Coverage(decided.get(False, 0), known[False], decided.get(True, 0), known[True])


def _caveat(coverage: Coverage) -> str:
    """What must be said with the figures. Outcomes that are known of one kind of decision alone mislead."""
    known = coverage.favourable_known + coverage.adverse_known
    if not known:
        return "no outcome is on record"
    if coverage.adverse_rows and not coverage.adverse_known:
        return (
            "outcomes are known of favourable decisions alone: true and false positive rates say nothing here, "
            "positive predictive value does"
        )
    shares = [
        part / rows
        for part, rows in (
            (coverage.favourable_known, coverage.favourable_rows),
            (coverage.adverse_known, coverage.adverse_rows),
        )
        if rows
    ]
    if max(shares) > 2 * min(shares):
        return "outcomes are known of one kind of decision much more often than of the other: rates are biased"
    return ""
