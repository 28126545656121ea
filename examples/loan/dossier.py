"""From the auditor's answer about one prediction to the case that is told."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from affiant.cli import verifying
from examples.loan.outcome import AnchorRule, Case, Contribution, Proof, Value, Waterfall
from examples.loan.table import Table


def case(found: dict[str, Any], table: Table, key: str) -> Case:
    """The case in `GET /v1/predictions/{id}`: its first row, the explanation if there is one, and the proof, held
    against the log's `key`."""
    record = found["record"]
    explained = next((e["event"] for e in found["explanations"] if e["event"].get("anchor")), None)
    return Case(
        prediction_id=record["prediction_id"],
        version=int(record["version"]),
        digest=record["digest"],
        received_at=record["received_at"],
        label=str(record["labels"][0]),
        score=float(record["scores"][0]),
        inputs=_values(record["inputs"]),
        context=_values(record.get("context", [])),
        anchor=_anchor(explained) if explained else None,
        waterfall=_waterfall(explained, table.adverse) if explained else None,
        explained_at=explained["explained_at"] if explained else "",
        seed=explained["seed"] if explained else None,
        proof=_proof(found, key),
        replica=record.get("replica", ""),
        sequence=record.get("sequence", 0),
        warnings=tuple(explained.get("warnings", [])) if explained else (),
    )


def tellable(case: Case) -> tuple[bool, bool, float, float]:
    """How well a case can be told, to sort by: an anchor that holds, of two or three clauses, precise, covering."""
    if case.anchor is None or case.waterfall is None:
        return (False, False, 0.0, 0.0)
    clauses = len(case.anchor.clauses)
    return (case.anchor.success and clauses > 0, clauses in (2, 3), case.anchor.coverage, case.anchor.precision)


def _values(tensors: list[dict[str, Any]]) -> dict[str, Value]:
    return {tensor["name"]: tensor["data"][0] for tensor in tensors}


def _anchor(event: dict[str, Any]) -> AnchorRule | None:
    anchor = event.get("anchor")
    if anchor is None:
        return None
    return AnchorRule(
        tuple(anchor["clauses"]), anchor["sentence"], anchor["precision"], anchor["coverage"], anchor["success"]
    )


def _waterfall(event: dict[str, Any], adverse: str) -> Waterfall | None:
    """SHAP values as steps towards the probability of the denial, whichever class was explained."""
    shap = event.get("shap")
    if shap is None:
        return None
    of_denial = str(event["explained_label"]) == adverse
    sign = 1.0 if of_denial else -1.0
    contributions = (Contribution(v["column"], v.get("value"), sign * v["shap"]) for v in shap["values"])
    return Waterfall(
        baseline=shap["baseline"] if of_denial else 1.0 - shap["baseline"],
        output=shap["output"] if of_denial else 1.0 - shap["output"],
        contributions=tuple(sorted(contributions, key=lambda c: -abs(c.shap))),
        estimator=shap["estimator"],
    )


def _proof(found: dict[str, Any], key: str) -> Proof | None:
    proof = found.get("proof")
    if not proof:
        return None
    note = verifying.read_note(proof["checkpoint"])
    return Proof(
        index=proof["index"],
        tree_size=note.size,
        leaf_hash=proof["leaf_hash"],
        root=note.root.hex(),
        path_length=len(proof["path"]),
        origin=note.origin,
        signature=b64encode(note.signatures[0][1]).decode(),
        checkpoint=proof["checkpoint"],
        objection=verifying.objection(proof, found["record"]["prediction_id"], key),
    )
