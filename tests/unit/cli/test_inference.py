"""Rows to and from the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

import pytest

from affiant.cli import inference
from affiant.common.errors import Problem

COLUMNS: dict[str, Any] = {
    "inputs": [
        {"name": "income", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "years", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "purpose", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "columns": [
        {"name": "income", "kind": "numeric", "datatype": "FP32", "input": "income"},
        {"name": "years", "kind": "numeric", "datatype": "INT64", "input": "years"},
        {"name": "purpose", "kind": "categorical", "datatype": "BYTES", "input": "purpose"},
    ],
    "protected": ["race", "purpose"],
    "decision": {"label_output": "l", "probability_output": "p", "classes": ["no", "yes"], "favourable": "yes"},
}
MATRIX: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "columns": [
        {"name": "b", "kind": "numeric", "datatype": "FP32", "input": "x", "index": 1},
        {"name": "a", "kind": "numeric", "datatype": "FP32", "input": "x"},
    ],
}
ROW = {"income": "40.5", "years": "3", "purpose": "car", "race": "a"}


def data(request: dict[str, Any]) -> dict[str, list[Any]]:
    return {tensor["name"]: tensor["data"] for tensor in request["inputs"]}


def test_each_column_goes_into_a_tensor_of_its_own() -> None:
    request = inference.request(COLUMNS, ROW)
    assert data(request) == {"income": [40.5], "years": [3], "purpose": ["car"], "race": ["a"]}
    assert all(tensor["shape"] == [1, 1] for tensor in request["inputs"])


def test_columns_of_a_matrix_stand_in_the_order_of_their_index() -> None:
    assert inference.request(MATRIX, {"a": 1, "b": 2})["inputs"] == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    ]


def test_protected_columns_that_the_model_does_not_take_travel_beside() -> None:
    assert inference.beside(COLUMNS) == ["race"]
    assert "race" not in data(inference.request(COLUMNS, {**ROW, "race": None}))
    numbered = inference.request(COLUMNS, {**ROW, "race": "1"})["inputs"][-1]
    assert numbered == {"name": "race", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}


@pytest.mark.parametrize("written", ["", "NA", None, "?"])
def test_a_missing_number_is_null(written: str | None) -> None:
    assert data(inference.request(COLUMNS, {**ROW, "income": written}))["income"] == [None]


def test_a_missing_category_is_an_empty_string() -> None:
    assert data(inference.request(COLUMNS, {**ROW, "purpose": None}))["purpose"] == [""]


def test_a_whole_number_cannot_be_missing_or_broken() -> None:
    for written in ("", "2.5", None):
        with pytest.raises(Problem, match="'years' needs a whole number"):
            inference.request(COLUMNS, {**ROW, "years": written})


def test_all_missing_columns_are_named_and_a_mistyped_one_is_recognised() -> None:
    with pytest.raises(Problem, match="needs: income, purpose") as refused:
        inference.request(COLUMNS, {"incom": 3, "years": 1})
    assert refused.value.hint == "did you mean 'income' by 'incom'?"


def test_a_mistyped_column_gets_the_nearest_name() -> None:
    with pytest.raises(Problem, match="no column 'purpos'") as refused:
        inference.refuse_unknown(COLUMNS, {"purpos": "car"})
    assert refused.value.hint == "did you mean 'purpose'?"


def test_the_answer_says_decision_score_and_whether_it_is_adverse() -> None:
    answer = inference.answer(
        COLUMNS,
        {
            "model_version": "2",
            "parameters": {"prediction_id": "p1"},
            "outputs": [
                {"name": "l", "datatype": "BYTES", "shape": [1], "data": ["no"]},
                {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.25]},
            ],
        },
    )
    assert (answer.prediction_id, answer.version, answer.decision) == ("p1", "2", "no")
    assert (answer.score, answer.adverse) == (0.25, True)


def test_a_model_without_a_decision_answers_its_outputs() -> None:
    outputs = [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [[3.5]]}]
    answer = inference.answer({**MATRIX}, {"model_version": "1", "outputs": outputs})
    assert (answer.decision, answer.score, answer.adverse) == (None, None, None)
    assert inference.cells(None, outputs, 0) == [("y", 3.5)]


def test_logged_tensors_are_read_by_column_and_row() -> None:
    tensors = [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, None]}]
    assert inference.cells(MATRIX, tensors, 1) == [("b", None), ("a", 3.0)]
    assert inference.cells(None, tensors, 0) == [("x[0]", 1.0), ("x[1]", 2.0)]


def test_a_csv_without_rows_is_refused() -> None:
    assert inference.read_csv("a,b\n1,x\n") == [{"a": "1", "b": "x"}]
    with pytest.raises(Problem, match="no rows"):
        inference.read_csv("a,b\n")
