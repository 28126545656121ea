"""What a version does as a whole, by alibi's global methods over the version's background.

Permutation importance against the model's own output (there is no ground truth in a background: it tells what the
model looks at, not what is right), accumulated local effects for numeric columns, partial dependence for all. Rows in
which a column is missing say nothing of how the output goes with its value, and are left out of its curves.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from affiant.common.events import ColumnImportance, Effect
from affiant.explainer.methods.libraries import ALE, PartialDependence, PermutationImportance
from affiant.explainer.methods.messages import Beat, Overview
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.table import MISSING, Coding, Matrix

ROWS = 500
"""Background rows used, evenly spaced by score: a curve over twenty points asks for all of them at each."""
POINTS = 20
REPEATS = 10
MOST_CATEGORIES = 50
LEAST_ROWS = 10
"""A curve over fewer rows than this would be an anecdote."""


def overview(predictor: Predictor, seed: int) -> Iterator[Beat | Overview]:
    """Importance and effects on the favourable class's probability, or on a regression's value.

    A beat comes after each column, the overview last. The same seed gives the same numbers.
    """
    favourable = predictor.output_of(predictor.decision.favourable)
    rows = predictor.representatives(ROWS)

    def output(codes: Matrix) -> Matrix:
        return predictor.outputs(codes)[:, [favourable]]

    warnings: list[str] = []
    effects = []
    for index, coding in enumerate(predictor.table.codings):
        known = rows if coding.categorical else rows[rows[:, index] > MISSING]
        points = _points(coding, known[:, index])
        if len(known) < LEAST_ROWS or len(points) < 2:
            warnings.append(f"{coding.column.name}: no curve, fewer than two values in {len(known)} rows that have one")
            continue
        if not coding.categorical:
            effects.append(_ale(output, coding, index, known, points))
        effects.append(_partial_dependence(output, predictor, index, known, points))
        yield Beat()
    importance = _importance(output, predictor, rows, seed)
    yield Overview(
        explained_output=predictor.output_name(predictor.decision.favourable),
        background_rows=len(rows),
        importance=importance,
        effects=effects,
        warnings=warnings,
    )


def _points(coding: Coding, column: Matrix) -> Matrix:
    """Where a curve is drawn: the categories, or up to `POINTS` quantiles."""
    if coding.categorical:
        values, counts = np.unique(column, return_counts=True)
        return np.sort(values[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES])
    return np.unique(np.quantile(column, np.linspace(0, 1, POINTS), method="nearest")) if len(column) else column


def _ale(output: object, coding: Coding, index: int, rows: Matrix, points: Matrix) -> Effect:
    found = ALE(output, check_feature_resolution=False).explain(rows, features=[index], grid_points={index: points})
    return _effect(coding, "ale", found.feature_values[0], found.ale_values[0])


def _partial_dependence(output: object, predictor: Predictor, index: int, rows: Matrix, points: Matrix) -> Effect:
    codings = predictor.table.codings
    categories = {
        at: [str(value) for value in coding.categories] for at, coding in enumerate(codings) if coding.categorical
    }
    explainer = PartialDependence(output, categorical_names=categories)
    # alibi takes the grid of a categorical column as positions, of a numeric one as values: both are our codes.
    found = explainer.explain(rows, features=[index], kind="average", grid_points={index: points})
    return _effect(codings[index], "partial_dependence", found.feature_values[0], found.pd_values[0].reshape(-1))


def _effect(coding: Coding, kind: str, points: Matrix, values: Matrix) -> Effect:
    return Effect(
        column=coding.column.name,
        kind="ale" if kind == "ale" else "partial_dependence",
        points=[coding.value(float(point)) for point in points],
        values=[float(value) for value in np.asarray(values).reshape(-1)],
    )


def _importance(output: object, predictor: Predictor, rows: Matrix, seed: int) -> list[ColumnImportance]:
    explainer = PermutationImportance(output, loss_fns={"change": _mean_absolute_change})
    np.random.seed(seed)  # alibi draws from numpy's global generator
    own = predictor.outputs(rows)[:, [predictor.output_of(predictor.decision.favourable)]]
    found = explainer.explain(rows, own, kind="difference", method="estimate", n_repeats=REPEATS)
    return [
        ColumnImportance(column=name, importance=float(one["mean"]), deviation=float(one["std"]))
        for name, one in zip(predictor.table.names, found.feature_importance[0], strict=True)
    ]


def _mean_absolute_change(y_true: Matrix, y_pred: Matrix, sample_weight: None = None) -> float:  # noqa: ARG001 - alibi passes it
    return float(np.mean(np.abs(y_true - y_pred)))
