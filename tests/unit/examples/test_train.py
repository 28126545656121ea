"""Training and exporting: the ONNX file must answer as the pipeline does."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affiant.common.errors import Problem
from examples.loan import train
from examples.loan.table import Choices, Table, read
from tests.unit.examples import tables


@pytest.fixture(name="table", scope="module")
def a_table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read(tables.written(tmp_path_factory.mktemp("table")), Choices())


@pytest.mark.parametrize("kind", train.KINDS)
def test_the_onnx_file_answers_like_scikit_learn_with_and_without_values(table: Table, kind: train.Kind) -> None:
    model = train.train(table, train.split(table, 1), kind, 1)
    assert model.largest_difference < 1e-5
    assert model.rows_compared == 2 * len(train.split(table, 1).held_out)
    assert model.classes == ("no", "yes")


@pytest.mark.parametrize("kind", train.KINDS)
def test_denials_are_about_as_frequent_as_in_the_table(table: Table, kind: train.Kind) -> None:
    model = train.train(table, train.split(table, 1), kind, 1)
    assert abs(model.adverse_rate - table.adverse_rate) < 0.08


def test_the_same_seed_trains_the_same_file(table: Table) -> None:
    parts = train.split(table, 5)
    first, second = (train.train(table, parts, "gradient boosting", 5).onnx for _ in range(2))
    assert first == second


def test_a_file_that_answers_otherwise_is_a_problem(table: Table) -> None:
    parts = train.split(table, 1)
    learn = table.features.iloc[parts.learn]
    good = train._pipeline(table, "logistic regression", 1).fit(learn, table.labels.iloc[parts.learn])
    other = train._pipeline(table, "gradient boosting", 1).fit(learn, table.labels.iloc[parts.learn])
    with pytest.raises(Problem, match="differs from scikit-learn"):
        train._largest_difference(train.export(other, table), good, table, learn)


def test_nobody_is_held_out_who_has_a_category_that_nobody_else_has(table: Table) -> None:
    rare = table.features.copy()
    rare.loc[rare.index[::97], "job"] = [f"rare {n}" for n in range(len(rare.index[::97]))]
    odd = Table(**{**{f: getattr(table, f) for f in table.__dataclass_fields__}, "features": rare})
    parts = train.split(odd, 3)
    assert set(rare["job"].iloc[parts.held_out]) <= set(rare["job"].iloc[parts.learn])
    assert sorted([*parts.learn, *parts.held_out]) == list(range(odd.rows))


def test_the_background_holds_every_category_and_the_protected_columns(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "BACKGROUND_ROWS", 5)
    rows = pd.read_csv(StringIO(train.background(table, train.split(table, 1), 1)), dtype=str, keep_default_na=False)
    assert set(rows["job"]) == set(table.features["job"])
    assert list(rows.columns) == [*table.features.columns, "age_band", "sex"]


def test_the_background_writes_numbers_as_they_were_read(table: Table, tmp_path: Path) -> None:
    text = train.background(table, train.split(table, 1), 1)
    longest = max(len(cell) for cell in pd.read_csv(StringIO(text), dtype=str)["debt_ratio"].dropna())
    assert longest <= len("0.123")


def test_missing_values_reach_the_file_as_nan_and_as_nothing(table: Table) -> None:
    model = train.train(table, train.split(table, 1), "logistic regression", 1)
    empty = pd.DataFrame({"income": [np.nan], "debt_ratio": [np.nan], "job": [""], "flag": [""]})
    labels, probabilities = train.answers(model.onnx, table, empty)
    assert labels[0] in ("no", "yes") and probabilities.sum() == pytest.approx(1.0, abs=1e-6)
