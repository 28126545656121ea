"""What an author may state about a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from affiant.common.errors import Problem
from affiant.registry.domain.manifest import read_manifest


def complaint(**fields: Any) -> str:
    with pytest.raises(Problem) as caught:
        read_manifest(json.dumps(fields))
    assert caught.value.status == 422
    assert caught.value.hint
    return caught.value.message


def test_an_empty_manifest_is_a_manifest() -> None:
    assert read_manifest("").favourable is None
    assert read_manifest("{}").policy.audit == "acked"


def test_a_misspelt_field_is_named() -> None:
    assert "favorable" in complaint(favorable="yes")


def test_a_misspelt_promise_inside_the_policy_is_named_too() -> None:
    assert "'audti'; it has audit" in complaint(policy={"audti": "acked"})
    assert "policy.explain has no field 'wen'" in complaint(policy={"explain": {"wen": "all"}})


def test_a_wrong_type_says_where() -> None:
    assert "$.columns" in complaint(columns="income,debt")
    assert "$.policy.audit" in complaint(policy={"audit": "sometimes"})
    assert "manifest" in complaint(favourable=True)


def test_a_rate_is_a_share() -> None:
    assert "between 0 and 1" in complaint(policy={"explain": {"rate": 20}})


def test_the_same_column_twice_is_refused() -> None:
    assert "columns names the same thing twice" in complaint(columns=["a", "a"])


def test_outputs_of_a_decision_need_a_favourable_label() -> None:
    assert "which label is favourable" in complaint(classes=["no", "yes"])


def test_what_is_no_json_is_refused() -> None:
    for text in ("{", "[1]", "null", '"x"', b"\xff"):
        with pytest.raises(Problem):
            read_manifest(text)


def test_too_many_or_endless_tags_are_refused() -> None:
    assert "tags" in complaint(tags={str(number): "x" for number in range(65)})
    assert "longer" in complaint(tags={"a": "x" * 2000})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threshold": 1.0, "favourable": "granted"}, "of a regression it is 'above' or 'below'"),
        ({"threshold": 1.0, "favourable": "above", "classes": ["a", "b"]}, "which has no classes"),
        ({"value_output": "limit"}, "there is no threshold"),
    ],
)
def test_a_regression_has_a_threshold_and_a_side_that_is_hoped_for(fields: dict[str, Any], words: str) -> None:
    assert words in complaint(**fields)
