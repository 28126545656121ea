"""Tensors between JSON and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affiant.common.errors import Problem
from affiant.common.events import TensorSpec
from affiant.modelserver.protocol import RequestTensor
from affiant.modelserver.tensors import DATATYPES, flat, slot


def read(datatype: str, data: list[Any], shape: list[int] | None = None, declared: tuple[int, ...] = (-1, 1)) -> Any:
    one = slot(TensorSpec(name="x", datatype=datatype, shape=list(declared)))
    shape = shape or [len(data), 1]
    return one.array(one.read(RequestTensor("x", shape, datatype, data)), shape)


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_of_the_protocol_is_read_and_written_as_itself(datatype: str) -> None:
    data = {"BOOL": [True, False], "BYTES": ["a", "ü"]}.get(datatype, [1, 2])
    array = read(datatype, data)
    assert array.shape == (2, 1)
    assert array.dtype == DATATYPES[datatype].dtype
    assert flat(array) == data


def test_nested_data_are_read_row_by_row() -> None:
    array = read("FP32", [[1, 2], [3, 4], [5, 6]], [3, 2], (-1, 2))
    assert array.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_null_in_a_floating_point_tensor_is_a_missing_value() -> None:
    assert np.isnan(read("FP32", [None, 1.5])).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("datatype", "data", "reason"),
    [
        ("FP32", ["1.5"], "texts"),
        ("FP32", [True], "booleans"),
        ("INT64", [1.5], "fractions"),
        ("INT64", [True], "booleans"),
        ("INT64", [None], "null"),
        ("UINT8", [256], "outside"),
        ("INT8", [-129], "outside"),
        ("BYTES", [None], "empty string"),
        ("BYTES", [7], "fit BYTES"),
        ("BOOL", [1], "fit BOOL"),
    ],
)
def test_a_value_that_does_not_fit_its_datatype_is_refused(datatype: str, data: list[Any], reason: str) -> None:
    with pytest.raises(Problem, match=reason):
        read(datatype, data)


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ([1, 2, 3], [2, 1]),
        ([[1, 2], [3]], [2, 2]),
        ([[1], 2], [2, 1]),
        ([[[1]]], [1, 1]),
        ([], [1, 1]),
        ([[1, 2], [3, 4], [5, 6]], [2, 2]),
    ],
)
def test_data_that_do_not_have_the_claimed_shape_are_refused(data: list[Any], shape: list[int]) -> None:
    with pytest.raises(Problem, match="x"):
        read("FP32", data, shape, (-1, shape[1]))


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([1], "the model takes"),
        ([1, 2], "the model takes"),
        ([0, 1], "rows must be 1 or more"),
        ([-1, 1], "a shape holds no negative number"),
        ([1, 1, 1], "the model takes"),
    ],
)
def test_a_shape_that_the_model_does_not_take_is_refused(shape: list[int], reason: str) -> None:
    with pytest.raises(Problem, match=f"shape.*{reason}"):
        read("FP32", [1], shape)


def test_any_numbers_may_go_into_a_floating_point_input_and_nothing_else_may() -> None:
    one = slot(TensorSpec(name="x", datatype="FP32", shape=[-1, 1]))
    assert one.read(RequestTensor("x", [1, 1], "FP64", [2.5])) == [2.5]
    assert one.read(RequestTensor("x", [1, 1], "INT64", [2])) == [2]
    for datatype in ("BYTES", "BOOL", "FP8"):
        with pytest.raises(Problem, match="datatype"):
            one.read(RequestTensor("x", [1, 1], datatype, [2]))


def test_a_binary_tensor_is_refused_with_what_to_send_instead() -> None:
    one = slot(TensorSpec(name="x", datatype="FP32", shape=[-1, 1]))
    with pytest.raises(Problem, match="send `data`"):
        one.read(RequestTensor("x", [1, 1], "FP32", None, {"binary_data_size": 4}))
