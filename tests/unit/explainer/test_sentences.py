"""Anchors in words."""

from __future__ import annotations

import numpy as np
import pytest

from affiant.common.events import Column
from affiant.explainer.methods.sentences import anchor_sentence, clause, percent
from affiant.explainer.methods.table import MISSING, Coding

INCOME = Coding(Column(name="income", kind="numeric", datatype="FP32", input="income"))
JOB = Coding(Column(name="job", kind="categorical", datatype="BYTES", input="job"), ("", "clerk > 3", "driver"))
EDGES = np.array([10.0, 20.0, 30.0])
WITH_MISSING = np.array([MISSING, 10.0, 20.0])


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        ({0}, "income ≤ 10"),
        ({0, 1}, "income ≤ 20"),
        ({1}, "10 < income ≤ 20"),
        ({2, 3}, "income > 20"),
        ({3}, "income > 30"),
    ],
)
def test_bins_become_an_interval(allowed: set[int], text: str) -> None:
    assert clause(INCOME, 15.0, EDGES, allowed) == text


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        ({0}, "income is missing"),
        ({0, 1}, "income ≤ 10 or missing"),
        ({1, 2, 3}, "income is given"),
        ({1}, "income ≤ 10"),
        ({2}, "10 < income ≤ 20"),
        ({3}, "income > 20"),
    ],
)
def test_a_clause_says_whether_it_takes_in_the_missing_values(allowed: set[int], text: str) -> None:
    assert clause(INCOME, 5.0, WITH_MISSING, allowed) == text


def test_a_category_is_named_also_when_it_looks_like_a_comparison() -> None:
    assert clause(JOB, 1.0, None, None) == "job = clerk > 3"
    assert clause(JOB, 0.0, None, None) == "job is missing"


def test_a_sentence_says_what_holds_how_often_and_for_how_many() -> None:
    sentence = anchor_sentence(["chist > 2", "insurance = yes"], 0.975, 0.042, 0.95, True, "deny")
    assert sentence == (
        "While chist > 2 and insurance = yes, 97 % of similar cases are decided “deny” (covers 4 % of the background)."
    )


def test_a_sentence_admits_that_no_anchor_was_found() -> None:
    sentence = anchor_sentence(["chist > 2"], 0.8, 0.1, 0.95, False, 1)
    assert sentence.endswith("; no set of conditions that reaches 95 % was found.")


def test_an_empty_anchor_is_a_sentence_too() -> None:
    assert anchor_sentence([], 0.97, 1.0, 0.95, True, "no") == (
        "Whatever the values are, 97 % of cases are decided “no”: no condition is needed."
    )


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.9999, "99 %"), (0.29, "29 %"), (0.001, "under 1 %"), (0, "0 %")]
)
def test_a_percentage_never_sounds_surer_than_it_is(share: float, text: str) -> None:
    assert percent(share) == text
