"""Approval rates by group."""

from __future__ import annotations

import pytest

from affiant.auditor.domain.fairness import MISSING, Count, comparisons, groups, most_numerous, worst_breach


def test_rates_differences_and_ratios_are_those_of_the_field() -> None:
    found = groups([Count("white", 200, 180), Count("black", 100, 60)])
    assert [(group.value, group.rate) for group in found] == [("white", 0.9), ("black", 0.6)]
    (black,) = comparisons(found, "white")
    assert black.statistical_parity_difference == pytest.approx(-0.3)
    assert black.disparate_impact_ratio == pytest.approx(2 / 3)


def test_missing_values_are_a_group_of_their_own_and_never_the_reference() -> None:
    found = groups([Count(None, 300, 150), Count("", 100, 50), Count("a", 20, 10)])
    assert found[0].value == MISSING and found[0].rows == 400
    assert most_numerous(found) == "a"


def test_a_reference_without_any_favourable_decision_has_no_ratios() -> None:
    found = groups([Count("a", 50, 0), Count("b", 40, 40)])
    assert comparisons(found, "a")[0].disparate_impact_ratio is None


def test_a_numeric_column_with_many_values_is_compared_in_four_bands() -> None:
    found = groups([Count(float(age), 10, 5) for age in range(20, 60)])
    assert sorted(group.value for group in found) == ["20 to 29", "30 to 39", "40 to 49", "50 to 59"]
    assert sum(group.rows for group in found) == 400


def test_a_numeric_column_with_few_values_keeps_them() -> None:
    assert [group.value for group in groups([Count(0, 10, 5), Count(1, 20, 5)])] == ["1", "0"]


def test_one_value_that_holds_most_rows_does_not_break_the_bands() -> None:
    found = groups([Count(0, 1_000, 500), *(Count(value, 1, 1) for value in range(1, 20))])
    assert sum(group.rows for group in found) == 1_019


def test_true_and_one_are_not_the_same_group_when_both_are_there() -> None:
    assert [group.value for group in groups([Count(True, 5, 1)])] == ["true"]


def test_a_breach_needs_enough_rows_and_a_ratio_out_of_bounds() -> None:
    counts = [Count("white", 200, 180), Count("black", 100, 60), Count("few", 5, 0)]
    worst = worst_breach(groups(counts), 30)
    assert worst is not None and worst.value == "black"
    assert worst_breach(groups(counts), 150) is None
    assert worst_breach(groups([Count("a", 100, 90), Count("b", 100, 85)]), 30) is None
    assert worst_breach([], 30) is None


def test_the_worst_treated_group_is_held_against_the_best_treated_one() -> None:
    counts = [Count("a", 200, 100), Count("b", 100, 30), Count("c", 100, 60), Count(None, 100, 100)]
    worst = worst_breach(groups(counts), 30)
    assert worst is not None and worst.value == "b"
    assert worst.disparate_impact_ratio == pytest.approx(0.5)
