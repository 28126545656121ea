"""Samples as the model's own tensors: gathered from the background's, which are made once for a version.

One call of the model serves the samples of many searches. That changes no answer: onnxruntime computes a row the same
in any batch of two rows or more, and only a row alone differently (by 1.2e-7, in a logistic regression), so no row is
ever asked about alone. Tests hold it against whole batches, bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affiant.explainer.methods.deciding import Labels, tree_decisions
from affiant.explainer.methods.predictor import BATCH_ROWS, Predictor
from affiant.explainer.methods.sampling import Draw
from affiant.explainer.methods.table import Feed, Matrix


class Mixer:
    """The background of one version as tensors, and the decisions on rows mixed from it."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._background = predictor.table.feed(predictor.table.background)
        self._place = _places(predictor)
        self._trees = tree_decisions(predictor)

    def decisions(self, draws: Sequence[Draw], rows: Sequence[Matrix]) -> list[Labels]:
        """The model's decisions on each draw, as positions among the classes. `rows[i]`: the row that draw i is for."""
        decided = np.concatenate([self._decide(*part) for part in _parts(draws, rows)])
        ends = np.cumsum([len(draw) for draw in draws])
        return np.split(decided, ends[:-1])

    def _decide(self, draws: Sequence[Draw], rows: Sequence[Matrix]) -> Labels:
        if self._trees is None:
            return self._ask(draws, rows, None)
        labels, clear = self._trees.decide(draws, rows)
        if not clear.all():
            unclear = np.flatnonzero(~clear)
            labels[unclear] = self._ask(draws, rows, unclear)
        return labels

    def _ask(self, draws: Sequence[Draw], rows: Sequence[Matrix], some: Labels | None) -> Labels:
        """The model's decisions on all samples, or on `some` of them, by their number."""
        base = np.concatenate([draw.base for draw in draws])
        feed = {name: tensor[base] for name, tensor in self._background.items()}
        start = 0
        for draw, row in zip(draws, rows, strict=True):
            self._replace(feed, slice(start, start + len(draw)), draw, row)
            start += len(draw)
        if some is None:
            some = np.arange(len(base))
        if len(some) == 1:
            return self._predictor.labels_of({name: tensor[np.repeat(some, 2)] for name, tensor in feed.items()})[:1]
        if len(some) < len(base):
            feed = {name: tensor[some] for name, tensor in feed.items()}
        return self._predictor.labels_of(feed)

    def _replace(self, feed: Feed, where: slice, draw: Draw, row: Matrix) -> None:
        for column, chosen in draw.replaced.items():
            name, at = self._place[column]
            feed[name][where, at] = self._background[name][chosen, at]
        for column in draw.own:
            name, at = self._place[column]
            feed[name][where, at] = self._predictor.table.codings[column].tensor(row[[column]])


def _places(predictor: Predictor) -> list[tuple[str, int]]:
    """For each column, the input and the position on its second axis: of the columns that the input has."""
    columns = [coding.column for coding in predictor.table.codings]
    indices: dict[str, list[int]] = {}
    for column in columns:
        indices.setdefault(column.input, []).append(column.index)
    return [(column.input, sorted(indices[column.input]).index(column.index)) for column in columns]


def _parts(draws: Sequence[Draw], rows: Sequence[Matrix]) -> list[tuple[list[Draw], list[Matrix]]]:
    """The draws in parts of about `BATCH_ROWS` samples, so that a call's memory is bounded."""
    parts: list[tuple[list[Draw], list[Matrix]]] = []
    room = 0
    for draw, row in zip(draws, rows, strict=True):
        if not parts or room < len(draw):
            parts.append(([], []))
            room = BATCH_ROWS
        parts[-1][0].append(draw)
        parts[-1][1].append(row)
        room -= len(draw)
    return parts
