"""Models that are sums of terms, read from their ONNX graph: tree ensembles and linear models.

Such a model is `link(base + a sum of terms of the features)`, and each feature comes from one raw column. What is
read is held against the model itself, on background rows and on rows mixed from two of them, before it is used: where
the two differ, there is no `Additive`, and KernelSHAP serves the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from affiant.explainer.methods.errors import NotAdditive, Unexplainable
from affiant.explainer.methods.provenance import Columns, Provenance, attributes
from affiant.explainer.methods.sessions import open_session
from affiant.explainer.methods.table import Matrix, Table
from affiant.explainer.methods.trees import Trees, read_classic, read_unified

Link = Literal["identity", "logistic", "softmax", "normalised logistic"]
"""How scores become outputs: as they are, 1/(1+exp(-s)) each, softmax, or logistic and then divided by their sum."""

TOLERANCE = 2e-5
"""Outputs and the model's may differ by this share of the largest: the model sums in 32 bits."""

PROOF_ROWS = 500
Terms = TypeVar("Terms", bound="Trees | Linear")
TREES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble")
LINEAR = ("LinearClassifier", "LinearRegressor")


@dataclass(frozen=True)
class Linear:
    """A linear model: `base` plus the features times `weights`, of the shapes (scores,) and (F, scores)."""

    weights: Matrix
    base: Matrix

    def scores(self, features: Matrix) -> Matrix:
        """The scores (N, scores) for features (N, F), before any transformation."""
        return np.asarray(features @ self.weights + self.base, dtype=np.float64)


@dataclass(frozen=True)
class Additive:
    """A model as a sum of terms. `columns` (F,) is the raw column of each feature that the terms take."""

    terms: Trees | Linear
    link: Link
    columns: Columns
    table: Table
    session: onnxruntime.InferenceSession

    @property
    def used(self) -> int:
        """How many raw columns the terms depend on."""
        if isinstance(self.terms, Trees):
            return len(np.unique(self.columns[self.terms.feature]))
        return len(np.unique(self.columns[np.any(self.terms.weights != 0, axis=1)]))

    def features(self, rows: Matrix) -> Matrix:
        """What the terms take, (N, F), for coded rows (N, columns): computed by the model's own graph."""
        found: npt.NDArray[Any] = self.session.run(None, self.table.feed(rows))[0]
        if found.dtype != np.float64:
            # The operators compare and multiply 32-bit numbers unless they are given 64-bit ones.
            found = found.astype(np.float32)
        return np.asarray(found.reshape(len(rows), -1), dtype=np.float64)

    def outputs(self, rows: Matrix) -> Matrix:
        """The model's outputs (N, C) for coded rows, as read."""
        return linked(self.terms.scores(self.features(rows)), self.link)


def linked(scores: Matrix, link: Link) -> Matrix:
    """Outputs (…, C) from scores (…, C)."""
    if link == "identity":
        return scores
    if link == "softmax":
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    chances = 1.0 / (1.0 + np.exp(-scores))
    return np.asarray(chances if link == "logistic" else chances / chances.sum(axis=-1, keepdims=True))


def read_additive(
    model: bytes, output: str, table: Table, reference: Callable[[Matrix], Matrix], proof: Matrix
) -> Additive:
    """The model as a sum of terms, for its output `output`; `reference` gives that output (N, C) for coded rows.

    `proof` are coded rows on which the two must agree. Raises `NotAdditive` saying what stands in the way.
    """
    try:
        found = _read(onnx.load_model_from_string(model), output, table)
    except NotAdditive:
        raise
    except Exception as error:
        # Whatever the parser, the graph or onnxruntime stumbles over here, the model itself runs.
        raise NotAdditive(f"its graph is not understood: {type(error).__name__}: {error}") from error
    try:
        _prove(found, reference, proof)
    except Unexplainable as error:
        raise NotAdditive(str(error)) from error
    return found


def _read(model: onnx.ModelProto, output: str, table: Table) -> Additive:
    if model.functions:
        raise NotAdditive("its graph calls functions of its own")
    node, normalised = _scoring_node(model.graph, output)
    found = attributes(node)
    terms, link = _terms(node.op_type, found)
    if normalised and link != "softmax" and not _complements(terms, link):
        if link != "logistic":
            raise NotAdditive("its scores are divided by their sum")
        link = "normalised logistic"
    columns = Provenance(model.graph, _inputs(table)).of(node.input[0]).reshape(-1)
    return Additive(terms, link, columns, table, _feature_session(model, node.input[0]))


def _scoring_node(graph: onnx.GraphProto, output: str) -> tuple[onnx.NodeProto, bool]:
    """The node that makes the scores, from the output backwards, and whether they are divided by their sum."""
    makers = {name: node for node in graph.node for name in node.output}
    normalised = False
    for _ in range(len(graph.node)):
        node = makers.get(output)
        if node is None:
            break
        if node.op_type in (*TREES, *LINEAR):
            return node, normalised
        if node.op_type == "Normalizer" and attributes(node).get("norm") == b"L1":
            normalised = True
        elif node.op_type not in ("Identity", "Cast", "ZipMap"):
            raise NotAdditive(f"its outputs are made by the operator {node.op_type}")
        output = node.input[0]
    raise NotAdditive("no operator that is a sum of terms makes its outputs")


def _terms(operator: str, found: Mapping[str, Any]) -> tuple[Trees | Linear, Link]:
    link = _link(found)
    if operator == "LinearRegressor":
        return _linear(found, int(found.get("targets", 1))), link
    if operator == "LinearClassifier":
        labels = _labels(found)
        terms = _linear(found, len(np.asarray(found["coefficients"])) // _width(found, labels))
        return (_both_classes(terms, link) if len(labels) == 2 and len(terms.base) == 1 else terms), link
    if found.get("aggregate_function", b"SUM") not in (b"SUM", b"AVERAGE", 0, 1):
        raise NotAdditive("the trees are joined by their smallest or largest value")
    if operator == "TreeEnsembleClassifier":
        return _classifier(found, link), link
    if operator == "TreeEnsembleRegressor":
        trees = read_classic(found, int(found.get("n_targets", 1)), "target")
    else:
        trees = read_unified(found)
    if found.get("aggregate_function") in (b"AVERAGE", 0):
        trees = replace(trees, weights=trees.weights / len(trees.roots))
    return _with_base(trees, found), link


def _classifier(found: Mapping[str, Any], link: Link) -> Trees:
    classes = len(_labels(found))
    trees = read_classic(found, classes, "class")
    used = sorted(set(found["class_ids"]))
    if classes == 2 and len(used) == 1:
        # One score stands for both classes, whichever its number: it is that of the second.
        base = np.asarray(_base(found) or [0.0], dtype=np.float64)[-1:]
        return _both_classes(replace(trees, weights=trees.weights[:, used], base=base), link)
    return _with_base(trees, found)


def _both_classes(terms: Terms, link: Link) -> Terms:
    """Two scores from one that speaks for the second class: its complement to 1, or its negative under a link."""
    rest = 1.0 - terms.base if link == "identity" else -terms.base
    weights = np.ascontiguousarray(np.hstack([-terms.weights, terms.weights]))
    return replace(terms, weights=weights, base=np.concatenate([rest, terms.base]))


def _with_base(trees: Trees, found: Mapping[str, Any]) -> Trees:
    base = _base(found)
    if base and len(base) != len(trees.base):
        raise NotAdditive("the trees have base values that do not fit their scores")
    return replace(trees, base=np.array(base or trees.base, dtype=np.float64))


def _base(found: Mapping[str, Any]) -> list[float]:
    for name in ("base_values_as_tensor", "base_values"):
        if found.get(name) is not None:
            return [float(value) for value in np.asarray(found[name]).reshape(-1)]
    return []


def _linear(found: Mapping[str, Any], scores: int) -> Linear:
    weights = np.asarray(found["coefficients"], dtype=np.float64).reshape(scores, -1).T
    base = np.asarray(found.get("intercepts") or [0.0] * scores, dtype=np.float64)
    return Linear(np.ascontiguousarray(weights), base)


def _width(found: Mapping[str, Any], labels: list[Any]) -> int:
    """The features of a linear classifier: it has coefficients for each score, and as many intercepts as scores."""
    scores = len(found.get("intercepts") or labels)
    return len(np.asarray(found["coefficients"])) // scores


def _labels(found: Mapping[str, Any]) -> list[Any]:
    names = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
    return next((list(found[name]) for name in names if found.get(name)), [])


def _link(found: Mapping[str, Any]) -> Link:
    # `TreeEnsemble` numbers what the others name.
    names: dict[Any, Link] = {b"NONE": "identity", b"LOGISTIC": "logistic", b"SOFTMAX": "softmax"}
    numbers: dict[Any, Link] = {0: "identity", 1: "softmax", 2: "logistic"}
    how = found.get("post_transform", b"NONE")
    link = (names | numbers).get(how)
    if link is None:
        raise NotAdditive(f"its scores are transformed by {how!r}")
    return link


def _complements(terms: Trees | Linear, link: Link) -> bool:
    """Whether two logistic outputs add up to 1 anyway, as those of a score and its negative do."""
    if link != "logistic" or len(terms.base) != 2:
        return False
    return bool(np.allclose(terms.weights.sum(axis=1), 0.0) and np.allclose(terms.base.sum(), 0.0))


def _inputs(table: Table) -> dict[str, Columns]:
    places: dict[str, list[tuple[int, int]]] = {}
    for at, coding in enumerate(table.codings):
        places.setdefault(coding.column.input, []).append((coding.column.index, at))
    return {name: np.array([at for _, at in sorted(found)], dtype=np.int64) for name, found in places.items()}


def _feature_session(model: onnx.ModelProto, tensor: str) -> onnxruntime.InferenceSession:
    """A session over the part of the graph that makes `tensor`."""
    makers = {name: node for node in model.graph.node for name in node.output}
    needed, pending = set[str](), [tensor]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending.extend(makers[name].input if name in makers else ())
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.output[:], part.graph.initializer[:], part.graph.value_info[:]
    part.graph.node.extend(node for node in model.graph.node if needed & set(node.output))
    part.graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    if tensor not in makers:
        part.graph.node.append(onnx.helper.make_node("Identity", [tensor], [f"{tensor}.features"]))
        tensor = f"{tensor}.features"
        if not any(each.domain in ("", "ai.onnx") for each in part.opset_import):
            part.opset_import.append(onnx.helper.make_opsetid("", 13))
    part.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return open_session(part.SerializeToString())


def _prove(found: Additive, reference: Callable[[Matrix], Matrix], proof: Matrix) -> None:
    random = np.random.default_rng(0)
    rows = proof if len(proof) <= PROOF_ROWS else proof[random.choice(len(proof), PROOF_ROWS, replace=False)]
    others = rows[random.permutation(len(rows))]
    from_others = random.random(rows.shape) < 0.5
    mixed = np.where(from_others, others, rows)
    for given in (rows, mixed):
        _same(found.outputs(given), reference(given))
    taken = from_others[:, np.maximum(found.columns, 0)]
    expected = np.where(taken, found.features(others), found.features(rows))
    if not np.array_equal(found.features(mixed), expected, equal_nan=True):
        raise NotAdditive("a feature depends on more columns than its graph shows")


def _same(read: Matrix, given: Matrix) -> None:
    if read.shape != given.shape:
        raise NotAdditive(f"its outputs have the shape {given.shape}, the sum of its terms {read.shape}")
    apart = float(np.max(np.abs(read - given), initial=0.0))
    scale = max(1.0, float(np.max(np.abs(given), initial=0.0)))
    if not apart <= TOLERANCE * scale:
        raise NotAdditive(f"the sum of its terms is {apart:.2g} away from what the model says")
