"""What people type."""

from __future__ import annotations

import pytest

from affiant.cli.references import Reference, key_values, label, names, reference, rows, ways
from affiant.common.errors import Problem


def test_a_slash_names_a_version() -> None:
    assert reference("loan/2") == Reference("loan", 2)
    assert reference("loan/2").path == "/v1/models/loan/versions/2"


def test_a_model_alone_names_no_version() -> None:
    assert reference("loan") == Reference("loan", None)


@pytest.mark.parametrize("text", ["Loan", "loan/", "loan/0", "loan/x", "loan/1/2", "../etc", ""])
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(Problem) as refused:
        reference(text)
    assert "such as" in refused.value.hint


def test_a_version_that_is_needed_is_asked_for() -> None:
    with pytest.raises(Problem, match="which version of loan"):
        _ = reference("loan").path


def test_rows_are_counted_from_one_and_include_both_ends() -> None:
    assert list(rows("1-3")) == [0, 1, 2]
    assert list(rows("4")) == [3]


@pytest.mark.parametrize("text", ["0", "3-1", "a", "1-", "-2", ""])
def test_an_empty_range_of_rows_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        rows(text)


def test_a_label_written_as_a_whole_number_is_one() -> None:
    assert [label(text) for text in ("1", "-1", "good", "1.0")] == [1, -1, "good", "1.0"]


def test_names_come_in_several_options_or_with_commas() -> None:
    assert names(["race, sex", "age"]) == ["race", "sex", "age"]


def test_tags_need_an_equals_sign() -> None:
    assert key_values(["team=risk", "note=a=b"]) == {"team": "risk", "note": "a=b"}
    with pytest.raises(Problem, match="no tag"):
        key_values(["team"])


def test_a_one_way_column_names_its_way() -> None:
    assert ways(["age=increase", "debt=decrease,tenure=increase"]) == {
        "age": "increase",
        "debt": "decrease",
        "tenure": "increase",
    }
    with pytest.raises(Problem, match="says no way"):
        ways(["age=up"])
