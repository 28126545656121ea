"""Tree ensembles as ONNX's `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble` (ai.onnx.ml) hold them.

Flattened for walking: a child below zero is a leaf (`~child` its number), parents come before their children, and
nodes and leaves lie tree by tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from affiant.explainer.methods.compiled import compiled
from affiant.explainer.methods.errors import NotAdditive
from affiant.explainer.methods.table import Matrix

LEQ, LT, GTE, GT, EQ, NEQ = range(6)
MODES = {"BRANCH_LEQ": LEQ, "BRANCH_LT": LT, "BRANCH_GTE": GTE, "BRANCH_GT": GT, "BRANCH_EQ": EQ, "BRANCH_NEQ": NEQ}
MOST_NODES = 200_000
"""Larger ensembles take longer to read than a worker has for one step; KernelSHAP serves them."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Modes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Trees:
    """An ensemble whose scores are `base` plus the sum of the reached leaves' weights.

    `feature`, `threshold`, `mode`, `missing`, `yes`, `no` have one entry for each node, `roots` for each tree (a node,
    or below zero a leaf). Tree t has the leaves from `first_leaves[t]` up to `first_leaves[t + 1]`. `weights` has the
    shape (leaves, scores), `base` (scores,).
    """

    feature: Ints
    threshold: Matrix
    mode: Modes
    missing: Flags
    yes: Ints
    no: Ints
    roots: Ints
    first_leaves: Ints
    weights: Matrix
    base: Matrix

    def scores(self, features: Matrix) -> Matrix:
        """The scores (N, scores) for features (N, F), before any transformation."""
        reached = self.decisions(features)
        return _sum(reached, self.yes, self.no, self.roots, self.weights, self.base)

    def decisions(self, features: Matrix) -> Flags:
        """Which way each node sends each row, (N, nodes): true for `yes`."""
        return _decide(features, self.feature, self.threshold, self.mode, self.missing)


@dataclass
class _Node:
    feature: int
    threshold: float
    mode: int
    missing: bool
    yes: tuple[str, Any]
    no: tuple[str, Any]


def read_classic(attributes: Mapping[str, Any], scores: int, kind: str) -> Trees:
    """The trees of a `TreeEnsembleClassifier` (`kind` "class") or `TreeEnsembleRegressor` ("target")."""
    values = _first(attributes, "nodes_values_as_tensor", "nodes_values")
    weights = _first(attributes, f"{kind}_weights_as_tensor", f"{kind}_weights")
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    if len(keys) > 2 * MOST_NODES:
        raise NotAdditive(f"the trees have more than {MOST_NODES} nodes")
    missing = attributes.get("nodes_missing_value_tracks_true") or [0] * len(keys)
    leaves: dict[Any, Matrix] = {}
    nodes: dict[Any, _Node] = {}
    for at, (tree, node) in enumerate(keys):
        mode = _text(attributes["nodes_modes"][at])
        if mode == "LEAF":
            leaves[tree, node] = np.zeros(scores)
            continue
        if mode not in MODES:
            raise NotAdditive(f"the trees have nodes of the mode {mode}")
        ends = [_end((tree, attributes[f"nodes_{side}nodeids"][at])) for side in ("true", "false")]
        nodes[tree, node] = _Node(
            attributes["nodes_featureids"][at], float(values[at]), MODES[mode], bool(missing[at]), ends[0], ends[1]
        )
    owners = zip(attributes[f"{kind}_treeids"], attributes[f"{kind}_nodeids"], strict=True)
    for owner, score, weight in zip(owners, attributes[f"{kind}_ids"], weights, strict=True):
        if owner not in leaves or not 0 <= score < scores:
            raise NotAdditive("a weight of the trees belongs to no leaf or to no score")
        leaves[owner][score] += float(weight)
    roots = list({tree: (tree, node) for tree, node in reversed(keys)}.values())
    return _flat(nodes, leaves, [("any", root) for root in reversed(roots)], scores)


def read_unified(attributes: Mapping[str, Any]) -> Trees:
    """The trees of a `TreeEnsemble` (ai.onnx.ml, version 5), where a leaf has one weight for one score."""
    if attributes.get("membership_values") is not None:
        raise NotAdditive("the trees ask for membership in a set")
    modes = np.asarray(attributes["nodes_modes"]).reshape(-1)
    splits = np.asarray(attributes["nodes_splits"], dtype=np.float64).reshape(-1)
    # The order of the specification's enumeration.
    order = (LEQ, LT, GTE, GT, EQ, NEQ)
    scores = int(attributes.get("n_targets", 1))
    weights = np.asarray(attributes["leaf_weights"], dtype=np.float64).reshape(-1)
    leaves: dict[Any, Matrix] = {}
    for at, (score, weight) in enumerate(zip(attributes["leaf_targetids"], weights, strict=True)):
        leaves[at] = np.zeros(scores)
        leaves[at][score] = weight
    missing = attributes.get("nodes_missing_value_tracks_true") or [0] * len(modes)
    nodes: dict[Any, _Node] = {}
    for at, mode in enumerate(modes.tolist()):
        if mode >= len(order):
            raise NotAdditive("the trees ask for membership in a set")
        ends = [
            ("leaf" if attributes[f"nodes_{side}leafs"][at] else "node", attributes[f"nodes_{side}nodeids"][at])
            for side in ("true", "false")
        ]
        nodes[at] = _Node(
            attributes["nodes_featureids"][at], splits[at], order[mode], bool(missing[at]), ends[0], ends[1]
        )
    return _flat(nodes, leaves, [_root(nodes[root], root) for root in attributes["tree_roots"]], scores)


def _root(node: _Node, at: int) -> tuple[str, Any]:
    """A tree that is one leaf is written as a node whose branches are the same leaf."""
    return node.yes if node.yes == node.no and node.yes[0] == "leaf" else ("node", at)


def _flat(
    nodes: Mapping[Any, _Node], leaves: Mapping[Any, Matrix], roots: Sequence[tuple[str, Any]], scores: int
) -> Trees:
    """Nodes in the order of a walk from the roots: parents before children, every leaf reached once."""
    order: list[_Node] = []
    weights: list[Matrix] = []
    links: list[list[int]] = []

    def place(end: tuple[str, Any]) -> int:
        kind, key = end
        if kind != "node" and key in leaves:
            weights.append(leaves[key])
            return ~(len(weights) - 1)
        if kind == "leaf" or key not in nodes:
            raise NotAdditive("a branch of the trees leads nowhere")
        order.append(nodes[key])
        links.append([0, 0])
        if len(order) > MOST_NODES:
            raise NotAdditive(f"the trees have more than {MOST_NODES} nodes, or run in a circle")
        return len(order) - 1

    starts: list[int] = []
    first_leaves = [0]
    at = 0
    for root in roots:
        starts.append(place(root))
        while at < len(order):
            links[at] = [place(order[at].yes), place(order[at].no)]
            at += 1
        first_leaves.append(len(weights))
    ways = np.array(links, dtype=np.int64).reshape(-1, 2)
    return Trees(
        feature=np.array([node.feature for node in order], dtype=np.int64),
        threshold=np.array([node.threshold for node in order], dtype=np.float64),
        mode=np.array([node.mode for node in order], dtype=np.uint8),
        missing=np.array([node.missing for node in order], dtype=np.bool_),
        yes=np.ascontiguousarray(ways[:, 0]),
        no=np.ascontiguousarray(ways[:, 1]),
        roots=np.array(starts, dtype=np.int64),
        first_leaves=np.array(first_leaves, dtype=np.int64),
        weights=np.array(weights, dtype=np.float64).reshape(-1, scores),
        base=np.zeros(scores),
    )


def _end(key: Any) -> tuple[str, Any]:
    return ("any", key)


def _first(attributes: Mapping[str, Any], *names: str) -> Any:
    return next((attributes[name] for name in names if attributes.get(name) is not None), [])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@compiled
def goes_yes(value: float, split: float, mode: int, missing: bool) -> bool:
    """Which way a node sends a value; NaN is equal to nothing, and goes where `missing` says."""
    if mode == 0:
        yes = value <= split
    elif mode == 1:
        yes = value < split
    elif mode == 2:
        yes = value >= split
    elif mode == 3:
        yes = value > split
    elif mode == 4:
        yes = value == split
    else:
        yes = value != split
    return yes or (missing and np.isnan(value))


@compiled
def _decide(features: Matrix, feature: Ints, threshold: Matrix, mode: Modes, missing: Flags) -> Flags:
    rows, nodes = features.shape[0], feature.shape[0]
    decided = np.empty((rows, nodes), dtype=np.bool_)
    for row in range(rows):
        for node in range(nodes):
            decided[row, node] = goes_yes(features[row, feature[node]], threshold[node], mode[node], missing[node])
    return decided


@compiled
def _sum(decided: Flags, yes: Ints, no: Ints, roots: Ints, weights: Matrix, base: Matrix) -> Matrix:
    rows, scores = decided.shape[0], weights.shape[1]
    total = np.empty((rows, scores))
    for row in range(rows):
        total[row] = base
        for root in roots:
            at = root
            while at >= 0:
                at = yes[at] if decided[row, at] else no[at]
            for score in range(scores):
                total[row, score] += weights[~at, score]
    return total
