"""Which numbers are missing."""

from __future__ import annotations

import random

from affiant.auditor.domain.sequences import Gap, Run, gaps, merged


def test_numbers_in_order_are_one_run() -> None:
    runs: list[Run] = []
    for number in range(1, 6):
        runs = merged(runs, [number], f"t{number}")
    assert runs == [Run(1, 5, "t1")]
    assert gaps(runs) == []


def test_a_gap_is_known_since_the_first_later_number_came() -> None:
    runs = merged(merged([], [1, 2], "t1"), [5, 6, 9], "t2")
    assert gaps(runs) == [Gap(3, 4, "t2"), Gap(7, 8, "t2")]
    assert gaps(runs)[0].width == 2


def test_a_sequence_begins_at_one() -> None:
    assert gaps(merged([], [3], "t1")) == [Gap(1, 2, "t1")]


def test_a_late_arrival_closes_the_gap_and_a_partial_one_leaves_its_age() -> None:
    runs = merged(merged([], [1], "t1"), [5], "t2")
    assert gaps(merged(runs, [4], "t3")) == [Gap(2, 3, "t2")]
    assert merged(runs, [2, 3, 4], "t3") == [Run(1, 5, "t1")]


def test_any_order_of_arrival_ends_the_same() -> None:
    numbers = [number for number in range(1, 500) if number % 7]
    for seed in range(20):
        random.Random(seed).shuffle(numbers)
        runs: list[Run] = []
        for start in range(0, len(numbers), 37):
            runs = merged(runs, numbers[start : start + 37], "t")
        assert [gap.first for gap in gaps(runs)] == list(range(7, 499, 7))
        assert sum(run.last - run.first + 1 for run in runs) == len(numbers)


def test_a_number_that_comes_again_changes_nothing() -> None:
    runs = merged([], [1, 2, 3], "t1")
    assert merged(runs, [2, 3], "t2") == runs
