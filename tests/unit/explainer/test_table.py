"""How the values of a request become alibi's numbers, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affiant.common.events import Column, Scalar
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.table import MISSING, Table, normal, number_text, read_table


def column(name: str, datatype: str = "FP32", kind: str = "numeric") -> Column:
    return Column(name=name, kind=kind, datatype=datatype, input=name)  # type: ignore[arg-type]


INCOME, GRADE, JOB = column("income"), column("grade", "INT64"), column("job", "BYTES", "categorical")


def loans(*rows: str) -> Table:
    return read_table([INCOME, GRADE, JOB], "\n".join(["income,grade,job", *rows]).encode())


def test_a_row_comes_back_from_its_codes_as_it_was() -> None:
    table = loans("1.5,1,clerk", "2.5,2,driver", ",3,")
    for values in ([1.5, 2, "driver"], [None, 3, ""]):
        codes = table.encode(values)
        back = [coding.value(code) for coding, code in zip(table.codings, codes, strict=True)]
        assert back == [values[0], values[1], values[2] or None]


def test_the_model_gets_nan_for_a_missing_number_and_an_empty_string_for_a_missing_category() -> None:
    table = loans("1.5,1,clerk", ",2,")
    codes = table.encode([None, 1, None]).reshape(1, -1)
    income, grade, job = (coding.tensor(codes[:, at]) for at, coding in enumerate(table.codings))
    assert income.dtype == np.float32 and math.isnan(float(income[0]))
    assert grade.dtype == np.int64 and grade[0] == 1
    assert job[0] == ""


def test_columns_that_the_model_does_not_take_are_left_out() -> None:
    table = read_table([JOB], b"race,job\nx,clerk\ny,driver\n")
    assert table.names == ["job"] and table.background.shape == (2, 1)


def test_a_32_bit_number_is_the_decimal_that_it_was_written_as() -> None:
    sent: Scalar = float(np.float32(0.281))
    assert sent != 0.281 and normal(INCOME, sent) == 0.281 == normal(INCOME, "0.281")


@pytest.mark.parametrize(("cell", "value"), [("", None), ("nan", None), ("3", 3.0), (None, None), (math.nan, None)])
def test_a_missing_number_is_none_however_it_is_written(cell: Scalar, value: Scalar) -> None:
    assert normal(INCOME, cell) == value


@pytest.mark.parametrize(("cell", "value"), [("True", True), ("0", False), (1, True)])
def test_truth_is_read_from_words_and_digits(cell: Scalar, value: Scalar) -> None:
    assert normal(column("owner", "BOOL", "categorical"), cell) is value


@pytest.mark.parametrize(
    "values", [["x", 1, "clerk"], [1.0, 1.5, "clerk"], [math.inf, 1, "clerk"], [-1e301, 1, "clerk"]]
)
def test_a_value_that_does_not_fit_its_column_is_refused(values: list[Scalar]) -> None:
    with pytest.raises(Unexplainable):
        loans("1.5,1,clerk", "2.5,2,driver").encode(values)


def test_a_missing_integer_is_refused() -> None:
    with pytest.raises(Unexplainable, match="INT64 has no missing value"):
        loans("1.5,1,clerk").encode([1.0, None, "clerk"])


def test_an_unknown_category_is_refused_with_the_reason() -> None:
    with pytest.raises(Unexplainable, match=r"astronaut' does not occur.*register a version whose"):
        loans("1.5,1,clerk").encode([1.0, 1, "astronaut"])


def test_the_background_without_a_column_of_the_model_is_refused() -> None:
    with pytest.raises(Unexplainable, match="cannot be read as a table"):
        read_table([INCOME, JOB], b"income\n1.0\n")


def test_numbers_are_parted_at_rounded_quartiles() -> None:
    table = read_table([INCOME], ("income\n" + "\n".join(f"{n / 3:.4f}" for n in range(100))).encode())
    edges = table.edges(0, np.array([1.0]))
    assert edges.tolist() == [8.0, 16.3333, 24.6667]


def test_a_grade_gets_a_bin_for_each_of_its_values() -> None:
    table = read_table([GRADE], b"grade\n1\n2\n2\n2\n5\n")
    assert table.edges(0, np.array([2.0])).tolist() == [1.0, 2.0]


def test_missing_numbers_have_the_lowest_bin_to_themselves() -> None:
    table = read_table([INCOME], b"income\n" + b"\n".join(str(n).encode() for n in range(40)) + b'\n""\n')
    edges = table.edges(0, np.array([5.0]))
    assert edges[0] == MISSING and len(edges) == 4
    assert np.searchsorted(edges, [MISSING, 0.0]).tolist() == [0, 1]


def test_a_row_that_misses_a_number_gets_that_bin_even_if_no_background_row_does() -> None:
    table = read_table([INCOME], b"income\n1\n2\n3\n")
    assert table.edges(0, np.array([MISSING]))[0] == MISSING
    assert table.edges(0, np.array([2.0]))[0] != MISSING


@pytest.mark.parametrize("values", [[0.0] * 90 + [1.0, 2.0], [7.0], list(range(12)), [5.0] * 30 + list(range(11))])
def test_no_bin_is_without_background_rows(values: list[float]) -> None:
    table = read_table([INCOME], ("income\n" + "\n".join(map(str, values))).encode())
    bins = np.searchsorted(table.edges(0, np.array([0.0])), table.background[:, 0])
    count = len(table.edges(0, np.array([0.0]))) + 1
    assert set(bins.tolist()) == set(range(count)) or len(set(values)) == 1


def test_values_outside_of_what_the_background_knows_are_warned_of() -> None:
    table = loans("1,1,clerk", "2,2,clerk")
    assert table.warnings(table.encode([1.5, 1, "clerk"])) == []
    assert table.warnings(table.encode([5.0, 1, ""])) == [
        "income = 5 lies outside the background's range (1 to 2)",
        "job is missing here but never in the background",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (0.281, "0.281"), (1_250_000.0, "1250000"), (0.0, "0"), (-3.5, "-3.5"), (1e-9, "1e-09")],
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert number_text(value) == text
