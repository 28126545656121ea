"""Rows as people have them, to and from the Open Inference Protocol v2. Pure: no I/O.

`spec` is a version's `affiant.common.events.ModelSpec` as JSON, as the registry answers it.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from affiant.common.errors import Problem
from affiant.common.events import Scalar

Row = dict[str, Any]
Spec = dict[str, Any]

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "None", "?"})
"""How tables write that a number is missing."""


@dataclass(frozen=True)
class Answer:
    """What the model decided for one row; `score` is the probability of the favourable class, 0 to 1."""

    prediction_id: str
    version: str
    decision: Scalar
    score: float | None
    adverse: bool | None
    outputs: list[dict[str, Any]]


def read_csv(text: str) -> list[Row]:
    """The rows of a CSV file with a header."""
    rows: list[Row] = list(csv.DictReader(io.StringIO(text)))
    if not rows:
        raise Problem("the CSV file holds no rows", hint="it needs a header line with the columns' names")
    return rows


def request(spec: Spec, row: Row) -> dict[str, Any]:
    """The inference request for one row. Raises `Problem` naming a column that is missing or does not fit.

    Protected columns that the model does not take travel as tensors of their own: the server logs them only.
    """
    _refuse_incomplete(spec, row)
    tensors = [_tensor(spec, tensor, row) for tensor in spec["inputs"]]
    return {"inputs": tensors + [_beside(name, row[name]) for name in beside(spec) if row.get(name) is not None]}


def beside(spec: Spec) -> list[str]:
    """The protected columns that are not inputs of the model."""
    taken = {column["name"] for column in spec["columns"]}
    return [name for name in spec.get("protected", []) if name not in taken]


def unknown_columns(spec: Spec, row: Row) -> list[str]:
    """Columns of the row that the model has no use for."""
    known = {column["name"] for column in spec["columns"]} | set(spec.get("protected", []))
    return [name for name in row if name not in known]


def refuse_unknown(spec: Spec, row: Row) -> None:
    """Raise `Problem` for a column that was typed by hand and is not the model's, with the nearest name."""
    for name in unknown_columns(spec, row):
        names = [column["name"] for column in spec["columns"]] + beside(spec)
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the columns are: {', '.join(names)}"
        raise Problem(f"the model has no column {name!r}", hint=hint)


def answer(spec: Spec, response: dict[str, Any]) -> Answer:
    """What a response to a request of one row says."""
    parameters = response.get("parameters") or {}
    outputs = {tensor["name"]: tensor for tensor in response["outputs"]}
    decision = spec.get("decision")
    label, score = _decided(decision, outputs) if decision else (None, None)
    return Answer(
        prediction_id=str(parameters.get("prediction_id", "")),
        version=str(response.get("model_version", "")),
        decision=label,
        score=score,
        adverse=str(label) != str(decision["favourable"]) if decision else None,
        outputs=response["outputs"],
    )


def cells(spec: Spec | None, tensors: Iterable[dict[str, Any]], row: int) -> list[tuple[str, Scalar]]:
    """Column names and values of one row of logged tensors; the tensors' own names where the model is not known."""
    found = {tensor["name"]: tensor for tensor in tensors}
    if spec is not None and all(column["input"] in found for column in spec["columns"]):
        return [
            (column["name"], _cell(found[column["input"]], row, column.get("index", 0))) for column in spec["columns"]
        ]
    return [
        (name if _width(tensor) == 1 else f"{name}[{place}]", _cell(tensor, row, place))
        for name, tensor in found.items()
        for place in range(_width(tensor))
    ]


def _refuse_incomplete(spec: Spec, row: Row) -> None:
    missing = [column["name"] for column in spec["columns"] if column["name"] not in row]
    if not missing:
        return
    typed = {wrong: difflib.get_close_matches(wrong, missing, 1) for wrong in unknown_columns(spec, row)}
    meant = [f"did you mean {right[0]!r} by {wrong!r}?" for wrong, right in typed.items() if right]
    hint = meant[0] if meant else "a missing value is written as null, or left empty in a CSV file"
    raise Problem(f"the row lacks columns that the model needs: {', '.join(missing)}", hint=hint)


def _tensor(spec: Spec, tensor: dict[str, Any], row: Row) -> dict[str, Any]:
    name, datatype = tensor["name"], tensor["datatype"]
    columns = sorted((c for c in spec["columns"] if c["input"] == name), key=lambda column: column.get("index", 0))
    data = [_value(column["name"], datatype, row) for column in columns]
    shape = [1] if len(tensor["shape"]) == 1 else [1, len(data)]
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _value(column: str, datatype: str, row: Row) -> Scalar:
    found = row[column]
    try:
        return _converted(datatype, found)
    except ValueError as error:
        kind = (
            "a whole number"
            if datatype.startswith(("INT", "UINT"))
            else "a number"
            if datatype != "BOOL"
            else "true or false"
        )
        raise Problem(f"column {column!r} needs {kind}, not {found!r}") from error


def _converted(datatype: str, found: Any) -> Scalar:
    if datatype == "BYTES":
        return "" if found is None else str(found)
    if datatype == "BOOL":
        return _truth(found)
    if datatype.startswith(("INT", "UINT")):
        number = float(found if found is not None else "missing")
        if not number.is_integer():
            raise ValueError(found)
        return int(number)
    missing = found is None or (isinstance(found, str) and found.strip() in MISSING)
    return None if missing else float(found)


def _truth(found: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[str(found).strip().lower()]
    except KeyError as error:
        raise ValueError(found) from error


def _beside(name: str, found: Any) -> dict[str, Any]:
    try:
        number = float(found)
    except (TypeError, ValueError):
        return {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [str(found)]}
    return {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [number]}


def _decided(decision: dict[str, Any], outputs: dict[str, Any]) -> tuple[Scalar, float | None]:
    if decision.get("value_output"):
        found = outputs.get(decision["value_output"])
        value = None if found is None else float(_cell(found, 0, 0) or 0.0)
        return None if value is None else "above" if value >= decision.get("threshold", 0.0) else "below", None
    label = outputs.get(decision["label_output"])
    probabilities = outputs.get(decision["probability_output"])
    place = decision["classes"].index(decision["favourable"])
    return (
        None if label is None else _cell(label, 0, 0),
        None if probabilities is None else float(_cell(probabilities, 0, place) or 0.0),
    )


def _width(tensor: dict[str, Any]) -> int:
    shape = tensor["shape"]
    return int(shape[1]) if len(shape) > 1 else 1


def _cell(tensor: dict[str, Any], row: int, place: int) -> Scalar:
    """One value; `data` may be flat or nested (the protocol allows both)."""
    data = tensor["data"]
    while data and isinstance(data[0], list):
        data = [value for part in data for value in part]
    found: Scalar = data[row * _width(tensor) + place]
    return found
