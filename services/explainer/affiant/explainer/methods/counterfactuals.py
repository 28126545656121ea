"""Counterfactuals: the fewest changes to a row after which the model decides otherwise.

The question is Wachter, Mittelstadt and Russell's (2018). Changes of one column, then of two, are searched through all
values that the background offers, so that a shorter answer than the one given does not exist on that grid. What takes
more columns follows NICE (Brughmans, Leyman, Martens: NICE: an algorithm for nearest instance counterfactual
explanations, Data Mining and Knowledge Discovery 2023): cells of the nearest background rows that are decided the
wanted way are taken over, the one that gains most for its distance first, and taken back where they turn out not to be
needed. Distances are Gower's (1971). Nothing is drawn at random; every answer was scored by the model itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from affiant.common.events import Change, Counterfactual
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sentences import counterfactual_sentence
from affiant.explainer.methods.table import FEW_VALUES, MISSING, Coding, Matrix

METHOD = "single columns and pairs over the background's values, then NICE (Brughmans et al. 2023); Gower distance"
GRID = 24
"""Values of one numeric column that are tried: evenly spaced among those of the background."""
PAIR_COLUMNS, PAIR_VALUES = 10, 8
DONORS = 10
"""Background rows, decided as wanted, that cells are taken from."""
MOST_CHANGES = 12
"""Who is told to change more than a dozen things is told nothing."""
ROUNDS, STEPS, DIGITS = 2, 15, 3
"""A found number is moved back towards the present one in so many steps, each rounded to so many digits; then finer."""

Way = Literal["increase", "decrease"]


@dataclass(frozen=True)
class Limits:
    """What must not be proposed: another value of an immutable column; a one-way column moved the other way."""

    immutable: frozenset[str] = frozenset()
    one_way: Mapping[str, Way] = field(default_factory=dict)


@dataclass(frozen=True)
class _Proposal:
    """A whole row (columns,), the positions that differ from the present one, and how far it lies from it."""

    row: Matrix
    changed: tuple[int, ...]
    distance: float

    @property
    def cost(self) -> tuple[int, float]:
        return len(self.changed), self.distance


def find_counterfactuals(
    predictor: Predictor, row: Matrix, wanted: int, limits: Limits, count: int = 3
) -> list[Counterfactual]:
    """Up to `count` ways for one coded row (columns,) to be decided as class `wanted`, the shortest first.

    Each changes other columns than the ones before it. An empty list means that none was found; `row` should be
    decided otherwise now.
    """
    search = _Search(predictor, row, wanted, limits)
    found = _of_other_columns(search.singles(), count)
    if len(found) < count:
        found = _of_other_columns([*found, *search.pairs(found)], count)
    if not found:
        found = _of_other_columns(search.from_donors(), count)
    tightened = sorted((search.tighten(proposal) for proposal in found), key=lambda proposal: proposal.cost)
    return [answer for answer in map(search.answer, tightened) if answer is not None]


class _Search:
    """One row's search; what is tried is always a matrix of whole rows (N, columns)."""

    def __init__(self, predictor: Predictor, row: Matrix, wanted: int, limits: Limits) -> None:
        self._predictor = predictor
        self._codings = predictor.table.codings
        self._row = row
        self._wanted = wanted
        self._limits = limits
        self._free = [at for at, coding in enumerate(self._codings) if coding.column.name not in limits.immutable]
        self._choices = {at: self._values(at) for at in self._free}
        self._gain: dict[int, float] = {}

    def singles(self) -> list[_Proposal]:
        """For each column that alone changes the decision, its nearest such value."""
        tried = [(at, value) for at in self._free for value in self._choices[at]]
        if not tried:
            return []
        rows = np.repeat(self._row[None, :], len(tried), axis=0)
        rows[np.arange(len(tried)), [at for at, _ in tried]] = [value for _, value in tried]
        for (at, _), leaning in zip(tried, self._leaning(rows), strict=True):
            self._gain[at] = max(self._gain.get(at, -math.inf), float(leaning))
        return self._holding(rows)

    def pairs(self, singles: Iterable[_Proposal]) -> list[_Proposal]:
        """The same for two columns, none of which does it alone."""
        alone = {at for proposal in singles for at in proposal.changed}
        rest = [at for at in self._free if at not in alone and len(self._choices[at])]
        promising = sorted(rest, key=lambda at: -self._gain[at])[:PAIR_COLUMNS]
        rows = []
        for first, second in itertools.combinations(promising, 2):
            choices = itertools.product(self._few(first), self._few(second))
            for pair in choices:
                changed = self._row.copy()
                changed[[first, second]] = pair
                rows.append(changed)
        return self._holding(np.array(rows)) if rows else []

    def from_donors(self) -> list[_Proposal]:
        """NICE, from several donors at once: one call of the model for each further cell."""
        donors = self._donors()
        rows = np.repeat(self._row[None, :], len(donors), axis=0)
        scores = np.full(len(donors), float(self._leaning(self._row[None, :])[0]))
        found: list[_Proposal] = []
        for _ in range(MOST_CHANGES):
            rows, scores, donors = self._take_cell(rows, scores, donors)
            if not len(donors):
                break
            right = self._predictor.labels(rows) == self._wanted
            found += [self._pruned(self._proposal(done)) for done in rows[right]]
            rows, scores, donors = rows[~right], scores[~right], donors[~right]
        return found

    def tighten(self, proposal: _Proposal) -> _Proposal:
        """The same columns, each number moved back as far as the decision holds: nobody is told to do too much."""
        for at in proposal.changed:
            if self._codings[at].categorical or self._row[at] <= MISSING or self._is_grade(at):
                continue
            short = float(self._row[at])
            for _ in range(ROUNDS):
                proposal, short = self._moved_back(proposal, at, short)
        return proposal

    def _is_grade(self, at: int) -> bool:
        """Grades and counts have no values in between."""
        return len(np.unique(self._predictor.table.background[:, at])) <= FEW_VALUES

    def _moved_back(self, proposal: _Proposal, at: int, short: float) -> tuple[_Proposal, float]:
        """The number at `at` moved towards `short`, which does not suffice; and the nearest that does not suffice."""
        values = self._between(at, short, float(proposal.row[at]))
        if not values:
            return proposal, short
        rows = np.repeat(proposal.row[None, :], len(values), axis=0)
        rows[:, at] = values
        right = np.flatnonzero(self._predictor.labels(rows) == self._wanted)
        if not len(right):
            return proposal, values[-1]
        first = int(right[0])
        return self._proposal(rows[first]), values[first - 1] if first else short

    def answer(self, proposal: _Proposal) -> Counterfactual | None:
        """The proposal as it is told, scored once more as a row alone; None where that does not hold."""
        label, outputs = self._predictor.decide(proposal.row)
        if label != self._wanted:
            return None
        decision = self._predictor.decision
        changes = [self._change(at, proposal.row[at]) for at in proposal.changed]
        score = float(outputs[self._predictor.output_of(decision.favourable)])
        decided = decision.classes[label]
        return Counterfactual(
            changes=changes,
            label=decided,
            score=score,
            distance=round(proposal.distance, 6),
            sentence=counterfactual_sentence(changes, decided, score),
        )

    def _change(self, at: int, code: float) -> Change:
        coding = self._codings[at]
        return Change(column=coding.column.name, before=coding.value(self._row[at]), after=coding.value(code))

    def _values(self, at: int) -> Matrix:
        """The codes that may be proposed for a column, the nearest first; never a missing value."""
        coding, present = self._codings[at], self._row[at]
        column = self._predictor.table.background[:, at]
        values = np.unique(column)
        if coding.categorical:
            known = [value for value in values if value != present and not coding.is_missing(value)]
            return np.array(known, dtype=np.float64)
        values = _spread(values[(values > MISSING) & (values != present)], GRID)
        if present <= MISSING:
            return values
        way = self._limits.one_way.get(coding.column.name)
        values = values[values > present] if way == "increase" else values
        values = values[values < present] if way == "decrease" else values
        return values[np.argsort(np.abs(values - present), kind="stable")]

    def _few(self, at: int) -> Matrix:
        return _spread(self._choices[at], PAIR_VALUES)

    def _between(self, at: int, short: float, found: float) -> list[float]:
        """Rounded numbers between one that does not suffice and one that does, those next to the first one first."""
        coding = self._codings[at]
        whole = "INT" in coding.column.datatype
        values: list[float] = []
        for share in np.linspace(0.0, 1.0, STEPS + 2)[1:-1]:
            value = short + (found - short) * float(share)
            value = float(round(value)) if whole else float(f"{value:.{DIGITS}g}")
            inside = min(short, found) < value < max(short, found)
            if inside and coding.low <= value <= coding.high and value not in values:
                values.append(value)
        return values

    def _donors(self) -> Matrix:
        """Rows with the allowed cells of the nearest background rows that make the wanted decision, each once."""
        background = self._predictor.table.background
        rows = np.repeat(self._row[None, :], len(background), axis=0)
        for at in self._free:
            allowed = self._allowed(at, background[:, at])
            rows[allowed, at] = background[allowed, at]
        rows = np.unique(rows, axis=0)
        right = rows[self._predictor.labels(rows) == self._wanted]
        nearest: Matrix = right[np.argsort(self._distances(right), kind="stable")[:DONORS]]
        return nearest

    def _allowed(self, at: int, values: Matrix) -> npt.NDArray[np.bool_]:
        coding, present = self._codings[at], self._row[at]
        known = np.array([not coding.is_missing(value) for value in values], dtype=bool)
        way = self._limits.one_way.get(coding.column.name)
        if way is None or present <= MISSING:
            return known
        moved: npt.NDArray[np.bool_] = values >= present if way == "increase" else values <= present
        return known & moved

    def _take_cell(self, rows: Matrix, scores: Matrix, donors: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Each row with one more cell of its donor; rows that have all of them are left out."""
        tried = [(number, at) for number in range(len(rows)) for at in np.flatnonzero(rows[number] != donors[number])]
        if not tried:
            return rows[:0], scores[:0], donors[:0]
        numbers = np.array([number for number, _ in tried])
        columns = np.array([at for _, at in tried])
        changed = rows[numbers].copy()
        changed[np.arange(len(tried)), columns] = donors[numbers, columns]
        gained = self._leaning(changed) - scores[numbers]
        paid = np.array([self._gap(at, donors[number, at]) for number, at in tried]) + 1e-6
        # A cell that helps is worth its gain for its distance; where none helps, the one that harms least is taken.
        worth = np.where(gained > 0, gained / paid, gained)
        kept = [number for number in range(len(rows)) if np.any(numbers == number)]
        best = [int(np.flatnonzero(numbers == number)[np.argmax(worth[numbers == number])]) for number in kept]
        return changed[best], gained[best] + scores[kept], donors[kept]

    def _pruned(self, proposal: _Proposal) -> _Proposal:
        """Without the cells that the decision does not need, the most distant tried first."""
        order = sorted(proposal.changed, key=lambda at: -self._gap(at, float(proposal.row[at])))
        for at in order:
            shorter = proposal.row.copy()
            shorter[at] = self._row[at]
            if int(self._predictor.labels(shorter[None, :])[0]) == self._wanted:
                proposal = self._proposal(shorter)
        return proposal

    def _holding(self, rows: Matrix) -> list[_Proposal]:
        right = rows[self._predictor.labels(rows) == self._wanted]
        return sorted((self._proposal(row) for row in right), key=lambda proposal: proposal.cost)

    def _leaning(self, rows: Matrix) -> Matrix:
        return self._predictor.leaning(rows, self._predictor.decision.classes[self._wanted])

    def _proposal(self, row: Matrix) -> _Proposal:
        changed = tuple(int(at) for at in np.flatnonzero(row != self._row))
        return _Proposal(row, changed, sum(self._gap(at, float(row[at])) for at in changed))

    def _distances(self, rows: Matrix) -> Matrix:
        gaps = [[self._gap(at, float(row[at])) for at in np.flatnonzero(row != self._row)] for row in rows]
        return np.array([sum(gap) for gap in gaps], dtype=np.float64)

    def _gap(self, at: int, value: float) -> float:
        return _gap(self._codings[at], float(self._row[at]), value)


def _gap(coding: Coding, first: float, second: float) -> float:
    """Gower's distance of two codes of one column: 0 to 1, and 1 between a category, or nothing, and another."""
    if first == second:
        return 0.0
    if coding.categorical or min(first, second) <= MISSING:
        return 1.0
    return min(1.0, abs(first - second) / ((coding.high - coding.low) or 1.0))


def _spread(values: Matrix, count: int) -> Matrix:
    """At most `count` of the values, evenly spaced by their place."""
    if len(values) <= count:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, count).round().astype(np.int64))]


def _of_other_columns(proposals: Iterable[_Proposal], count: int) -> list[_Proposal]:
    """The cheapest proposals, none of which changes all that an earlier one changes."""
    chosen: list[_Proposal] = []
    for proposal in sorted(proposals, key=lambda each: each.cost):
        if len(chosen) < count and not any(set(earlier.changed) <= set(proposal.changed) for earlier in chosen):
            chosen.append(proposal)
    return chosen
