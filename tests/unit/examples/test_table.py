"""Reading any table of decisions."""

import os
from pathlib import Path

import numpy as np
import pytest

from affiant.common.errors import Problem
from examples.loan.table import Choices, read
from tests.unit.examples import tables


def test_a_table_is_understood_without_a_word(tmp_path: Path) -> None:
    table = read(tables.written(tmp_path), Choices())
    assert (table.target, table.favourable, table.adverse) == ("default", "no", "yes")
    assert [(c.name, c.kind) for c in table.columns] == [
        ("income", "numeric"), ("debt_ratio", "numeric"), ("job", "categorical"), ("flag", "categorical"),
    ]  # fmt: skip
    assert list(table.protected.columns) == ["age_band", "sex"]


def test_every_guess_is_told(tmp_path: Path) -> None:
    told = " ".join(read(tables.written(tmp_path), Choices()).notes)
    for word in (
        "“id”",
        "“default”",
        "favourable outcome: “no”",
        "“sex”",
        "cut at 40",
        "“constant”",
        "debt ratio → debt_ratio",
    ):
        assert word in told


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.txt", "|")])
def test_any_separator_is_read(tmp_path: Path, name: str, separator: str) -> None:
    assert read(tables.written(tmp_path, name, separator), Choices()).target == "default"


def test_a_missing_number_is_nan_and_a_missing_text_is_empty(tmp_path: Path) -> None:
    features = read(tables.written(tmp_path), Choices()).features
    assert features["income"].isna().any() and not (features["job"] == "NA").any() and (features["job"] == "").any()


def test_protected_columns_reach_the_model_only_when_asked_for(tmp_path: Path) -> None:
    path = tables.written(tmp_path)
    assert not {"sex", "age"} & set(read(path, Choices()).features.columns)
    fed = read(path, Choices(feed_protected=True))
    assert {"sex", "age"} <= set(fed.features.columns)
    assert list(fed.protected.columns) == ["age_band", "sex"], "the number and its band are different columns"


def test_what_the_user_says_wins_over_every_guess(tmp_path: Path) -> None:
    choices = Choices(target="flag", favourable="1", protected=("job",), drop=("default",))
    table = read(tables.written(tmp_path), choices)
    assert (table.target, table.favourable, list(table.protected.columns)) == ("flag", "1", ["job"])
    assert "default" not in table.features.columns


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(target="nothing"), "is no column"),
        (Choices(target="job"), "has 3 values"),
        (Choices(favourable="maybe"), "is no value of the target"),
        (Choices(protected=("shoe",)), "--protected names no column"),
        (Choices(drop=("shoe",)), "--drop names no column"),
    ],
)
def test_a_wrong_option_is_answered_in_words(tmp_path: Path, choices: Choices, words: str) -> None:
    with pytest.raises(Problem, match=words):
        read(tables.written(tmp_path), choices)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("only one column\n1\n2\n")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x00,\x80\n")
    for name in ("a.csv", "b.csv", "none.csv"):
        with pytest.raises(Problem):
            read(tmp_path / name, Choices())


def test_rows_without_a_decision_are_left_out(tmp_path: Path) -> None:
    cells = tables.loans()
    cells.loc[:9, "default"] = "?"
    cells.to_csv(tmp_path / "a.csv", index=False)
    assert read(tmp_path / "a.csv", Choices()).rows == len(cells) - 10


def test_numbers_are_what_single_precision_can_hold(tmp_path: Path) -> None:
    values = read(tables.written(tmp_path), Choices()).features["debt_ratio"].to_numpy()
    assert (values == values.astype(np.float32)).all()


REAL = os.environ.get("AFFIANT_TEST_TABLES", "")


@pytest.mark.skipif(not REAL, reason="AFFIANT_TEST_TABLES names no folder with boston_hmda.csv and credit_data.csv")
@pytest.mark.parametrize(
    ("file", "target", "favourable", "protected", "rate"),
    [
        ("boston_hmda.csv", "deny", "no", ["afam", "single"], 285 / 2380),
        ("credit_data.csv", "Status", "good", ["Age_band", "Marital"], 1254 / 4454),
    ],
)
def test_the_real_tables_are_understood(
    file: str, target: str, favourable: str, protected: list[str], rate: float
) -> None:
    table = read(Path(REAL) / file, Choices())
    assert (table.target, table.favourable, list(table.protected.columns)) == (target, favourable, protected)
    assert table.adverse_rate == pytest.approx(rate)
