"""The made table: its bias is known, so it must be what is said of it."""

import pytest

from examples.loan import synthetic
from examples.loan.table import Choices


def test_the_parity_differences_are_what_is_written_down() -> None:
    people = synthetic.people(300_000, seed=99)
    # 300,000 draws have a standard error of 0.0016 at most: four of them.
    measured = synthetic.parity_difference(people, "ethnicity", "minority", "majority")
    assert measured == pytest.approx(synthetic.TRUE_PARITY_DIFFERENCE["ethnicity"], abs=0.0065)
    measured = synthetic.parity_difference(people, "sex", "female", "male")
    assert measured == pytest.approx(synthetic.TRUE_PARITY_DIFFERENCE["sex"], abs=0.0065)


def test_the_same_seed_makes_the_same_table() -> None:
    assert synthetic.people(500, 1).equals(synthetic.people(500, 1))
    assert not synthetic.people(500, 1).equals(synthetic.people(500, 2))


def test_the_made_table_carries_its_truth() -> None:
    table = synthetic.make(Choices(), "made")
    assert (table.target, table.favourable) == ("approved", "yes")
    assert {truth.column for truth in table.truth} == set(table.protected.columns) == {"ethnicity", "sex"}
    assert "ethnicity" not in table.features.columns
    assert table.features["years_employed"].isna().any()
