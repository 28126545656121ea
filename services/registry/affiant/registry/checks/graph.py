"""Reading an ONNX file before anything is expanded or run.

The checker and onnxruntime expand model-local functions first and count never: a model of 1,448 bytes can hang
both. So the nodes are counted here, each function once, and multiplied by how often it is called.

ONNX: https://github.com/onnx/onnx/blob/main/docs/IR.md; tensor types by the Open Inference Protocol's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]  # ships no types

from affiant.common.events import TensorSpec
from affiant.registry.domain.manifest import Unfit

OPERATOR_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MAX_PARTS = 5_000_000
MAX_DEPTH = 32

DATATYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.STRING: "BYTES",
}

ZIPMAP_HINT = (
    "export the classifier without ZipMap, so that the probabilities are one tensor "
    "(skl2onnx: options={'zipmap': False})"
)

Key = tuple[str, str, str]


def parse(data: bytes) -> onnx.ModelProto:
    """The model in `data`; raises `Unfit` when it is no ONNX file or an empty one."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        if "alloc" in str(error):  # protobuf's way of saying that memory ran out
            raise MemoryError from error
        raise Unfit(f"this is no ONNX file ({error}); send the bytes that the exporter wrote") from error
    if not model.ir_version or not model.graph.output:
        raise Unfit("this is no ONNX model: it has no graph with outputs; send the bytes that the exporter wrote")
    return model


def parts(model: onnx.ModelProto) -> Iterator[Message]:
    """Every node and tensor in the file, in sub-graphs, functions and training graphs too."""
    stack: list[Message] = [model]
    count = 0
    while stack:
        message = stack.pop()
        count += 1
        if count > MAX_PARTS:
            raise Unfit(f"the file holds more than {MAX_PARTS} parts; export a smaller model")
        if isinstance(message, (onnx.NodeProto, onnx.TensorProto)):
            yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else [value])


def refuse_external_data(model: onnx.ModelProto) -> str:
    """Raises `Unfit` when a tensor's values lie in another file: those bytes would not be in the digest."""
    for part in parts(model):
        if isinstance(part, onnx.TensorProto) and _is_external(part):
            raise Unfit(
                f"the tensor {part.name!r} refers to data outside the file, which no digest covers; "
                "save the model as one file (onnx.save_model(…, save_as_external_data=False))"
            )
    return "all values are inside the file"


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.external_data) or tensor.data_location == onnx.TensorProto.EXTERNAL


def refuse_foreign_operators(model: onnx.ModelProto) -> str:
    """Raises `Unfit` when an operator is of neither standard domain nor a function of the model itself."""
    functions = {_key(function.domain, function.name, function) for function in model.functions}
    foreign = set()
    kinds = set()
    for part in parts(model):
        if isinstance(part, onnx.NodeProto):
            kinds.add((part.domain, part.op_type))
            if part.domain not in OPERATOR_DOMAINS and _key(part.domain, part.op_type, part) not in functions:
                foreign.add(f"{part.domain}.{part.op_type}")
    if foreign:
        raise Unfit(
            f"operators outside ai.onnx and ai.onnx.ml: {', '.join(sorted(foreign)[:5])}; "
            "export the model with standard operators only, and before any optimiser has fused them"
        )
    return f"{len(kinds)} kinds of operators, all standard"


def count_nodes(model: onnx.ModelProto, limit: int) -> int:
    """How many nodes the model has once its functions are expanded; raises `Unfit` as soon as `limit` is passed."""
    counter = _Counter(model.functions, limit)
    total = counter.nodes(model.graph.node, 0)
    for function in model.functions:
        counter.call(_key(function.domain, function.name, function), 0)
    for training in model.training_info:
        total += counter.nodes(training.initialization.node, 0) + counter.nodes(training.algorithm.node, 0)
    return counter.within(total)


class _Counter:
    """Sizes of functions after expansion, each computed once, so that counting is linear in the file."""

    def __init__(self, functions: Iterable[onnx.FunctionProto], limit: int) -> None:
        self.functions = {_key(each.domain, each.name, each): each for each in functions}
        self.limit = limit
        self.sizes: dict[Key, int] = {}
        self.open: set[Key] = set()

    def within(self, total: int) -> int:
        if total > self.limit:
            raise Unfit(
                f"more than {self.limit} operators after expansion; export a smaller graph "
                "(a tree ensemble is one operator, not one for each tree)"
            )
        return total

    def nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > MAX_DEPTH:
            raise Unfit(f"graphs and functions nested more than {MAX_DEPTH} deep; export without functions")
        total = 0
        for node in nodes:
            total = self.within(total + 1 + self.inside(node, depth))
        return total

    def inside(self, node: onnx.NodeProto, depth: int) -> int:
        total = self.call(_key(node.domain, node.op_type, node), depth)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                total += self.nodes(graph.node, depth + 1)
        return total

    def call(self, key: Key, depth: int) -> int:
        function = self.functions.get(key)
        if function is None:
            return 0
        if key in self.open:
            raise Unfit(f"the function {function.name!r} calls itself; export the model without functions")
        if key not in self.sizes:
            self.open.add(key)
            self.sizes[key] = self.nodes(function.node, depth + 1)
            self.open.remove(key)
        return self.sizes[key]


def _key(domain: str, name: str, holder: onnx.NodeProto | onnx.FunctionProto) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, holder.overload)


def inputs(model: onnx.ModelProto) -> list[TensorSpec]:
    """What must be sent: the graph's inputs without those that have a value in the file."""
    known = {tensor.name for tensor in model.graph.initializer}
    found = [_tensor(value, "input") for value in model.graph.input if value.name not in known]
    if not found:
        raise Unfit("the model takes no input; export it with the columns of its table as inputs")
    return found


def outputs(model: onnx.ModelProto) -> list[TensorSpec]:
    """What the model answers, in order."""
    return [_tensor(value, "output") for value in model.graph.output]


def _tensor(value: onnx.ValueInfoProto, role: str) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        raise Unfit(f"the {role} {value.name!r} is no tensor; {ZIPMAP_HINT}")
    kind = value.type.tensor_type
    if kind.elem_type not in DATATYPES:
        known = onnx.TensorProto.DataType.items()
        name = next((name for name, number in known if number == kind.elem_type), f"number {kind.elem_type}")
        raise Unfit(f"the {role} {value.name!r} has the type {name}, which no request can carry; cast it in the graph")
    if not kind.HasField("shape"):
        raise Unfit(f"the {role} {value.name!r} has no shape; export the model with the number of its dimensions")
    shape = [_dimension(dimension) for dimension in kind.shape.dim]
    if role == "input" and (not shape or shape[0] != -1):
        raise Unfit(
            f"the input {value.name!r} has the fixed shape {shape}; export it with a variable first dimension, "
            "so that several rows can be sent at once"
        )
    return TensorSpec(name=value.name, datatype=DATATYPES[kind.elem_type], shape=shape)


def _dimension(dimension: Any) -> int:
    return int(dimension.dim_value) if dimension.HasField("dim_value") and dimension.dim_value >= 0 else -1


def class_labels(model: onnx.ModelProto) -> list[list[str | int]]:
    """The label lists that ai.onnx.ml operators of the graph carry (`classlabels_int64s`, `classlabels_strings`…)."""
    found: list[list[str | int]] = []
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name.startswith("classlabels_") and (attribute.ints or attribute.strings):
                strings = [text.decode("utf-8", "replace") for text in attribute.strings]
                found.append(strings or list(attribute.ints))
    return found
