"""Models that are made to harm whoever loads them, and models that are merely wrong. All built by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
ANY = "evil"


def _value(name: str, kind: int = TensorProto.FLOAT, shape: tuple[int | None, ...] = (None, 1)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    initializers: list[onnx.TensorProto] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs or [_value("x")], outputs or [_value("y")], initializers or [])
    opsets = [*OPSETS, helper.make_opsetid(ANY, 1)] if functions else OPSETS
    model = helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=9)
    return bytes(model.SerializeToString())


def nested_functions(depth: int = 30) -> bytes:
    """Each function calls the next one twice: 2**depth operators from some bytes."""
    functions = []
    for level in range(depth):
        callee, domain = (f"f{level - 1}", ANY) if level else ("Neg", "")
        nodes = [
            helper.make_node(callee, ["a"], ["b"], domain=domain),
            helper.make_node(callee, ["b"], ["c"], domain=domain),
        ]
        functions.append(
            helper.make_function(ANY, f"f{level}", ["a"], ["c"], nodes, [*OPSETS, helper.make_opsetid(ANY, 1)])
        )
    return _model([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain=ANY)], functions=functions)


def functions_inside_a_subgraph(depth: int = 30) -> bytes:
    """The same, hidden in the branch of an If."""
    model = onnx.ModelProto.FromString(nested_functions(depth))
    call = model.graph.node[0]
    branches = {}
    for name in ("then_branch", "else_branch"):
        inner = helper.make_node(call.op_type, ["x"], ["z"], domain=ANY)
        branches[name] = helper.make_graph([inner], name, [], [_value("z")])
    condition = numpy_helper.from_array(np.array(True), "yes")
    nodes = [helper.make_node("If", ["yes"], ["y"], **branches)]
    return _model(nodes, initializers=[condition], functions=list(model.functions))


def recursive_function() -> bytes:
    """A function that calls itself."""
    node = helper.make_node("f", ["a"], ["b"], domain=ANY)
    function = helper.make_function(ANY, "f", ["a"], ["b"], [node], [*OPSETS, helper.make_opsetid(ANY, 1)])
    return _model([helper.make_node("f", ["x"], ["y"], domain=ANY)], functions=[function])


def deep_chain(depth: int = 500) -> bytes:
    """Functions that call each other in a long chain, each once."""
    functions = []
    for level in range(depth):
        callee, domain = (f"f{level - 1}", ANY) if level else ("Neg", "")
        nodes = [helper.make_node(callee, ["a"], ["b"], domain=domain)]
        functions.append(
            helper.make_function(ANY, f"f{level}", ["a"], ["b"], nodes, [*OPSETS, helper.make_opsetid(ANY, 1)])
        )
    return _model([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain=ANY)], functions=functions)


def endless_loop() -> bytes:
    """A Loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [_value("i", TensorProto.INT64, ()), _value("c", TensorProto.BOOL, ()), _value("v")],
        [_value("d", TensorProto.BOOL, ()), _value("w")],
    )
    condition = numpy_helper.from_array(np.array(True), "yes")
    return _model([helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)], initializers=[condition])


def asks_for(gibibytes: int = 16) -> bytes:
    """A few bytes that ask for that much memory at the first run."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "many"], ["big"]),
        helper.make_node("ConstantOfShape", ["big"], ["full"]),
        helper.make_node("ReduceSum", ["full"], ["sum"], keepdims=1),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    many = numpy_helper.from_array(np.array([gibibytes * 2**28, 1], dtype=np.int64), "many")
    return _model(nodes, initializers=[many])


def constant_of(gibibytes: int = 16) -> bytes:
    """The same, folded when the model is loaded."""
    size = numpy_helper.from_array(np.array([gibibytes * 2**28], dtype=np.int64), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["full"]),
        helper.make_node("ReduceSum", ["full"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return _model(nodes, initializers=[size])


def external_data(path: str = "/etc/passwd") -> bytes:
    """An initializer whose values lie in another file."""
    tensor = numpy_helper.from_array(np.zeros((1, 1), dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", path
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[tensor])


def external_data_in_a_subgraph() -> bytes:
    """The same, as a constant inside the branch of an If."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    branch = helper.make_graph([helper.make_node("Constant", [], ["z"], value=tensor)], "b", [], [_value("z")])
    condition = numpy_helper.from_array(np.array(True), "yes")
    return _model(
        [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)], initializers=[condition]
    )


def foreign_operator(domain: str = "com.microsoft") -> bytes:
    """An operator that only onnxruntime knows."""
    return _model([helper.make_node("Gelu", ["x"], ["y"], domain=domain)])


def random_output() -> bytes:
    """Another answer each time."""
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    return _model(nodes)


def many_nodes(count: int) -> bytes:
    """A chain of `count` operators."""
    names = ["x", *(f"n{index}" for index in range(count - 1)), "y"]
    return _model([helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)])


def many_empty_parts(count: int) -> bytes:
    """Two bytes for each part of the file: cheap to send, dear to parse."""
    return _model([helper.make_node("Neg", ["x"], ["y"])]) + b"\x3a" + _varint(2 * count) + b"\x0a\x00" * count


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def regression() -> bytes:
    """A sound model without a decision: one number for each row."""
    return _model([helper.make_node("Neg", ["x"], ["y"])])


def images() -> bytes:
    """Takes pictures, not rows of a table."""
    node = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    return _model([node], [_value("x", shape=(None, 3, 8, 8))], [_value("y", shape=(None, 3, 1, 1))])


def fixed_batch() -> bytes:
    """A model that takes one row at a time."""
    return _model([helper.make_node("Neg", ["x"], ["y"])], [_value("x", shape=(1, 1))], [_value("y", shape=(1, 1))])


def integers() -> bytes:
    """One integer column `k`, answered as it came."""
    nodes = [helper.make_node("Identity", ["k"], ["y"])]
    return _model(nodes, [_value("k", TensorProto.INT64)], [_value("y", TensorProto.INT64)])


def classifier(
    *,
    classes: list[str] | list[int],
    post: str = "SOFTMAX",
    zipmap: bool = False,
    scale: float = 1.0,
) -> bytes:
    """Inputs `a` and `b`, FP32 (N, 1); a LinearClassifier over both, its outputs `label` and `probabilities`."""
    texts = {"classlabels_strings": classes} if isinstance(classes[0], str) else {"classlabels_ints": classes}
    count = len(classes)
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["row"], axis=1),
        helper.make_node(
            "LinearClassifier",
            ["row"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            coefficients=[float(index) * scale for index in range(count) for _ in range(2)],
            intercepts=[0.0] * count,
            multi_class=1,
            post_transform=post,
            **texts,
        ),
    ]
    kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    outputs = [_value("label", kind, (None,))]
    if zipmap:
        labels = {"classlabels_strings": classes} if isinstance(classes[0], str) else {"classlabels_int64s": classes}
        nodes.append(helper.make_node("ZipMap", ["raw"], ["maps"], domain="ai.onnx.ml", **labels))
        maps = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("maps", helper.make_sequence_type_proto(maps)))
    else:
        nodes.append(helper.make_node("Identity", ["raw"], ["probabilities"]))
        outputs.append(_value("probabilities", TensorProto.FLOAT, (None, count)))
    return _model(nodes, [_value("a"), _value("b")], outputs)
