"""Rows of one version explained together, with the versions that were loaded before kept warm."""

from __future__ import annotations

import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affiant.common.events import Anchor, Counterfactual, ModelSpec, Reasons, Shap, Trust
from affiant.explainer.methods import reasons as reasoning
from affiant.explainer.methods.anchors import Anchored, Anchors, Case
from affiant.explainer.methods.counterfactuals import Limits, find_counterfactuals
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.messages import Answered, Batch, Beat, CannotExplain, Explain, Explained, ModelFiles, Row
from affiant.explainer.methods.predictor import Predictor, verified
from affiant.explainer.methods.shap import prepare, shap_values
from affiant.explainer.methods.table import Matrix, read_table
from affiant.explainer.methods.trust import UNSTABLE_BELOW, Distances, largest, overlap

WARM_VERSIONS = 8
SCORE_TOLERANCE = 1e-4
"""A row alone and the same row in its batch may differ by 1.2e-7; more means that the record does not replay."""

UNUSUAL_PERCENTILE = 99.0
"""From here on a row is said to be unlike the background."""


ROWS_EXACT, ROWS_SAMPLED = 64, 4
"""Rows whose SHAP values are computed at once."""


class Explainer:
    """Explains rows and keeps the last `WARM_VERSIONS` versions loaded. Not for use from two threads."""

    def __init__(self) -> None:
        self._warm: OrderedDict[tuple[str, int, str], _Loaded] = OrderedDict()

    def warm(self, files: ModelFiles) -> Predictor:
        """The version, loaded from verified bytes. Raises `Unexplainable` when that is not possible."""
        return self._loaded(files).predictor

    def explain(self, job: Explain) -> Explained:
        """The explanation that `job` asks for. Raises `Unexplainable` when there is none."""
        [answer] = [reply.answer for reply in self.explain_all(job.batch()) if isinstance(reply, Answered)]
        if isinstance(answer, CannotExplain):
            raise Unexplainable(answer.reason)
        return answer

    def explain_all(self, batch: Batch) -> Iterator[Answered | Beat]:
        """An answer for each row, as it ends, and a beat after each step on the way.

        A row that cannot be explained harms no other, and each gets the numbers that it would get alone.
        """
        try:
            loaded = self._loaded(batch.files)
        except Unexplainable as error:
            yield from (Answered(at, CannotExplain(str(error))) for at in range(len(batch.rows)))
            return
        yield Beat()
        asked = [_Asked(at, row, time.monotonic()) for at, row in enumerate(batch.rows)]
        yield from _each(asked, _read, loaded)
        yield from _shap(loaded, [each for each in asked if each.wants("shap")])
        yield from _each(asked, _reasons, loaded)
        yield from _each(asked, _ways_out, loaded)
        yield from (each.answer(loaded) for each in asked if each.failure or not each.wants("anchor"))
        yield from _anchors(loaded, [each for each in asked if not each.failure and each.wants("anchor")])

    def _loaded(self, files: ModelFiles) -> _Loaded:
        spec = files.spec
        if spec.background_digest is None:
            raise Unexplainable(f"{spec.model} version {spec.version} was registered without a background")
        key = (spec.model, spec.version, spec.digest)
        if key not in self._warm:
            background = verified(Path(files.background_path).read_bytes(), spec.background_digest, "background")
            model = verified(Path(files.model_path).read_bytes(), spec.digest, "model")
            self._warm[key] = _Loaded(spec, Predictor(spec, model, read_table(spec.columns, background)))
        self._warm.move_to_end(key)
        while len(self._warm) > WARM_VERSIONS:
            self._warm.popitem(last=False)
        return self._warm[key]


class _Loaded:
    """A version with what all of its rows share."""

    def __init__(self, spec: ModelSpec, predictor: Predictor) -> None:
        self.spec = spec
        self.predictor = predictor
        prepare(predictor)
        self.anchors = Anchors(predictor)
        self.distances = Distances(predictor.table)


@dataclass
class _Asked:
    """One row on its way: what was found so far, or why it cannot be explained."""

    at: int
    row: Row
    since: float
    coded: Matrix = field(init=False)
    explained: int = 0
    failure: str = ""
    late: bool = False
    anchor: Anchor | None = None
    shap: Shap | None = None
    reasons: Reasons | None = None
    counterfactuals: list[Counterfactual] | None = None
    anchor_columns: list[frozenset[str]] = field(default_factory=list)
    shap_columns: list[frozenset[str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def until(self) -> float:
        return self.since + self.row.left_seconds

    @property
    def seeds(self) -> range:
        return range(self.row.seed, self.row.seed + self.row.seeds)

    def wants(self, method: str) -> bool:
        return method in self.row.methods

    def goes_on(self) -> bool:
        """Whether no step before has failed and the row's time is not over."""
        if not self.failure and time.monotonic() > self.until:
            self.failure, self.late = "it was not explained before its deadline", True
        return not self.failure

    def take_shap(self, found: Shap | Unexplainable, seed: int, seconds: float) -> None:
        """The values found with a seed. The first seed's are the row's; the others tell whether they are stable."""
        if seed == self.row.seed:
            self.seconds["shap"] = seconds
            if isinstance(found, Unexplainable):
                self.failure = str(found)
            else:
                self.shap = found
        if not isinstance(found, Unexplainable):
            self.shap_columns.append(largest(found))

    def attempt(self, step: Step, loaded: _Loaded) -> None:
        """Take a step, unless one before has failed or the row's time is over."""
        if not self.goes_on():
            return
        try:
            step(loaded, self)
        except Unexplainable as error:
            self.failure = str(error)
        except MemoryError:
            # What is left of this process cannot be trusted; the service sees it end and starts another.
            raise
        except Exception as error:
            # The libraries' own errors. With the row's seed they would come again, so another attempt is no use.
            traceback.print_exc(file=sys.stderr)
            self.failure = f"the method failed on this row: {type(error).__name__}: {error}"

    def answer(self, loaded: _Loaded) -> Answered:
        trust: list[Trust] = []
        self.attempt(lambda loaded, asked: trust.append(_trust(loaded, asked)), loaded)
        if self.failure:
            return Answered(self.at, CannotExplain(self.failure, self.late))
        explained = Explained(
            explained_output=_output_name(loaded.predictor, self.row.label, self.shap),
            background_rows=len(loaded.predictor.table.background),
            anchor=self.anchor,
            shap=self.shap,
            counterfactuals=self.counterfactuals,
            trust=trust[0],
            reasons=self.reasons and reasoning.held_back(self.reasons, trust[0]),
            warnings=self.warnings,
            seconds=self.seconds,
        )
        return Answered(self.at, explained)


Step = Callable[[_Loaded, _Asked], None]


def _read(loaded: _Loaded, asked: _Asked) -> None:
    predictor, row = loaded.predictor, asked.row
    asked.coded = predictor.table.encode(row.values)
    asked.explained = predictor.class_of(row.label)
    asked.warnings = predictor.table.warnings(asked.coded) + _replay(predictor, asked)


def _each(asked: list[_Asked], step: Step, loaded: _Loaded) -> Iterator[Beat]:
    for each in asked:
        each.attempt(step, loaded)
        yield Beat()


def _shap(loaded: _Loaded, wanting: list[_Asked]) -> Iterator[Beat]:
    """The SHAP values of several rows at a time: many where they are read from the graph, few where the model is asked
    about thousands of rows for each."""
    exact = loaded.predictor.exact
    size = ROWS_SAMPLED if exact is None else min(ROWS_EXACT, exact.rows_at_once)
    for start in range(0, len(wanting), size):
        part = [each for each in wanting[start : start + size] if each.goes_on()]
        tasks = [(each, seed) for each in part for seed in each.seeds]
        if not tasks:
            continue
        started = time.perf_counter()
        try:
            found = _shap_values(loaded, tasks)
        except Exception:
            # Some row's fault: each by itself, so that it is known whose, and no other suffers from it.
            for each in part:
                each.attempt(_shap_alone, loaded)
                yield Beat()
            continue
        spent = time.perf_counter() - started
        for (each, seed), answer in zip(tasks, found, strict=True):
            each.take_shap(answer, seed, spent / len(tasks))
        yield Beat()


def _shap_alone(loaded: _Loaded, asked: _Asked) -> None:
    started = time.perf_counter()
    found = _shap_values(loaded, [(asked, seed) for seed in asked.seeds])
    spent = time.perf_counter() - started
    for seed, answer in zip(asked.seeds, found, strict=True):
        asked.take_shap(answer, seed, spent / len(found))


def _shap_values(loaded: _Loaded, tasks: Sequence[tuple[_Asked, int]]) -> list[Shap | Unexplainable]:
    predictor = loaded.predictor
    rows, explained = (
        np.array([each.coded for each, _ in tasks]),
        [predictor.output_of(each.row.label) for each, _ in tasks],
    )
    return shap_values(predictor, rows, explained, [seed for _, seed in tasks])


def _reasons(loaded: _Loaded, asked: _Asked) -> None:
    """The reasons of an adverse decision, where the version has words for them."""
    if asked.shap is not None and loaded.spec.reasons is not None:
        asked.reasons = reasoning.find_reasons(
            loaded.predictor, loaded.spec.reasons, loaded.spec.protected, asked.coded, asked.row.label, asked.shap
        )


def _ways_out(loaded: _Loaded, asked: _Asked) -> None:
    """Counterfactuals to the favourable decision; there are none to ask for where the row has it already."""
    if not asked.wants("counterfactual"):
        return
    started = time.perf_counter()
    predictor = loaded.predictor
    favourable = predictor.class_of(predictor.decision.favourable)
    asked.counterfactuals = []
    if asked.explained == favourable:
        asked.warnings.append("the decision is the favourable one: no counterfactual was looked for")
        return
    policy = loaded.spec.policy.explain
    limits = Limits(frozenset([*policy.immutable, *loaded.spec.protected]), policy.one_way)
    asked.counterfactuals = find_counterfactuals(predictor, asked.coded, favourable, limits)
    if not asked.counterfactuals:
        asked.warnings.append("no counterfactual was found that keeps the immutable columns and the one-way ones")
    asked.seconds["counterfactual"] = time.perf_counter() - started


def _anchors(loaded: _Loaded, asked: list[_Asked]) -> Iterator[Answered | Beat]:
    """The anchors of all rows side by side; each row is answered when its own are found."""
    owners = [each for each in asked for _ in each.seeds]
    cases = [
        Case(each.coded, each.row.label, seed, each.row.work_seconds, each.until)
        for each in asked
        for seed in each.seeds
    ]
    found: dict[int, dict[int, Anchored]] = {each.at: {} for each in asked}
    for ended in loaded.anchors.search(cases):
        yield Beat()
        if ended is None:
            continue
        owner, (at, anchored) = owners[ended[0]], ended
        found[owner.at][cases[at].seed] = anchored
        if len(found[owner.at]) == owner.row.seeds:
            _take_anchors(owner, [found[owner.at][seed] for seed in owner.seeds])
            yield owner.answer(loaded)


def _take_anchors(asked: _Asked, found: list[Anchored]) -> None:
    first = found[0]
    asked.anchor, asked.failure, asked.late = first.anchor, first.failure, first.late
    asked.warnings += first.warnings
    asked.anchor_columns = [each.columns for each in found if each.anchor is not None]
    asked.seconds["anchor"] = first.seconds


def _output_name(predictor: Predictor, label: str | int, shap: Shap | None) -> str:
    """What is explained, for people: never a probability where the values are those of the score behind it."""
    if shap is not None and shap.units != predictor.units:
        return f"{shap.units} of {label}"
    return predictor.output_name(label)


def _trust(loaded: _Loaded, asked: _Asked) -> Trust:
    distance, percentile = (float(found[0]) for found in loaded.distances.of(asked.coded.reshape(1, -1)))
    anchors, values = asked.anchor_columns, asked.shap_columns
    overlaps = [overlap(each) if len(each) > 1 else None for each in (anchors, values)]
    unstable = any(found is not None and found < UNSTABLE_BELOW for found in overlaps)
    if percentile >= UNUSUAL_PERCENTILE:
        asked.warnings.append(f"the background hardly knows cases like this one (percentile {percentile:.0f})")
    if unstable:
        asked.warnings.append("unstable: with other seeds the explanation names other columns")
    return Trust(
        distance=distance,
        distance_percentile=percentile,
        seeds=asked.row.seeds,
        anchor_overlap=overlaps[0],
        shap_overlap=overlaps[1],
        unstable=unstable,
    )


def _replay(predictor: Predictor, asked: _Asked) -> list[str]:
    """The model must decide now as it did on record: an explanation of another decision would explain nothing."""
    row = asked.row
    label, outputs = predictor.decide(asked.coded)
    if label != asked.explained:
        now = predictor.decision.classes[label]
        raise Unexplainable(f"the record says {row.label!r}, but the registered model decides {now!r} on this row")
    if row.score is None:
        return []
    score = float(outputs[predictor.output_of(predictor.decision.favourable)])
    if abs(score - row.score) > SCORE_TOLERANCE:
        return [f"the record gives the favourable class {row.score:.6f}, the registered model gives it {score:.6f}"]
    return []
