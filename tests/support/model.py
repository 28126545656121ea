"""A small real model for tests: a logistic regression over two columns, written as an ONNX graph by hand."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from affiant.common.events import Column, Decision, ModelSpec, Policy, TensorSpec

COLUMNS = ("income", "debt")


def loan_model(weight: float = 1.0) -> bytes:
    """Inputs `income` and `debt`, FP32 (N, 1). Outputs `label` (N,) INT64, 1 = granted, and `probabilities` (N, 2).

    The probability of 1 is the logistic function of `weight` · (income - debt).
    """
    weights = numpy_helper.from_array(np.array([[weight], [-weight]], dtype=np.float32), "weights")
    nodes = [
        helper.make_node("Concat", list(COLUMNS), ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["granted"]),
        helper.make_node("Neg", ["logit"], ["minus"]),
        helper.make_node("Sigmoid", ["minus"], ["denied"]),
        helper.make_node("Concat", ["denied", "granted"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "loan",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in COLUMNS],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def background_csv(rows: int = 60) -> bytes:
    """Rows of income and debt between 0 and 10, and a protected column `sex` that the model does not see."""
    random = np.random.default_rng(7)
    lines = [
        f"{i:.2f},{d:.2f},{s}"
        for i, d, s in zip(
            random.uniform(0, 10, rows), random.uniform(0, 10, rows), random.choice(["f", "m"], rows), strict=True
        )
    ]
    return ("income,debt,sex\n" + "\n".join(lines) + "\n").encode()


def loan_spec(data: bytes, version: int = 1, policy: Policy | None = None) -> ModelSpec:
    """What the registry would say of `data`."""
    return ModelSpec(
        model="loan",
        version=version,
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        author="ana",
        inputs=[TensorSpec(name=name, datatype="FP32", shape=[-1, 1]) for name in COLUMNS],
        outputs=[
            TensorSpec(name="label", datatype="INT64", shape=[-1]),
            TensorSpec(name="probabilities", datatype="FP32", shape=[-1, 2]),
        ],
        columns=[Column(name=name, kind="numeric", datatype="FP32", input=name) for name in COLUMNS],
        protected=["sex"],
        decision=Decision(label_output="label", probability_output="probabilities", classes=[0, 1], favourable=1),
        policy=policy or Policy(),
    )


def limit_model() -> bytes:
    """A regression: inputs as above, output `limit` FP32 (N, 1) = 10 · income - 5 · debt, a credit limit."""
    weights = numpy_helper.from_array(np.array([[10.0], [-5.0]], dtype=np.float32), "weights")
    nodes = [
        helper.make_node("Concat", list(COLUMNS), ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["limit"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in COLUMNS]
    output = helper.make_tensor_value_info("limit", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "limit", inputs, [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def limit_spec(data: bytes) -> ModelSpec:
    """What the registry would say of `data`, when a limit of at least 20 is hoped for."""
    decision = Decision(
        label_output="",
        probability_output="",
        classes=["below", "above"],
        favourable="above",
        value_output="limit",
        threshold=20.0,
    )
    outputs = [TensorSpec(name="limit", datatype="FP32", shape=[-1, 1])]
    return msgspec.structs.replace(loan_spec(data), model="limit", outputs=outputs, decision=decision)
