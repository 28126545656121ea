"""A version as a whole: alibi's curves and importances over real exported pipelines."""

from __future__ import annotations

import numpy as np
import pytest

from affiant.explainer.methods.messages import Overview
from affiant.explainer.methods.overview import overview
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.table import MISSING, read_table
from tests.support.explained import Trained, boosting, logistic


def loaded(trained: Trained) -> Predictor:
    return Predictor(trained.spec, trained.model, read_table(trained.spec.columns, trained.background))


def surveyed(predictor: Predictor, seed: int) -> Overview:
    [found] = [reply for reply in overview(predictor, seed) if isinstance(reply, Overview)]
    return found


def test_partial_dependence_is_the_mean_output_with_the_column_set() -> None:
    predictor = loaded(boosting())
    favourable = predictor.class_of("granted")
    rows = predictor.representatives(500)
    known = rows[rows[:, 0] > MISSING]
    [curve] = [e for e in surveyed(predictor, 7).effects if (e.column, e.kind) == ("income", "partial_dependence")]
    for point, value in list(zip(curve.points, curve.values, strict=True))[::5]:
        mixed = known.copy()
        mixed[:, 0] = predictor.table.codings[0].code(point)
        assert value == pytest.approx(float(predictor.outputs(mixed)[:, favourable].mean()), abs=1e-9)


def test_accumulated_local_effects_of_a_linear_model_rise_and_fall_with_its_weights() -> None:
    curves = {e.column: e.values for e in surveyed(loaded(logistic()), 7).effects if e.kind == "ale"}
    assert np.all(np.diff(curves["income"]) > 0)
    assert np.all(np.diff(curves["debt"]) < 0)


def test_a_column_that_the_model_never_splits_on_counts_least() -> None:
    found = surveyed(loaded(boosting()), 7)
    weights = {one.column: one.importance for one in found.importance}
    assert min(weights, key=lambda name: weights[name]) == "children"
    assert weights["debt"] > 0.1
    assert found.explained_output == "probability of granted"


def test_words_have_a_point_for_each_category_and_no_local_effects() -> None:
    found = surveyed(loaded(boosting()), 7)
    assert [e.points for e in found.effects if e.column == "job"] == [["clerk", "driver", "none", "nurse"]]
    assert {e.kind for e in found.effects if e.column == "home"} == {"partial_dependence"}


def test_the_same_seed_gives_the_same_numbers() -> None:
    predictor = loaded(boosting())
    assert surveyed(predictor, 7) == surveyed(predictor, 7)
