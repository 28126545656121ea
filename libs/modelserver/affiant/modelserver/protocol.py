"""The documents of the Open Inference Protocol v2, REST, with JSON tensors.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from affiant.common.errors import Problem
from affiant.common.events import ModelSpec, TensorData, TensorSpec

PLATFORM = "onnxruntime_onnx"
SERVER = {"name": "affiant", "version": version("affiant"), "extensions": []}


class RequestTensor(Struct):
    """An input: `data` flat or nested, in row-major order. Without `data` it is a binary tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class RequestedOutput(Struct):
    """An output that the client wants; without any, it gets all."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(Struct):
    """What a client asks."""

    inputs: list[RequestTensor]
    id: str = ""
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


class InferResponse(Struct):
    """What a client gets."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[TensorData]


_requests = msgspec.json.Decoder(InferRequest)


def read_request(body: bytes) -> InferRequest:
    """The request in `body`; raises `Problem` (400) that names the field."""
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(f"the body is not an inference request: {error}") from error


def model_metadata(spec: ModelSpec) -> dict[str, Any]:
    """`GET /v2/models/{model}`; -1 in a shape is a variable dimension."""
    return {
        "name": spec.model,
        "versions": [str(spec.version)],
        "platform": PLATFORM,
        "inputs": [_tensor(tensor) for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
    }


def model_config(spec: ModelSpec) -> dict[str, Any]:
    """`GET …/config`, Triton's extension, as far as its clients need it; 0 means: the server forms no batches."""
    return {
        "name": spec.model,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": [_config(tensor) for tensor in spec.inputs],
        "output": [_config(tensor) for tensor in spec.outputs],
    }


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _config(tensor: TensorSpec) -> dict[str, Any]:
    kind = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    return {"name": tensor.name, "data_type": kind, "dims": tensor.shape}
