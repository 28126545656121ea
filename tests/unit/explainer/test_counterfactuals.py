"""What would have to change: few cells, allowed ones, and true of the model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from affiant.common.events import Counterfactual, Scalar
from affiant.explainer.methods.counterfactuals import Limits, find_counterfactuals
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.table import read_table
from tests.support.explained import Trained, boosting, csv_of, logistic

Ways = list[Counterfactual]


def loaded(trained: Trained) -> Predictor:
    return Predictor(trained.spec, trained.model, read_table(trained.spec.columns, trained.background))


def ways(predictor: Predictor, values: list[Scalar], limits: Limits | None = None, count: int = 3) -> Ways:
    row = predictor.table.encode(values)
    favourable = predictor.class_of(predictor.decision.favourable)
    return find_counterfactuals(predictor, row, favourable, limits or Limits(), count)


def changed(predictor: Predictor, values: list[Scalar], way: Counterfactual) -> list[Scalar]:
    after = {change.column: change.after for change in way.changes}
    return [after.get(name, value) for name, value in zip(predictor.table.names, values, strict=True)]


@pytest.mark.parametrize("train", [boosting, logistic])
def test_the_model_decides_for_the_applicant_once_the_cells_are_changed(train: Callable[[], Trained]) -> None:
    trained = train()
    predictor = loaded(trained)
    for at in trained.denied()[:15]:
        found = ways(predictor, trained.rows[at])
        assert found
        for way in found:
            label, probabilities = predictor.decide(predictor.table.encode(changed(predictor, trained.rows[at], way)))
            favourable = predictor.class_of(predictor.decision.favourable)
            assert label == favourable
            assert way.label == predictor.decision.favourable
            assert way.score == pytest.approx(float(probabilities[favourable]))


def test_no_shorter_way_exists_among_the_values_of_the_background() -> None:
    trained = boosting()
    predictor = loaded(trained)
    favourable = predictor.class_of(predictor.decision.favourable)
    for at in trained.denied()[:10]:
        row = predictor.table.encode(trained.rows[at])
        alone = any(
            np.any(predictor.labels(_with(row, column, predictor.table.background)) == favourable)
            for column in range(len(row))
        )
        assert (len(ways(predictor, trained.rows[at])[0].changes) == 1) == alone


def _with(row: np.ndarray, column: int, background: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    rows = np.repeat(row[None, :], len(background), axis=0)
    rows[:, column] = background[:, column]
    return rows


def test_immutable_columns_keep_their_value_and_one_way_columns_move_one_way() -> None:
    trained = boosting()
    predictor = loaded(trained)
    limits = Limits(frozenset({"job", "home"}), {"income": "increase", "children": "decrease"})
    moved = 0
    for at in trained.denied()[:25]:
        for way in ways(predictor, trained.rows[at], limits):
            for change in way.changes:
                moved += 1
                assert change.column not in limits.immutable
                if change.before is not None and change.column in limits.one_way:
                    assert (change.after > change.before) == (limits.one_way[change.column] == "increase")
    assert moved > 10


def test_numbers_stay_within_the_background_and_nothing_is_made_missing() -> None:
    trained = boosting()
    predictor = loaded(trained)
    bounds = {coding.column.name: coding for coding in predictor.table.codings}
    for at in trained.denied()[:25]:
        for way in ways(predictor, trained.rows[at]):
            for change in way.changes:
                coding = bounds[change.column]
                assert change.after not in (None, "")
                if not coding.categorical:
                    assert coding.low <= float(change.after) <= coding.high


def test_each_way_changes_other_columns_and_the_shortest_comes_first() -> None:
    trained = boosting()
    predictor = loaded(trained)
    several = 0
    for at in trained.denied()[:25]:
        found = ways(predictor, trained.rows[at])
        columns = [{change.column for change in way.changes} for way in found]
        several += len(found) > 1
        assert all(not earlier <= later for n, later in enumerate(columns) for earlier in columns[:n])
        assert [len(each) for each in columns] == sorted(len(each) for each in columns)
    assert several


def test_a_row_that_needs_three_cells_takes_them_from_a_background_row() -> None:
    trained = logistic()
    narrow: list[list[Scalar]] = [[14.0 + at % 5 * 0.5, 9.0 + at % 4 * 0.5, float(at % 3)] for at in range(60)]
    names = [column.name for column in trained.spec.columns]
    predictor = Predictor(trained.spec, trained.model, read_table(trained.spec.columns, csv_of(names, narrow)))
    values: list[Scalar] = [2.0, 14.0, 3.0]
    [way] = ways(predictor, values)
    assert [change.column for change in way.changes] == names
    assert predictor.decide(predictor.table.encode(changed(predictor, values, way)))[0] == 1


def test_where_nothing_may_change_there_is_no_way() -> None:
    trained = boosting()
    predictor = loaded(trained)
    everything = Limits(frozenset(predictor.table.names))
    assert ways(predictor, trained.rows[trained.denied()[0]], everything) == []


def test_the_same_row_gets_the_same_ways_each_time() -> None:
    trained = boosting()
    predictor = loaded(trained)
    values = trained.rows[trained.denied()[0]]
    assert ways(predictor, values) == ways(predictor, values)


def test_a_way_is_told_in_one_sentence() -> None:
    trained = boosting()
    predictor = loaded(trained)
    [way, *_] = ways(predictor, trained.rows[trained.denied()[0]])
    assert way.sentence.startswith("With ")
    assert all(f"{change.column} " in way.sentence for change in way.changes)
    assert "the decision would be “granted”" in way.sentence
