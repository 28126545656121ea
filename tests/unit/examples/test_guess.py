"""What an unknown table's columns are taken for."""

import pytest

from examples.loan import guess


@pytest.mark.parametrize(
    "name", ["race", "afam", "Age", "personal_status", "personalStatus", "foreign_worker", "Marital", "SEX"]
)
def test_a_protected_column_is_known_by_a_word_of_its_name(name: str) -> None:
    assert guess.is_protected(name)


@pytest.mark.parametrize("name", ["mortgage", "usage", "wage", "essex", "singleton", "braces", "income"])
def test_a_word_inside_another_word_protects_nothing(name: str) -> None:
    assert not guess.is_protected(name)


def test_the_target_is_the_binary_column_with_the_name_of_a_decision() -> None:
    values = {"own_telephone": {"yes", "no"}, "deny": {"yes", "no"}, "pirat": {"0.1", "0.2", "0.3"}}
    assert guess.target(values) is not None and guess.target(values).value == "deny"  # type: ignore[union-attr]


def test_a_named_column_with_three_values_is_no_target_and_the_last_binary_one_is() -> None:
    found = guess.target({"status": {"a", "b", "c"}, "flag": {"0", "1"}, "outcome_of_it": {"0", "1"}})
    assert found is not None and found.value == "outcome_of_it"


def test_without_a_binary_column_there_is_no_target() -> None:
    assert guess.target({"a": {"1", "2", "3"}, "b": {"x"}}) is None


@pytest.mark.parametrize(
    ("target", "values", "good"),
    [
        ("deny", ("no", "yes"), "no"),
        ("default", ("0", "1"), "0"),
        ("Status", ("bad", "good"), "good"),
        ("approved", ("0", "1"), "1"),
        ("class", ("good", "bad"), "good"),
        ("credit_risk", ("1", "2"), "1"),
        ("loan_status", ("Fully Paid", "Charged Off"), "Fully Paid"),
        ("y", ("no", "yes"), "yes"),
    ],
)
def test_the_favourable_outcome_follows_the_names(target: str, values: tuple[str, str], good: str) -> None:
    assert guess.favourable(target, dict.fromkeys(values, 10)).value == good


def test_where_nothing_tells_the_more_frequent_outcome_is_taken_and_the_person_is_told() -> None:
    guessed = guess.favourable("group", {"a": 10, "b": 90})
    assert guessed.value == "b"
    assert "--favourable" in guessed.reason


def test_a_first_column_of_different_integers_only_numbers_the_rows() -> None:
    assert guess.is_row_number("nr", ["1", "2", "3"], first=True)
    assert not guess.is_row_number("amount", ["1", "2", "3"], first=False)
    assert not guess.is_row_number("nr", ["1", "2", "2"], first=True)
    assert guess.is_row_number("customer_id", ["a7", "b2", "c9"], first=False)


def test_a_name_becomes_an_onnx_name_that_is_not_taken() -> None:
    assert guess.identifier("Loan amount (€)", []) == "Loan_amount"
    assert guess.identifier("2nd", []) == "c_2nd"
    assert guess.identifier("a-b", ["a_b"]) == "a_b_2"
    assert guess.identifier("€", []) == "column"
