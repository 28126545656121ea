"""What is found in a model, in this process; the hostile ones that need limits are run by the integration tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from affiant.registry.checks import graph
from affiant.registry.checks.examination import examine
from affiant.registry.checks.findings import Finding, Limits, Task
from affiant.registry.domain.manifest import Manifest, Unfit
from tests.support.model import background_csv, limit_model, loan_model
from tests.unit.registry import hostile

ROWS = b"a,b\n" + b"".join(b"%d,%d\n" % (index % 7 - 3, index % 5 - 2) for index in range(40))


class Refused(Exception):
    """A check failed."""


def examined(
    data: bytes,
    background: bytes | None = None,
    max_nodes: int = 20_000,
    details: dict[str, str] | None = None,
    **manifest: Any,
) -> Finding:
    def check(name: str, step: Callable[[], tuple[Any, str]]) -> Any:
        try:
            value, detail = step()
        except Unfit as reason:
            raise Refused(f"{name}: {reason}") from reason
        assert detail
        if details is not None:
            details[name] = detail
        return value

    limits = Limits(run_seconds=1.0, max_nodes=max_nodes)
    task = Task(model_path="", background_path=None, manifest=Manifest(**manifest), limits=limits)
    return examine(data, background, task, check)


def test_a_sound_model_gives_its_signature_columns_and_decision() -> None:
    found = examined(loan_model(), background_csv(), favourable=1, protected=["sex"])
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.inputs] == [
        ("income", "FP32", [-1, 1]),
        ("debt", "FP32", [-1, 1]),
    ]
    assert [(spec.name, spec.datatype, spec.shape) for spec in found.outputs] == [
        ("label", "INT64", [-1]),
        ("probabilities", "FP32", [-1, 2]),
    ]
    assert [column.name for column in found.columns] == ["income", "debt"]
    assert found.decision is not None
    assert found.decision.classes == [0, 1]


@pytest.mark.parametrize(
    ("protected", "words"),
    [
        (["sex"], ""),
        (["income", "sex"], "the model SEES the protected column income"),
        (["income", "debt"], "the model SEES the protected columns income, debt"),
    ],
)
def test_a_protected_column_that_the_model_sees_is_never_without_a_word(protected: list[str], words: str) -> None:
    details: dict[str, str] = {}
    examined(loan_model(), background_csv(), details=details, favourable=1, protected=protected)
    assert ("SEES" in details["columns"]) == bool(words)
    assert words in details["columns"]


def test_classes_are_read_from_the_graph() -> None:
    found = examined(hostile.classifier(classes=["no", "yes"]), ROWS, favourable="yes")
    assert found.decision is not None
    assert found.decision.classes == ["no", "yes"]


def test_a_regression_decides_by_a_threshold() -> None:
    details: dict[str, str] = {}
    found = examined(limit_model(), background_csv(), details=details, favourable="above", threshold=20.0)
    assert found.decision is not None
    assert found.decision.is_regression
    assert (found.decision.value_output, found.decision.threshold) == ("limit", 20.0)
    assert found.decision.classes == ["below", "above"]
    assert "of the background rows lie above 20" in details["decision"]


def test_a_classifier_is_no_regression() -> None:
    with pytest.raises(Refused, match="no output can be the value_output"):
        examined(loan_model(), background_csv(), favourable="above", threshold=20.0)


def test_a_model_of_images_can_be_audited_but_is_not_explained() -> None:
    assert examined(hostile.images()).columns == []
    with pytest.raises(Refused, match="texts and images can be registered and audited without `favourable`"):
        examined(hostile.images(), ROWS, favourable=1)


def test_a_model_without_a_decision_needs_no_background() -> None:
    found = examined(hostile.regression())
    assert found.decision is None
    assert found.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "format: this is no ONNX"),
        (b"PK\x03\x04 a zip file", "format: this is no ONNX"),
        (hostile.nested_functions(), "node budget: more than 20000 operators"),
        (hostile.functions_inside_a_subgraph(), "node budget: more than 20000 operators"),
        (hostile.recursive_function(), "node budget: the function 'f' calls itself"),
        (hostile.deep_chain(), "node budget: .*nested more than 32 deep"),
        (hostile.many_nodes(20_001), "node budget: more than 20000 operators"),
        (hostile.external_data(), "external data: the tensor 'w'"),
        (hostile.external_data_in_a_subgraph(), "external data: the tensor 'w'"),
        (hostile.foreign_operator(), "operators: .*com.microsoft.Gelu"),
        (hostile.foreign_operator("ai.onnx.training"), "operators: .*ai.onnx.training"),
        (hostile.random_output(), "repeatability: the output 'y' differs"),
    ],
)
def test_a_harmful_model_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        examined(data)


def test_an_endless_loop_is_stopped_at_its_deadline() -> None:
    with pytest.raises(Refused, match=r"smoke run: .*took more than 1 s and was stopped"):
        examined(hostile.endless_loop())


def test_small_functions_of_the_model_itself_are_allowed() -> None:
    assert examined(hostile.nested_functions(depth=3)).outputs


def test_counting_is_linear_in_the_file_whatever_it_expands_to() -> None:
    model = graph.parse(hostile.nested_functions(depth=12))
    assert graph.count_nodes(model, 100_000) == 1 + sum(2**level for level in range(1, 13))


def test_zipmap_is_refused_with_the_export_option_that_helps() -> None:
    with pytest.raises(Refused, match=r"signature: the output 'maps'.*'zipmap': False"):
        examined(hostile.classifier(classes=["no", "yes"], zipmap=True), ROWS, favourable="yes")


def test_raw_scores_are_refused() -> None:
    with pytest.raises(Refused, match=r"decision: .*outside 0 to 1"):
        examined(hostile.classifier(classes=[0, 1, 2], post="NONE"), ROWS, favourable=2)


def test_probabilities_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(Refused, match=r"decision: .*do not sum to 1"):
        examined(hostile.classifier(classes=[0, 1, 2], post="LOGISTIC"), ROWS, favourable=2)


def test_classes_in_the_wrong_order_are_noticed() -> None:
    with pytest.raises(Refused, match=r"decision: column 0 .*state `classes` in the order"):
        examined(hostile.classifier(classes=[0, 1, 2]), ROWS, favourable=2, classes=[2, 1, 0])


def test_a_decision_needs_background_data() -> None:
    with pytest.raises(Refused, match=r"background: .*send a CSV file"):
        examined(loan_model(), favourable=1)


def test_a_fixed_first_dimension_is_refused() -> None:
    with pytest.raises(Refused, match=r"signature: .*variable first dimension"):
        examined(hostile.fixed_batch())


@pytest.mark.parametrize(("kind", "name"), [(onnx.TensorProto.COMPLEX64, "COMPLEX64"), (83, "number 83")])
def test_a_type_that_no_request_can_carry_is_refused_by_name(kind: int, name: str) -> None:
    model = onnx.ModelProto.FromString(hostile.regression())
    model.graph.output[0].type.tensor_type.elem_type = kind
    with pytest.raises(Refused, match=f"signature: the output 'y' has the type {name}"):
        examined(model.SerializeToString())


def test_an_output_that_is_not_finite_for_a_missing_value_names_the_column() -> None:
    rows = b"income,debt,sex\n1,2,f\n,3,m\n"
    with pytest.raises(Refused, match=r"smoke run: .*where income has missing values; impute"):
        examined(loan_model(), rows, favourable=1)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (b"\xff\xfe", "background: .*not UTF-8"),
        (b"", "background: .*no CSV table"),
        (b"a,b\n", "background: .*no rows"),
        (b"a,b\n1,2,3\n", "background: row 1 .*3 cells"),
        (b"a,a\n1,2\n", "background: .*two columns named 'a'"),
        (b",a,b\n0,1,2\n", "background: .*no name"),
        (b'a,b\n"1,2\n', "background: .*no CSV table"),
        (b"a,c\n1,2\n", "columns: .*no column 'b'"),
        (b"a,b\n1,NA\n", "values: row 1 .*'b': 'NA' is no FP32 value; leave the cell"),
        (b"a,b\n1,1e39\n", "values: .*infinite in FP32"),
    ],
)
def test_background_data_that_cannot_be_sent_says_where(rows: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        examined(hostile.classifier(classes=["no", "yes"]), rows, favourable="yes")


def test_an_integer_column_has_no_missing_value() -> None:
    rows = b"k\n1\n\n2\n"
    with pytest.raises(Refused, match=r"no CSV table|empty, and INT64"):
        examined(hostile.integers(), b"k,z\n1,1\n,1\n")
    assert examined(hostile.integers(), rows).columns[0].datatype == "INT64"


def test_integers_beyond_their_type_are_refused() -> None:
    with pytest.raises(Refused, match=r"does not fit INT64"):
        examined(hostile.integers(), b"k\n99999999999999999999\n")


def test_integers_that_pandas_wrote_as_floats_are_read() -> None:
    assert examined(hostile.integers(), b"k\n1.0\n2.0\n").columns[0].name == "k"
