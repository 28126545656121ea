"""How unusual a row is, and how much explanations have in common."""

from __future__ import annotations

import numpy as np
import pytest

from affiant.common.events import Column, Shap, ShapValue
from affiant.explainer.methods.table import MISSING, Coding, Table
from affiant.explainer.methods.trust import Distances, largest, overlap

COLUMNS = (
    Column(name="income", kind="numeric", datatype="FP32", input="income"),
    Column(name="job", kind="categorical", datatype="BYTES", input="job"),
)


def distances() -> Distances:
    incomes = np.linspace(0, 100, 51)
    background = np.column_stack([incomes, np.arange(51) % 2])
    return Distances(Table((Coding(COLUMNS[0]), Coding(COLUMNS[1], ("clerk", "nurse", "none"))), background, 51))


def test_a_row_of_the_background_is_near_and_a_strange_one_is_further_than_all() -> None:
    near, far = np.array([50.0, 1.0]), np.array([900.0, 2.0])
    distance, percentile = distances().of(np.array([near, far]))
    assert distance[0] < 0.05 and percentile[0] < 100
    assert distance[1] == pytest.approx(1.0) and percentile[1] == 100


def test_a_value_missing_on_one_side_is_as_far_as_another_category() -> None:
    [distance], [percentile] = distances().of(np.array([[MISSING, 0.0]]))
    assert distance == pytest.approx(0.5) and percentile == 100


def test_a_rows_figure_does_not_depend_on_the_others() -> None:
    rows = np.random.default_rng(0).uniform(0, 100, (130, 2)).round()
    rows[:, 1] %= 3
    together, _ = distances().of(rows)
    assert together.tolist() == [distances().of(row.reshape(1, -1))[0][0] for row in rows]


def test_the_overlap_is_the_mean_jaccard_index_of_all_pairs() -> None:
    a, b = frozenset("ab"), frozenset("bc")
    assert overlap([a, a, a]) == 1.0
    assert overlap([a, b]) == pytest.approx(1 / 3)
    assert overlap([a, a, b]) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert overlap([frozenset(), frozenset()]) == 1.0
    assert overlap([a]) == 1.0


def test_the_largest_columns_are_those_that_moved_the_output_most_either_way() -> None:
    moved = {"a": 0.1, "b": -0.5, "c": 0.0, "d": 0.2, "e": 0.05, "f": -0.3}
    values = [ShapValue(column=name, value=1.0, shap=value) for name, value in moved.items()]
    shap = Shap(baseline=0.0, output=0.0, values=values, additivity_error=0.0, estimator="")
    assert largest(shap) == {"b", "f", "d", "a"}
