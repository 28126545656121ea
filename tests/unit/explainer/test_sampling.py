"""The anchor sampler: numpy's own numbers, and rows that an anchor covers."""

from __future__ import annotations

import numpy as np
import pytest

from affiant.explainer.methods.grid import Grid, Predicates
from affiant.explainer.methods.sampling import Numbers, Plan
from affiant.explainer.methods.table import Matrix

EDGES = {0: np.array([2.0, 4.0, 6.0]), 1: np.array([0.5])}


def background(rows: int = 60) -> Matrix:
    random = np.random.default_rng(1)
    return np.column_stack([random.integers(0, 9, rows), random.random(rows), random.integers(0, 3, rows)]).astype(
        float
    )


def row_of(table: Matrix, at: int = 0) -> tuple[Grid, Predicates]:
    grid = Grid(table, EDGES, {2: 4})
    return grid, grid.predicates(table[at])


def test_the_numbers_are_those_of_numpys_choice() -> None:
    numbers = Numbers(11)
    np.random.seed(11)
    for among, count in [(1000, 10_000), (3, 1), (1, 5), (4, 0), (37, 100), (2, 3), (4096, 900), (5000, 7)] * 3:
        assert numbers.choose(among, count).tolist() == np.random.choice(range(among), count).tolist()


def test_a_row_has_a_predicate_for_each_edge_and_each_category() -> None:
    _, predicates = row_of(np.array([[5.0, 0.2, 2.0], [1.0, 0.7, 0.0]]))
    assert predicates.columns == [0, 0, 0, 1, 2]
    assert predicates.ranges == [(1, 3), (2, 3), (0, 2), (0, 0), (2, 2)]


def test_counts_are_those_of_looking_at_each_row() -> None:
    table = background()
    grid, predicates = row_of(table)
    looked = [float(np.count_nonzero(predicates.holds(at, grid.codes))) for at in range(len(predicates))]
    assert predicates.counts(grid.codes).tolist() == looked
    weights = np.arange(len(table)).astype(float)
    weighted = [float(weights[predicates.holds(at, grid.codes)].sum()) for at in range(len(predicates))]
    assert predicates.counts(grid.codes, weights).tolist() == weighted


@pytest.mark.parametrize("count", [1, 5, 40, 200])
def test_every_sample_is_covered_by_its_anchor_however_few_rows_there_are(count: int) -> None:
    table = background()
    for at in range(8):
        grid, predicates = row_of(table, at)
        for order in [(0,), (0, 2), (4, 1, 3), (3, 4), (0, 1, 2, 3, 4)]:
            draw = Plan(predicates, order).draw(Numbers(at), count)
            codes = draw.codes(predicates)
            assert codes.shape == (count, 3)
            assert all(predicates.holds(each, codes).all() for each in order)
            assert ((codes >= grid.offsets) & (codes < grid.offsets + grid.sizes)).all()


def test_a_value_that_no_background_row_has_is_the_rows_own() -> None:
    table = background()
    grid = Grid(table, EDGES, {2: 4})
    predicates = grid.predicates(np.array([3.0, 0.2, 3.0]))
    draw = Plan(predicates, (4, 3)).draw(Numbers(0), 20)
    assert draw.own == (2,) and set(draw.replaced) == {1}
    assert predicates.holds(4, draw.codes(predicates)).all()
