"""One row of one version explained, with the versions that were loaded before kept warm."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path

from affiant.common.events import Anchor, Counterfactual, ModelSpec, Shap
from affiant.explainer.methods.anchors import Anchors, Case
from affiant.explainer.methods.counterfactuals import Limits, find_counterfactuals
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.messages import Explain, Explained, ModelFiles
from affiant.explainer.methods.predictor import Predictor, verified
from affiant.explainer.methods.shap import find_shap
from affiant.explainer.methods.table import Matrix, read_table

WARM_VERSIONS = 8
SCORE_TOLERANCE = 1e-4
"""A row alone and the same row in its batch may differ by 1.2e-7; more means that the record does not replay."""


class Explainer:
    """Explains rows and keeps the last `WARM_VERSIONS` versions loaded. Not for use from two threads."""

    def __init__(self) -> None:
        self._warm: OrderedDict[tuple[str, int, str], Predictor] = OrderedDict()
        self._anchors: dict[tuple[str, int, str], Anchors] = {}

    def warm(self, files: ModelFiles) -> Predictor:
        """The version, loaded from verified bytes. Raises `Unexplainable` when that is not possible."""
        spec = files.spec
        if spec.background_digest is None:
            raise Unexplainable(f"{spec.model} version {spec.version} was registered without a background")
        key = (spec.model, spec.version, spec.digest)
        if key not in self._warm:
            background = verified(Path(files.background_path).read_bytes(), spec.background_digest, "background")
            model = verified(Path(files.model_path).read_bytes(), spec.digest, "model")
            self._warm[key] = Predictor(spec, model, read_table(spec.columns, background))
        self._warm.move_to_end(key)
        while len(self._warm) > WARM_VERSIONS:
            old, _ = self._warm.popitem(last=False)
            self._anchors.pop(old, None)
        return self._warm[key]

    def explain(self, job: Explain) -> Explained:
        """The explanation that `job` asks for. Raises `Unexplainable` when the record does not replay."""
        predictor = self.warm(job.files)
        row = predictor.table.encode(job.values)
        explained = predictor.class_of(job.label)
        warnings = predictor.table.warnings(row) + _replay(predictor, row, job)
        seconds: dict[str, float] = {}
        anchor: Anchor | None = None
        shap: Shap | None = None
        if "anchor" in job.methods:
            started = time.perf_counter()
            anchor, more = self._anchor(job, predictor, row)
            warnings += more
            seconds["anchor"] = time.perf_counter() - started
        if "shap" in job.methods:
            started = time.perf_counter()
            shap = find_shap(predictor, row, explained, job.seed)
            seconds["shap"] = time.perf_counter() - started
        counterfactuals: list[Counterfactual] | None = None
        if "counterfactual" in job.methods:
            started = time.perf_counter()
            counterfactuals, more = _ways_out(predictor, row, explained, job.files.spec)
            warnings += more
            seconds["counterfactual"] = time.perf_counter() - started
        output = f"probability of {job.label}"
        background = len(predictor.table.background)
        return Explained(output, background, anchor, shap, counterfactuals, warnings, seconds)

    def _anchor(self, job: Explain, predictor: Predictor, row: Matrix) -> tuple[Anchor, list[str]]:
        spec = job.files.spec
        key = (spec.model, spec.version, spec.digest)
        if key not in self._anchors:
            self._anchors[key] = Anchors(predictor)
        [found] = self._anchors[key].find([Case(row, job.label, job.seed)])
        if found.anchor is None:
            raise Unexplainable(found.failure)
        return found.anchor, found.warnings


def _ways_out(
    predictor: Predictor, row: Matrix, explained: int, spec: ModelSpec
) -> tuple[list[Counterfactual], list[str]]:
    """Counterfactuals to the favourable decision; there are none to ask for where the row has it already."""
    favourable = predictor.class_of(predictor.decision.favourable)
    if explained == favourable:
        return [], ["the decision is the favourable one: no counterfactual was looked for"]
    policy = spec.policy.explain
    limits = Limits(frozenset([*policy.immutable, *spec.protected]), policy.one_way)
    found = find_counterfactuals(predictor, row, favourable, limits)
    return found, [] if found else ["no counterfactual was found that keeps the immutable columns and the one-way ones"]


def _replay(predictor: Predictor, row: Matrix, job: Explain) -> list[str]:
    """The model must decide now as it did on record: an explanation of another decision would explain nothing."""
    label, probabilities = predictor.decide(row)
    if label != predictor.class_of(job.label):
        now = predictor.decision.classes[label]
        raise Unexplainable(f"the record says {job.label!r}, but the registered model decides {now!r} on this row")
    if job.score is None:
        return []
    score = float(probabilities[predictor.class_of(predictor.decision.favourable)])
    if abs(score - job.score) > SCORE_TOLERANCE:
        return [f"the record gives the favourable class {job.score:.6f}, the registered model gives it {score:.6f}"]
    return []
