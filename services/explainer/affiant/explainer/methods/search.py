"""The search for an anchor: alibi 0.9.4's beam search with KL-LUCB, turn by turn, without its sets and loops.

Ribeiro, Singh, Guestrin 2018; Kaufmann, Kalyanakrishnan 2013. With the same random numbers it takes the same turns as
`AnchorBaseBeam.anchor_beam` and finds the same anchor with the same precision and coverage (tests hold it against
alibi). What it does not do: keep example rows, and draw samples only to have some.

A search is a generator. It yields the samples (`Draw`) whose decisions it needs and is sent, for each, a mask of those
that the model decides like the row that is explained: so one call of the model can serve many searches.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from affiant.explainer.methods import bounds
from affiant.explainer.methods.bounds import Vector
from affiant.explainer.methods.grid import Indices, Mask, Predicates
from affiant.explainer.methods.sampling import Draw, Numbers, Plan, coverage_weights

Predicate = int
Key = tuple[Predicate, ...]
"""An anchor: its predicates in ascending order."""

Asking = Generator[list[Draw], list[Mask], None]


@dataclass(frozen=True)
class Choices:
    """How an anchor is searched; alibi's names and defaults are `threshold`, `delta`, `tau`, `batch_size`,
    `coverage_samples`, `beam_size`, `max_anchor_size`, `min_samples_start`."""

    threshold: float = 0.95
    delta: float = 0.1
    tolerance: float = 0.15
    batch: int = 100
    coverage_samples: int = 10_000
    beam: int = 1
    most_predicates: int | None = None
    first_samples: int = 100
    stop_within: float = 0.05


@dataclass(frozen=True)
class Found:
    """An anchor's predicates in the order in which they were added, and the samples that its precision rests on."""

    order: tuple[Predicate, ...]
    success: bool
    precision: float
    samples: float
    coverage: float


@dataclass(eq=False)
class Arm:
    """A candidate anchor. `rows` are the background rows that it covers among those drawn for coverage."""

    key: Key
    order: tuple[Predicate, ...]
    samples: float
    positives: float
    coverage: float
    parent: Arm | None = None
    plan: Plan | None = None
    drawn: list[tuple[Draw, Mask]] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What a frontier anchor hands down: its samples (bins, decisions) and the background rows it covers."""

    codes: Indices
    agree: Mask
    rows: Indices


class Search:
    """One row's search. Read `found` when `run` has ended."""

    found: Found

    def __init__(self, predicates: Predicates, numbers: Numbers, choices: Choices) -> None:
        self._predicates = predicates
        self._numbers = numbers
        self._choices = choices
        self._weights: Vector = np.empty(0)
        self._known: dict[Key, Known] = {}

    def run(self) -> Asking:
        """Search until the anchor is found; see the module's text for what goes in and out."""
        choices = self._choices
        self._weights = coverage_weights(self._numbers, self._predicates.grid, choices.coverage_samples).astype(float)
        root = Arm((), (), 0.0, 0.0, 1.0)
        yield from self._sample([root], choices.first_samples)
        low = yield from self._root_bound(root)
        if low > choices.threshold:
            self.found = Found((), True, root.positives / root.samples, root.samples, 1.0)
        else:
            yield from self._beam(root)

    def _root_bound(self, root: Arm) -> Generator[list[Draw], list[Mask], float]:
        """The lower bound of the precision of no condition at all, sampled until it is clear."""
        choices = self._choices
        rate = float(np.log(1.0 / choices.delta))
        while True:
            mean = root.positives / root.samples
            low = bounds.lower(mean, rate / root.samples)
            if not (mean > choices.threshold and low < choices.threshold - choices.tolerance):
                return low
            yield from self._sample([root], choices.batch)

    def _beam(self, root: Arm) -> Asking:
        choices = self._choices
        most = len(self._predicates) if choices.most_predicates is None else choices.most_predicates
        best: Arm | None = None
        best_coverage = -1.0
        frontier, every = [root], list[Arm]()
        for _ in range(most):
            arms = [arm for arm in self._propose(frontier) if arm.coverage > best_coverage]
            if not arms:
                break
            chosen = yield from self._lucb(arms, min(choices.beam, len(arms)))
            frontier = [arms[at] for at in chosen]
            every += frontier
            valid = yield from self._settle(frontier)
            better = [arm for arm, good in zip(frontier, valid, strict=True) if good and arm.coverage > best_coverage]
            if better:
                best = max(better, key=lambda arm: arm.coverage)
                best_coverage = best.coverage
                if best_coverage == 1.0:
                    break
        success = best is not None
        if best is None:
            [at] = yield from self._lucb(every, 1)
            best = every[at]
        self.found = Found(best.order, success, best.positives / best.samples, best.samples, best.coverage)

    # --- candidates -----------------------------------------------------------------------------------------------

    def _propose(self, frontier: Sequence[Arm]) -> list[Arm]:
        """Every anchor of the frontier with one predicate more, with what the samples at hand say of it."""
        grown = {arm.key: self._grow(arm) for arm in frontier}
        arms: dict[Key, Arm] = {}
        # A set, filled in alibi's order: in which order it is read out is the order of the arms.
        keys: set[Key] = set()
        for predicate in range(len(self._predicates)):
            for parent in frontier:
                if predicate in parent.key:
                    continue
                key = tuple(sorted((*parent.key, predicate)))
                if key in keys:
                    continue
                keys.add(key)
                samples, positives, coverage = grown[parent.key]
                arms[key] = Arm(
                    key,
                    (*parent.order, predicate),
                    samples[predicate],
                    positives[predicate],
                    coverage[predicate] / self._choices.coverage_samples,
                    parent,
                )
        # alibi's first candidates are a list, all others come out of a set.
        return list(arms.values()) if frontier[0].key == () else [arms[key] for key in keys]

    def _grow(self, arm: Arm) -> tuple[list[float], list[float], list[float]]:
        """For each predicate: of the arm's samples, how many it holds for and how many of these agree; and how many of
        the coverage samples that the arm covers."""
        known = self._inherit(arm)
        self._known[arm.key] = known
        predicates = self._predicates
        samples = predicates.counts(known.codes)
        positives = predicates.counts(known.codes[known.agree])
        coverage = predicates.counts(predicates.grid.codes[known.rows], self._weights[known.rows])
        return samples.tolist(), positives.tolist(), coverage.tolist()

    def _inherit(self, arm: Arm) -> Known:
        drawn = [(draw.codes(self._predicates), agree) for draw, agree in arm.drawn]
        rows = np.flatnonzero(self._weights)
        if arm.parent is not None:
            known, predicate = self._known[arm.parent.key], arm.order[-1]
            holds = self._predicates.holds(predicate, known.codes)
            drawn.append((known.codes[holds], known.agree[holds]))
            rows = known.rows[self._predicates.holds(predicate, self._predicates.grid.codes[known.rows])]
        codes, agree = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return Known(codes, agree, rows)

    # --- sampling -------------------------------------------------------------------------------------------------

    def _sample(self, arms: Sequence[Arm], count: int) -> Asking:
        draws = []
        for arm in arms:
            if arm.plan is None:
                arm.plan = Plan(self._predicates, arm.order)
            draws.append(arm.plan.draw(self._numbers, count))
        agreed = yield draws
        for arm, draw, agree in zip(arms, draws, agreed, strict=True):
            arm.drawn.append((draw, agree))
            arm.samples += float(count)
            arm.positives += float(np.count_nonzero(agree))

    def _lucb(self, arms: Sequence[Arm], top: int) -> Generator[list[Draw], list[Mask], list[int]]:
        """The positions of the `top` most precise arms, by KL-LUCB."""
        unseen = [arm for arm in arms if arm.samples == 0.0]
        if unseen:
            yield from self._sample(unseen, 1)
        if len(arms) == top:
            return list(range(top))
        samples = np.array([arm.samples for arm in arms])
        positives = np.array([arm.positives for arm in arms])
        turn = 1
        while True:
            means = positives / samples
            order = np.argsort(means)
            rate = bounds.beta(len(arms), turn, self._choices.delta)
            weak = order[:-top]
            strong: list[int] = order[-top:].tolist()
            at, high = bounds.highest(means[weak], rate / samples[weak])
            lows = [bounds.lower(float(means[each]), rate / float(samples[each])) for each in strong]
            low = min(lows)
            if high - low <= self._choices.tolerance:
                return strong
            critical = [int(weak[at]), strong[lows.index(low)]]
            yield from self._sample([arms[each] for each in critical], self._choices.batch)
            for each in critical:
                samples[each], positives[each] = arms[each].samples, arms[each].positives
            turn += 1

    def _settle(self, arms: Sequence[Arm]) -> Generator[list[Draw], list[Mask], list[bool]]:
        """Sample each arm until it is clear whether it reaches the threshold. Returns which of them do."""
        choices = self._choices
        rate = math.log(1.0 / (choices.delta / (1 + (choices.beam - 1) * len(self._predicates))))
        while True:
            ends = [self._ends(arm, rate) for arm in arms]
            unclear = [
                arm
                for arm, (mean, low, high) in zip(arms, ends, strict=True)
                if (mean >= choices.threshold and low < choices.threshold - choices.stop_within)
                or (mean < choices.threshold and high >= choices.threshold + choices.stop_within)
            ]
            if not unclear:
                return [
                    mean >= choices.threshold and low > choices.threshold - choices.stop_within for mean, low, _ in ends
                ]
            yield from self._sample(unclear, choices.batch)

    @staticmethod
    def _ends(arm: Arm, rate: float) -> tuple[float, float, float]:
        mean, level = arm.positives / arm.samples, rate / arm.samples
        return mean, bounds.lower(mean, level), bounds.upper(mean, level)
