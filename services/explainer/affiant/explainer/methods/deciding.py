"""Decisions of tree ensembles on mixed rows, without a call of onnxruntime for those that are clear.

Where the graph is a sum of trees (`additive`, which proves it against the model), each feature is of one raw column.
So the features of a row that is mixed from background rows are those rows' features, which are computed once, and
the trees are walked one after the other for all rows, so that each stays in the fastest cache. A decision is taken from
the scores only if the two best are further apart than 32-bit sums can be wrong; the model itself decides the others.
The model also decides all of them where its label is not read off the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from affiant.explainer.methods.additive import Additive
from affiant.explainer.methods.compiled import compiled
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sampling import Draw
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import LEQ, Trees, goes_yes

CLEAR = 1e-3
"""Scores this far apart are in the same order in 32 and in 64 bits; `additive` allows fifty times less of outputs."""

Labels = npt.NDArray[np.int64]
Small = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Walk:
    """The trees as tables for a walk without branches: leaves are nodes that lead to themselves.

    From node n a value goes on to `ways[2 n]` where the node says yes, else to `ways[2 n + 1]`. `weights` has one row
    for each node, `depths` the steps that each tree takes at most.
    """

    feature: Small
    threshold: Numbers
    ways: Small
    mode: npt.NDArray[np.uint8]
    missing: npt.NDArray[np.bool_]
    roots: Small
    depths: Small
    weights: Matrix
    base: Matrix
    plain: bool
    """Whether all nodes ask “at most?” and send missing values the other way."""


def _walk(trees: Trees) -> Walk:
    nodes, leaves = len(trees.feature), len(trees.weights)
    ways = np.column_stack([trees.yes, trees.no])
    ways = np.where(ways < 0, nodes + ~ways, ways)
    themselves = np.repeat(np.arange(nodes, nodes + leaves), 2).reshape(-1, 2)
    blank = np.zeros(leaves, dtype=np.int64)
    roots = np.where(trees.roots < 0, nodes + ~trees.roots, trees.roots)
    return Walk(
        feature=np.concatenate([trees.feature, blank]).astype(np.int32),
        threshold=np.concatenate([trees.threshold, blank.astype(np.float64)]),
        ways=np.concatenate([ways, themselves]).astype(np.int32).ravel(),
        mode=np.concatenate([trees.mode, blank.astype(np.uint8)]),
        missing=np.concatenate([trees.missing, blank.astype(np.bool_)]),
        roots=roots.astype(np.int32),
        depths=_depths(ways, roots),
        weights=np.concatenate([np.zeros((nodes, trees.weights.shape[1])), trees.weights]),
        base=trees.base,
        plain=bool(np.all(trees.mode == LEQ) and not trees.missing.any()),
    )


def _depths(ways: npt.NDArray[np.int64], roots: npt.NDArray[np.int64]) -> Small:
    """The steps from each root to its furthest leaf; parents come before their children."""
    nodes = len(ways)
    below = np.zeros(nodes, dtype=np.int64)
    for node in range(nodes - 1, -1, -1):
        below[node] = 1 + max(below[way] if way < nodes else 0 for way in ways[node].tolist())
    return np.array([below[root] if root < nodes else 0 for root in roots.tolist()], dtype=np.int32)


class TreeDecisions:
    """The decisions of one version whose scores are sums of trees."""

    def __init__(self, model: Additive, trees: Trees, background: Matrix) -> None:
        self._model = model
        self._walk = _walk(trees)
        features = model.features(background)
        # In half the room where nothing is lost by it, as of features and thresholds that are 32-bit numbers anyway.
        short = all(_is_short(numbers) for numbers in (features, self._walk.threshold))
        self._kind: type[np.floating[Any]] = np.float32 if short else np.float64
        self._walk = replace(self._walk, threshold=self._walk.threshold.astype(self._kind))
        self._features: Numbers = features.astype(self._kind)
        self._of_column = {
            column: np.flatnonzero(model.columns == column) for column in range(len(model.table.codings))
        }

    def decide(self, draws: Sequence[Draw], rows: Sequence[Matrix]) -> tuple[Labels, npt.NDArray[np.bool_]]:
        """The decision on each sample as a position among the classes, and whether it is clear."""
        features = self._features[np.concatenate([draw.base for draw in draws])]
        start = 0
        for draw, row in zip(draws, rows, strict=True):
            self._replace(features[start : start + len(draw)], draw, row)
            start += len(draw)
        return self.decided(features)

    def features(self, rows: Matrix) -> Numbers:
        """The features (N, F) of coded rows, as they are walked with."""
        return self._model.features(rows).astype(self._kind)

    def decided(self, features: Numbers) -> tuple[Labels, npt.NDArray[np.bool_]]:
        """The same for features (N, F)."""
        walk = self._walk
        nodes = walk.feature, walk.threshold, walk.ways, walk.roots, walk.depths, walk.weights, walk.base
        scores = _plain(features, *nodes) if walk.plain else _any(features, walk.mode, walk.missing, *nodes)
        labels = np.argmax(scores, axis=1)
        ordered = np.sort(scores, axis=1)
        return labels, ordered[:, -1] - ordered[:, -2] > CLEAR * np.maximum(1.0, np.abs(ordered[:, -1]))

    def _replace(self, features: Numbers, draw: Draw, row: Matrix) -> None:
        for column, chosen in draw.replaced.items():
            for feature in self._of_column[column]:
                features[:, feature] = self._features[chosen, feature]
        if draw.own:
            [own] = self.features(row.reshape(1, -1))
            for column in draw.own:
                features[:, self._of_column[column]] = own[self._of_column[column]]


def tree_decisions(predictor: Predictor) -> TreeDecisions | None:
    """Decisions by walking the trees, where that gives the model's own; None for every other model."""
    exact = predictor.exact
    if exact is None or not isinstance(exact.model.terms, Trees) or len(exact.model.terms.base) < 2:
        return None
    if not labelled_by_scores(predictor.model, predictor.decision.label_output, predictor.decision.probability_output):
        return None
    background = predictor.table.background
    found = TreeDecisions(exact.model, exact.model.terms, background)
    random = np.random.default_rng(0)
    mixed = np.where(random.random(background.shape) < 0.5, background[random.permutation(len(background))], background)
    for rows in (background, mixed):
        labels, clear = found.decided(found.features(rows))
        if not np.array_equal(labels[clear], predictor.labels(rows)[clear]):
            return None
    return found


def labelled_by_scores(model: bytes, label: str, probability: str) -> bool:
    """Whether one tree classifier of the graph gives both outputs: then its label is that of the highest score."""
    try:
        graph = onnx.load_model_from_string(model).graph
    except Exception:
        return False  # what the parser stumbles over, onnxruntime runs: the model itself decides
    makers = {name: node for node in graph.node for name in node.output}
    labels = _maker(makers, label, ("Identity", "Cast", "Reshape"))
    scores = _maker(makers, probability, ("Identity", "Cast", "Normalizer", "ZipMap"))
    return labels is not None and labels is scores and labels.op_type == "TreeEnsembleClassifier"


def _maker(makers: dict[str, onnx.NodeProto], tensor: str, passed: tuple[str, ...]) -> onnx.NodeProto | None:
    node = makers.get(tensor)
    for _ in range(len(makers)):
        if node is None or node.op_type not in passed:
            break
        node = makers.get(node.input[0])
    return node


def _is_short(numbers: Numbers) -> bool:
    return np.array_equal(numbers.astype(np.float32).astype(np.float64), numbers, equal_nan=True)


@compiled
def _plain(
    features: Numbers,
    feature: Small,
    threshold: Numbers,
    ways: Small,
    roots: Small,
    depths: Small,
    weights: Matrix,
    base: Matrix,
) -> Matrix:
    rows, scores = features.shape[0], weights.shape[1]
    total = np.empty((rows, scores))
    for row in range(rows):
        total[row] = base
    at = np.empty(rows, dtype=np.int32)
    for tree in range(len(roots)):
        at[:] = roots[tree]
        # All rows one step, then all rows the next: the steps of different rows do not wait for each other.
        for _ in range(depths[tree]):
            for row in range(rows):
                node = at[row]
                at[row] = ways[2 * node + (not features[row, feature[node]] <= threshold[node])]
        for row in range(rows):
            for score in range(scores):
                total[row, score] += weights[at[row], score]
    return total


@compiled
def _any(
    features: Numbers,
    mode: npt.NDArray[np.uint8],
    missing: npt.NDArray[np.bool_],
    feature: Small,
    threshold: Numbers,
    ways: Small,
    roots: Small,
    depths: Small,
    weights: Matrix,
    base: Matrix,
) -> Matrix:
    rows, scores = features.shape[0], weights.shape[1]
    total = np.empty((rows, scores))
    for row in range(rows):
        total[row] = base
    at = np.empty(rows, dtype=np.int32)
    for tree in range(len(roots)):
        at[:] = roots[tree]
        for _ in range(depths[tree]):
            for row in range(rows):
                node = at[row]
                value = features[row, feature[node]]
                at[row] = ways[2 * node + (not goes_yes(value, threshold[node], mode[node], missing[node]))]
        for row in range(rows):
            for score in range(scores):
                total[row, score] += weights[at[row], score]
    return total
