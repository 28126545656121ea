"""A tree ensemble for tests, as an ONNX graph written by hand: 60 trees of depth 3 over three columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from affiant.common.events import Column, TensorSpec

NAMES = ("a", "b", "c")


def tree_model(trees: int = 60, depth: int = 3) -> tuple[bytes, dict[str, Any]]:
    """Inputs `a`, `b`, `c`, FP32 (N, 1); outputs `label` INT64 (N,) and `probabilities` FP32 (N, 2), of logistic sums.

    With the fields of a `ModelSpec` that differ from the loan model's.
    """
    random = np.random.default_rng(3)
    nodes, leaves = _forest(random, trees, depth)
    graph = helper.make_graph(
        [
            helper.make_node("Concat", list(NAMES), ["row"], axis=1),
            helper.make_node(
                "TreeEnsembleClassifier", ["row"], ["label", "probabilities"], domain="ai.onnx.ml",
                classlabels_int64s=[0, 1], post_transform="LOGISTIC", **nodes, **leaves,
            ),
        ],
        "trees",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in NAMES],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    fields = {
        "inputs": [TensorSpec(name=name, datatype="FP32", shape=[-1, 1]) for name in NAMES],
        "columns": [Column(name=name, kind="numeric", datatype="FP32", input=name) for name in NAMES],
    }
    return bytes(model.SerializeToString()), fields


def _forest(random: np.random.Generator, trees: int, depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
    inner = 2**depth - 1
    every = 2 ** (depth + 1) - 1
    nodes: dict[str, list[Any]] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {"treeids": [], "nodeids": [], "ids": [], "weights": []}
    for tree in range(trees):
        for node in range(every):
            branch = node < inner
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(node)
            nodes["featureids"].append(int(random.integers(len(NAMES))) if branch else 0)
            nodes["modes"].append("BRANCH_LEQ" if branch else "LEAF")
            nodes["values"].append(float(random.normal()) if branch else 0.0)
            nodes["truenodeids"].append(2 * node + 1 if branch else 0)
            nodes["falsenodeids"].append(2 * node + 2 if branch else 0)
            if not branch:
                for name, value in (("treeids", tree), ("nodeids", node), ("ids", 0)):
                    leaves[name].append(value)
                leaves["weights"].append(float(random.normal() / trees))
    return {f"nodes_{name}": value for name, value in nodes.items()}, {
        f"class_{name}": value for name, value in leaves.items()
    }
