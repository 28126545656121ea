"""Anchors: which of a row's values hold the decision while all others change (Ribeiro, Singh, Guestrin 2018).

The search is our own (`search`), with alibi's answers; several rows of one version are searched side by side, so that
they share calls of the model. Each row has random numbers of its own: it gets the same anchor alone and in company.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from affiant.common.events import Anchor
from affiant.explainer.methods import bounds
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.grid import Grid, Mask, Predicates
from affiant.explainer.methods.mixing import Mixer
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sampling import Draw, Numbers
from affiant.explainer.methods.search import Asking, Choices, Found, Search
from affiant.explainer.methods.sentences import anchor_sentence, clause
from affiant.explainer.methods.table import MISSING, Matrix

THRESHOLD = 0.95
MAX_PREDICATES = 8
"""Nobody reads more conditions, they cover next to no case, and the search for them is what takes longest: without
this bound one denial in ten took 0.97 s of processor time on a 13-column boosting model, with it 0.53 s."""

CONFIDENCE = 0.95
"""Of the interval that is given with a precision."""

MOST_GRIDS = 16
"""Kept for one version: one for each set of columns that a row lacks and the background never does."""

CHOICES = Choices(threshold=THRESHOLD, most_predicates=MAX_PREDICATES)


@dataclass(frozen=True)
class Case:
    """A row to be explained: coded (columns,), the decision on it, and the seed of its random numbers.

    `work_seconds`: how much work may be spent on it; `until`: the moment of `time.monotonic` at which it is too late.
    """

    row: Matrix
    label: str | int
    seed: int
    work_seconds: float = math.inf
    until: float = math.inf


@dataclass(frozen=True)
class Anchored:
    """The anchor of a case with warnings, or why there is none (`late`: its time was over). `columns`: those that the
    clauses are about. `seconds`: this case's share of the time."""

    anchor: Anchor | None = None
    columns: frozenset[str] = frozenset()
    late: bool = False
    warnings: list[str] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0


class Anchors:
    """The anchors of one version's decisions. Keeps what all of its rows share. Not for use from two threads."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._mixer = Mixer(predictor)
        self._has_missing = np.any(predictor.table.background <= MISSING, axis=0)
        self._grids: dict[frozenset[int], Grid] = {}

    def find(self, cases: Sequence[Case]) -> list[Anchored]:
        """The anchor of each case; see `search`."""
        found = dict(ended for ended in self.search(cases) if ended is not None)
        return [found[at] for at in range(len(cases))]

    def search(self, cases: Sequence[Case]) -> Iterator[tuple[int, Anchored] | None]:
        """Each case's position and anchor as it is found, and None after each step on the way.

        The same seed gives the same anchor, whatever the other cases are. A case that fails harms no other.
        """
        running = {at: self._begin(case) for at, case in enumerate(cases)}
        while running:
            self._turn(list(running.values()))
            yield None
            for at, each in list(running.items()):
                each.look_at_the_clock()
                if each.ended:
                    del running[at]
                    yield at, self._anchored(each)

    def _begin(self, case: Case) -> _Running:
        return _Running(self._grid(case.row).predicates(case.row), case, self._predictor.class_of(case.label))

    def _grid(self, row: Matrix) -> Grid:
        """Rows that lack a value which the background always has need a bin for missing values there."""
        lacking = frozenset(np.flatnonzero((row <= MISSING) & ~self._has_missing).tolist())
        if lacking not in self._grids:
            if len(self._grids) >= MOST_GRIDS:
                self._grids.clear()
            table = self._predictor.table
            edges = {at: table.edges(at, row) for at, coding in enumerate(table.codings) if not coding.categorical}
            sizes = {at: len(coding.categories) for at, coding in enumerate(table.codings) if coding.categorical}
            self._grids[lacking] = Grid(table.background, edges, sizes)
        return self._grids[lacking]

    def _turn(self, running: list[_Running]) -> None:
        """One call of the model for everything that the searches ask now; where it fails, one for each of them."""
        started = time.perf_counter()
        try:
            answers = self._answers(running)
        except Unexplainable as error:
            if len(running) == 1:
                running[0].failure = str(error)
                return
            for each in running:
                self._turn([each])
            return
        spent, asked = time.perf_counter() - started, sum(each.samples for each in running)
        for each, answer in zip(running, answers, strict=True):
            each.seconds += spent * each.samples / asked
            each.advance(answer)

    def _answers(self, running: list[_Running]) -> list[list[Mask]]:
        draws = [draw for each in running for draw in each.asks]
        rows = [each.case.row for each in running for _ in each.asks]
        decided = iter(self._mixer.decisions(draws, rows))
        return [[next(decided) == each.label for _ in each.asks] for each in running]

    def _anchored(self, ended: _Running) -> Anchored:
        if ended.failure:
            return Anchored(failure=ended.failure, late=ended.late, seconds=ended.seconds)
        case, warnings = ended.case, list[str]()
        if not ended.fault:
            found, predicates = ended.found, ended.predicates
        else:
            # alibi's own search still serves the row, some ten times slower. Not imported before it is needed.
            from affiant.explainer.methods.stock import find_stock

            try:
                found, predicates = find_stock(self._predictor, case.row, case.seed, CHOICES)
            except Unexplainable as error:
                return Anchored(failure=str(error), seconds=ended.seconds)
            warnings.append(f"the anchor was searched by alibi itself, because our search failed: {ended.fault}")
        anchor = _anchor(self._predictor, case, found, predicates)
        columns = frozenset(self._predictor.table.names[predicates.columns[each]] for each in found.order)
        return Anchored(anchor, columns, warnings=warnings + _warnings(anchor), seconds=ended.seconds)


class _Running:
    """One search under way. `failure`: why there is no anchor; `fault`: why our search could not go on."""

    def __init__(self, predicates: Predicates, case: Case, label: int) -> None:
        self.predicates = predicates
        self.case = case
        self.label = label
        self.failure = ""
        self.late = False
        self.fault = ""
        self.seconds = 0.0
        self._search = Search(predicates, Numbers(case.seed), CHOICES)
        self._asking: Asking = self._search.run()
        self.asks: list[Draw] = next(self._asking)

    @property
    def ended(self) -> bool:
        return bool(self.failure or not self.asks)

    @property
    def samples(self) -> int:
        return sum(len(draw) for draw in self.asks)

    @property
    def found(self) -> Found:
        return self._search.found

    def look_at_the_clock(self) -> None:
        """End a search whose time is over."""
        if self.ended:
            return
        if self.seconds > self.case.work_seconds:
            self.failure = f"no anchor was found in {self.case.work_seconds:g} seconds of work"
        elif time.monotonic() > self.case.until:
            self.failure, self.late = "no anchor was found before the deadline", True

    def advance(self, answers: list[Mask]) -> None:
        """Give the search its answers, and take up what it asks next."""
        started = time.perf_counter()
        try:
            self.asks = self._asking.send(answers)
        except StopIteration:
            self.asks = []
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.asks, self.fault = [], f"{type(error).__name__}: {error}"
        self.seconds += time.perf_counter() - started


def _anchor(predictor: Predictor, case: Case, found: Found, predicates: Predicates) -> Anchor:
    clauses = _clauses(predictor, case.row, found.order, predicates)
    low, high = bounds.interval(found.precision, found.samples, CONFIDENCE)
    return Anchor(
        clauses=clauses,
        precision=found.precision,
        coverage=found.coverage,
        threshold=THRESHOLD,
        success=found.success,
        sentence=anchor_sentence(clauses, found.precision, found.coverage, THRESHOLD, found.success, case.label),
        precision_low=low,
        precision_high=high,
        confidence=CONFIDENCE,
        samples=int(found.samples),
    )


def _clauses(predictor: Predictor, row: Matrix, order: Sequence[int], predicates: Predicates) -> list[str]:
    """One clause for each column that the anchor names: several predicates may speak of one numeric column."""
    allowed: dict[int, tuple[int, int]] = {}
    for predicate in order:
        column, (low, high) = predicates.columns[predicate], predicates.ranges[predicate]
        first, last = allowed.get(column, (low, high))
        allowed[column] = max(first, low), min(last, high)
    edges, codings = predicates.grid.edges, predictor.table.codings
    return [
        clause(codings[column], row[column], edges.get(column), set(range(first, last + 1)))
        for column, (first, last) in allowed.items()
    ]


def _warnings(anchor: Anchor) -> list[str]:
    found = []
    if not anchor.success:
        found.append(f"no anchor reached the precision {anchor.threshold:g}; the best one found is given")
    elif not anchor.clauses:
        found.append("the anchor is empty: nearly every case gets this decision")
    if anchor.clauses and anchor.coverage == 0.0:
        found.append("the anchor covers no background row: its precision rests on rows put together for it")
    return found
