"""What KServe's payload logger sends, as a record: one CloudEvent for the request, one for the response. Pure.

The logger (https://kserve.github.io/website, "Inference Logger") sends each body as it was: protocol v2 (Open Inference
Protocol) or v1 (`instances`, `predictions`), possibly compressed without saying so. No model version is on the wire.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec

from affiant.auditor.domain.rows import utc
from affiant.common.errors import Problem, Refused
from affiant.common.events import PredictionLogged, Scalar, TensorData
from affiant.common.ids import MODEL_NAME

Side = Literal["request", "response"]
TYPES: dict[str, Side] = {
    "org.kubeflow.serving.inference.request": "request",
    "org.kubeflow.serving.inference.response": "response",
}
MOST_BYTES = 16 * 1024**2
"""As much is taken of a body once it is decompressed."""
_GZIP = b"\x1f\x8b"


class Half(NamedTuple):
    """One of the two events. `key` is the same for both; `service` is the InferenceService, which names the model."""

    key: str
    side: Side
    service: str
    namespace: str
    endpoint: str
    source: str
    event_id: str
    at: str
    body: bytes


def half(headers: Mapping[str, str], body: bytes, now: str) -> Half:
    """The half in an HTTP request; the headers' names in lower case. Raises `Problem` where it is none."""
    kind, event_id = headers.get("ce-type", ""), headers.get("ce-id", "")
    if kind not in TYPES:
        known = " and ".join(TYPES)
        raise Problem(f"ce-type {kind!r} is not known here", status=422, hint=f"{known}, in binary mode")
    service = headers.get("ce-inferenceservicename", "")
    if not event_id or not MODEL_NAME.fullmatch(service):
        words = "ce-id and ce-inferenceservicename say which request it is; one of them is missing or no DNS label"
        raise Problem(words, status=422)
    namespace, source = headers.get("ce-namespace", ""), headers.get("ce-source", "")
    key = sha256("\n".join((namespace, service, source, event_id)).encode()).hexdigest()[:32]
    try:
        at = utc(headers["ce-time"])
    except (KeyError, Refused):
        at = now
    return Half(key, TYPES[kind], service, namespace, headers.get("ce-endpoint", ""), source, event_id, at, body)


def record(request: Half | None, response: Half | None) -> PredictionLogged:
    """The record of a pair, or of the half that came; what is missing or cannot be read makes it a failed one."""
    either = request or response
    if either is None:
        raise ValueError("a record needs at least one half")
    troubles = [f"the {side} never arrived" for side, one in (("request", request), ("response", response)) if not one]
    inputs, trouble = _tensors(request, ("inputs", "instances"))
    troubles += [trouble] if trouble else []
    outputs, trouble = _tensors(response, ("outputs", "predictions"))
    troubles += [trouble] if trouble else []
    return PredictionLogged(
        prediction_id=f"kserve-{either.key}",
        model=either.service,
        version=None,
        digest="",
        received_at=(request or either).at,
        status="failed" if troubles else "answered",
        alias=either.endpoint,
        request_id=either.event_id,
        error="; ".join(troubles),
        inputs=inputs,
        outputs=outputs,
        parameters={"kserve": {"namespace": either.namespace, "source": either.source}},
    )


def source_of(one: Half) -> str:
    """The CloudEvents source of the record: the service in its namespace, as a URN of its own."""
    return f"urn:kserve:{one.namespace or 'default'}:{one.service}"


def _tensors(one: Half | None, names: tuple[str, str]) -> tuple[list[TensorData], str]:
    """The tensors of a body, and why there are none."""
    if one is None:
        return [], ""
    try:
        found = msgspec.json.decode(_plain(one.body))
        if isinstance(found, dict) and names[0] in found:
            return [_v2(tensor) for tensor in found[names[0]]], ""
        if isinstance(found, dict) and names[1] in found:
            return _v1(names[1], found[names[1]]), ""
    except (ValueError, TypeError, KeyError, zlib.error, RecursionError) as error:
        return [], f"the {one.side} cannot be read: {str(error)[:200]}"
    if isinstance(found, dict) and "error" in found:
        return [], f"the model answered: {str(found['error'])[:500]}"
    return [], f"the {one.side} has neither {names[0]} nor {names[1]}"


def _plain(body: bytes) -> bytes:
    if not body.startswith(_GZIP):
        return body
    inflating = zlib.decompressobj(wbits=31)
    plain = inflating.decompress(body, MOST_BYTES)
    if inflating.unconsumed_tail:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes when decompressed")
    return plain


def _v2(tensor: dict[str, Any]) -> TensorData:
    shape = [int(size) for size in tensor["shape"]]
    if "data" not in tensor:
        raise ValueError(f"tensor {tensor['name']!r} has no data in JSON (binary tensors are not read)")
    data = _flat(tensor["data"])
    count = 1
    for size in shape:
        count *= size
    if count != len(data):
        raise ValueError(f"tensor {tensor['name']!r} has {len(data)} values for the shape {shape}")
    return TensorData(name=str(tensor["name"]), datatype=str(tensor["datatype"]), shape=shape, data=data)


def _v1(name: str, rows: Any) -> list[TensorData]:
    """Rows as v1 has them: of named values one tensor for each name, else one tensor."""
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{name} is no list of rows")
    if all(isinstance(row, dict) for row in rows):
        columns = sorted({key for row in rows for key in row})
        return [_tensor(column, [row.get(column) for row in rows], [len(rows), 1]) for column in columns]
    shape: list[int] = []
    level: Any = rows
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    data = _flat(rows)
    if len(data) != _product(shape):
        raise ValueError(f"the rows of {name} differ in length")
    return [_tensor(name, data, shape)]


def _tensor(name: str, data: list[Any], shape: list[int]) -> TensorData:
    values: list[Scalar] = [
        value if value is None or isinstance(value, str | int | float | bool) else str(value) for value in data
    ]
    return TensorData(name=name, datatype=_datatype(values), shape=shape, data=values)


def _datatype(values: list[Scalar]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "BOOL"
    if kinds <= {int}:
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def _flat(data: Any) -> list[Scalar]:
    if not isinstance(data, list):
        raise TypeError("data is no list")
    flat: list[Any] = data
    while any(isinstance(value, list) for value in flat):
        flat = [inner for value in flat for inner in (value if isinstance(value, list) else [value])]
    return flat


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
