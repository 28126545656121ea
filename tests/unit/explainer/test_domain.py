"""Which rows are explained, with which seed, and what a job is."""

from __future__ import annotations

import msgspec
import pytest

from affiant.common import ids
from affiant.common.events import ExplainPolicy, ModelSpec, Policy, PredictionLogged, TensorData
from affiant.explainer import domain
from tests.unit.explainer.examples import SPEC, record


def planned(policy: ExplainPolicy, prediction: PredictionLogged) -> list[int]:
    spec = msgspec.structs.replace(SPEC, policy=Policy(explain=policy))
    return [job.row for job in domain.plan(spec, prediction, traceparent="", now=0.0, deadline_seconds=60.0)]


def test_the_default_policy_explains_the_rows_that_were_denied() -> None:
    assert planned(ExplainPolicy(), record(adverse=[False, True, True])) == [1, 2]


def test_a_policy_may_want_all_rows_or_none() -> None:
    assert planned(ExplainPolicy(when="all"), record(adverse=[False, True])) == [0, 1]
    assert planned(ExplainPolicy(when="none"), record(adverse=[False, True])) == []


def test_a_failed_request_and_a_model_without_a_decision_are_not_explained() -> None:
    assert planned(ExplainPolicy(when="all"), record(adverse=[True], status="failed")) == []
    spec = msgspec.structs.replace(SPEC, decision=None)
    assert domain.plan(spec, record(adverse=[True]), traceparent="", now=0.0, deadline_seconds=1.0) == []


def test_a_rate_chooses_its_share_and_always_the_same_predictions() -> None:
    some = [ids.uuid7() for _ in range(2000)]
    chosen = [each for each in some if domain.chosen(each, 0.25)]
    assert 400 < len(chosen) < 600
    assert chosen == [each for each in some if domain.chosen(each, 0.25)]
    assert all(domain.chosen(each, 1.0) for each in some)
    assert not any(domain.chosen(each, 0.0) for each in some)
    assert set(chosen) <= {each for each in some if domain.chosen(each, 0.5)}


def test_the_seed_and_the_event_belong_to_the_row_and_its_round() -> None:
    one, two = domain.plan(SPEC, record(adverse=[True, True]), traceparent="", now=0.0, deadline_seconds=1.0)
    assert one.seed != two.seed and one.event_id != two.event_id
    again = msgspec.structs.replace(one, attempts=2, state="running")
    assert (again.seed, again.event_id) == (one.seed, one.event_id)
    assert msgspec.structs.replace(one, round=2).event_id != one.event_id
    assert 0 <= one.seed < 2**31


def test_the_values_of_a_row_are_in_the_order_of_the_columns() -> None:
    inputs = [
        TensorData(name="job", datatype="BYTES", shape=[2, 1], data=["clerk", "driver"]),
        TensorData(name="income", datatype="FP32", shape=[2, 1], data=[1.0, None]),
    ]
    assert domain.row_values(SPEC, inputs, 1) == [None, "driver"]


def test_the_values_of_a_row_are_cut_out_of_a_matrix() -> None:
    columns = [msgspec.structs.replace(column, input="row", index=1 - at) for at, column in enumerate(SPEC.columns)]
    spec: ModelSpec = msgspec.structs.replace(SPEC, columns=columns)
    inputs = [TensorData(name="row", datatype="FP32", shape=[2, 2], data=[1.0, 2.0, 3.0, 4.0])]
    assert domain.row_values(spec, inputs, 1) == [4.0, 3.0]


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [TensorData(name="income", datatype="FP32", shape=[2, 1], data=[1.0])],
        [TensorData(name="income", datatype="FP32", shape=[0, 1], data=[])],
    ],
)
def test_a_record_that_does_not_hold_the_row_gives_a_job_that_says_why(inputs: list[TensorData]) -> None:
    broken = msgspec.structs.replace(record(adverse=[True]), inputs=inputs)
    [job] = domain.plan(SPEC, broken, traceparent="", now=0.0, deadline_seconds=1.0)
    assert job.fault
