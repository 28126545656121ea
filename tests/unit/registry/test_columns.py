"""From inputs to columns."""

from __future__ import annotations

import pytest

from affiant.common.events import ExplainPolicy, Policy, TensorSpec
from affiant.registry.domain.columns import Background, columns_of
from affiant.registry.domain.manifest import Manifest, Unfit


def column(name: str, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=[-1, 1])


def matrix(width: int, datatype: str = "FP32") -> TensorSpec:
    return TensorSpec(name="X", datatype=datatype, shape=[-1, width])


def background(*header: str, rows: int = 100, **distinct: int) -> Background:
    return Background(header=header, rows=rows, distinct=distinct)


def names(*args: object, **kwargs: object) -> list[str]:
    return [each.name for each in columns_of(*args, **kwargs)]  # type: ignore[arg-type]


def test_each_input_of_one_column_is_a_column() -> None:
    found = columns_of([column("a"), column("b", "BYTES")], Manifest(), background("b", "a"))
    assert [(each.name, each.input, each.index, each.kind) for each in found] == [
        ("a", "a", 0, "numeric"),
        ("b", "b", 0, "categorical"),
    ]


def test_the_positions_of_a_matrix_are_named_by_the_header() -> None:
    found = columns_of([matrix(2)], Manifest(), background("a", "b"))
    assert [(each.name, each.input, each.index) for each in found] == [("a", "X", 0), ("b", "X", 1)]


def test_a_protected_column_beside_the_matrix_is_no_position_of_it() -> None:
    assert names([matrix(2)], Manifest(protected=["race"]), background("a", "race", "b")) == ["a", "b"]


def test_a_protected_column_may_be_a_position_of_the_matrix() -> None:
    assert names([matrix(2)], Manifest(protected=["race"]), background("a", "race")) == ["a", "race"]


def test_a_header_that_does_not_fit_the_matrix_asks_for_columns() -> None:
    with pytest.raises(Unfit, match=r"3 positions.*state `columns`"):
        columns_of([matrix(3)], Manifest(), background("a", "b"))


def test_stated_columns_must_be_as_many_as_the_positions() -> None:
    with pytest.raises(Unfit, match=r"columns names 1 positions"):
        columns_of([matrix(3)], Manifest(columns=["a"]), background("a", "b", "c"))


def test_the_background_must_hold_every_column() -> None:
    with pytest.raises(Unfit, match=r"no column 'b'"):
        columns_of([column("a"), column("b")], Manifest(), background("a"))


def test_a_protected_column_that_nobody_has_is_named() -> None:
    with pytest.raises(Unfit, match=r"protected column 'rase'"):
        columns_of([column("a")], Manifest(protected=["rase"]), background("a", "race"))


def test_a_kind_for_an_unknown_column_is_named() -> None:
    with pytest.raises(Unfit, match=r"kinds names 'c'"):
        columns_of([column("a")], Manifest(kinds={"c": "numeric"}), background("a"))


def test_columns_that_contradict_the_inputs_are_refused() -> None:
    with pytest.raises(Unfit, match=r"leave columns out"):
        columns_of([column("a"), column("b")], Manifest(columns=["a", "c"]), background("a", "b"))


@pytest.mark.parametrize(
    ("datatype", "rows", "distinct", "kind"),
    [
        ("INT64", 400, 5, "categorical"),
        ("INT64", 400, 60, "numeric"),
        ("INT64", 6, 5, "numeric"),
        ("INT64", 6, 2, "categorical"),
        ("FP32", 400, 2, "numeric"),
        ("BOOL", 400, 2, "categorical"),
        ("BYTES", 400, 300, "categorical"),
    ],
)
def test_the_kind_is_guessed_from_type_and_variety(datatype: str, rows: int, distinct: int, kind: str) -> None:
    found = columns_of([column("a", datatype)], Manifest(), background("a", rows=rows, a=distinct))
    assert found[0].kind == kind


def test_a_stated_kind_wins() -> None:
    found = columns_of([column("a", "INT64")], Manifest(kinds={"a": "numeric"}), background("a", a=2))
    assert found[0].kind == "numeric"
    found = columns_of([column("a")], Manifest(kinds={"a": "categorical"}), background("a", a=90))
    assert found[0].kind == "categorical"


def test_strings_cannot_be_numeric() -> None:
    with pytest.raises(Unfit, match=r"takes strings"):
        columns_of([column("a", "BYTES")], Manifest(kinds={"a": "numeric"}), background("a"))


def test_inputs_that_are_no_table_have_no_columns() -> None:
    image = TensorSpec(name="image", datatype="FP32", shape=[-1, 3, 8, 8])
    assert columns_of([image], Manifest(), None) == []
    assert columns_of([column("a"), image], Manifest(), None) == []


@pytest.mark.parametrize("explain", [ExplainPolicy(immutable=["c"]), ExplainPolicy(one_way={"c": "increase"})])
def test_what_counterfactuals_must_not_change_is_a_column_of_the_model(explain: ExplainPolicy) -> None:
    with pytest.raises(Unfit, match=r"names 'c', no column of the model; it has a, b"):
        columns_of([column("a"), column("b")], Manifest(policy=Policy(explain=explain)), background("a", "b"))
