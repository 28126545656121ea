"""What is held against the auditor: each broken promise is said, and none is said without need."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.loan import dossier, record
from examples.loan.flow import Flow
from examples.loan.outcome import Totals
from examples.loan.table import Choices, Table, read
from tests.unit.examples import fabricated, tables

FLOW: Any = type("NoFailures", (), {"failures": ["503: the bus is away"]})()
GOOD: Totals = fabricated.outcome().totals


def _complaints(totals: Totals, **case: Any) -> list[str]:
    told = replace(fabricated.case(), **case)
    flow: Flow = FLOW
    return record.complaints(totals, fabricated.outcome().fairness, flow, told)


def test_a_run_that_kept_everything_has_no_complaint() -> None:
    assert _complaints(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"failed": 1}, "the bus is away"),
        ({"audited": 499}, "500 sent, but 499 in the record"),
        ({"missing": 1}, "missing from the record"),
        ({"unknown": 2}, "belong to no answer"),
        ({"doubled": 1}, "doubled"),
        ({"gaps": 3}, "never logged"),
        ({"explained": 57}, "58 denials, but 57 explained"),
    ],
)
def test_each_broken_promise_is_said(change: dict[str, int], words: str) -> None:
    assert any(words in complaint for complaint in _complaints(replace(GOOD, **change)))


def test_a_record_without_a_proof_or_with_a_false_one_is_a_complaint() -> None:
    proof = fabricated.case().proof
    assert proof is not None
    assert any("no proof" in complaint for complaint in _complaints(GOOD, proof=None))
    wrong = replace(proof, objection="the path does not lead to the root")
    assert any("does not lead" in complaint for complaint in _complaints(GOOD, proof=wrong))


def test_two_counts_that_differ_are_a_complaint() -> None:
    differing = replace(fabricated.fairness("afam", 0.7), recounted=False)
    assert any("afam" in c for c in record.complaints(GOOD, (differing,), FLOW, fabricated.case()))


@pytest.fixture(name="table")
def a_table(tmp_path: Path) -> Table:
    return read(tables.written(tmp_path), Choices())


def _found(explained_label: str) -> dict[str, Any]:
    shap = {
        "baseline": 0.2, "output": 0.7, "additivity_error": 0.0, "estimator": "KernelShap",
        "values": [{"column": "income", "value": 20.0, "shap": 0.4}, {"column": "job", "value": "x", "shap": 0.1}],
    }  # fmt: skip
    anchor = {"clauses": ["income ≤ 30"], "precision": 0.97, "coverage": 0.2, "success": True, "sentence": "…"}
    event = {"explained_label": explained_label, "shap": shap, "anchor": anchor, "explained_at": "t", "seed": 4}
    logged = {
        "prediction_id": "p1", "version": 1, "digest": "sha256:00", "received_at": "t", "labels": ["yes"],
        "scores": [0.3], "inputs": [{"name": "income", "data": [20.0]}],
    }  # fmt: skip
    return {"record": logged, "explanations": [{"index": 3, "event": event}], "proof": None}


def test_contributions_lead_to_the_denial_whichever_class_was_explained(table: Table) -> None:
    denied, approved = (dossier.case(_found(label), table, "").waterfall for label in ("yes", "no"))
    assert denied is not None and approved is not None
    assert (denied.baseline, denied.output, denied.contributions[0].shap) == (0.2, 0.7, 0.4)
    assert (approved.baseline, round(approved.output, 9), approved.contributions[0].shap) == (0.8, 0.3, -0.4)


def test_the_case_that_is_told_has_a_short_anchor_that_holds() -> None:
    case = fabricated.case()
    assert case.anchor is not None
    weaker = [
        replace(case, anchor=None),
        replace(case, anchor=replace(case.anchor, success=False)),
        replace(case, anchor=replace(case.anchor, clauses=tuple("abcdef"))),
        replace(case, anchor=replace(case.anchor, coverage=0.001)),
    ]
    assert max([*weaker, case], key=dossier.tellable) is case
