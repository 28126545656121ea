"""Exact SHAP values of models that are sums of terms, for the raw columns of the table.

The values are interventional: a coalition's worth is the mean output over the background rows with the coalition's
columns taken from the row. That is the quantity which KernelSHAP estimates; here it is computed, without sampling.

Where the scores are the output (random forests, regression) each leaf has a closed form (`leaves`); behind a link
(logistic, softmax) the mixtures of two rows are looked at one by one (`mixtures`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from affiant.explainer.methods.additive import Additive, Linear, Link, linked
from affiant.explainer.methods.leaves import Leaves
from affiant.explainer.methods.mixtures import LOGISTIC, NORMALISED_LOGISTIC, SOFTMAX, Mixtures
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import Ints, Trees

MOST_MIXED_COLUMNS = {Trees: 20, Linear: 16}
"""Up to so many columns that the terms use, values are computed behind the link: at worst 2^20 mixtures for a pair
of rows, and seldom near it, since most trees do not tell two rows apart in every column. A linear model tells them
apart in every numeric one."""

MOST_MIXTURES = 2**20
"""Rows explained in one step have no more mixtures than this with one background row: about half a second with 40."""

ROWS_AT_ONCE = 1024
CODES: dict[Link, int] = {"logistic": LOGISTIC, "softmax": SOFTMAX, "normalised logistic": NORMALISED_LOGISTIC}


@dataclass(frozen=True)
class Exact:
    """Values (N, columns) with `baselines` and `outputs` (N,): baseline + a row's values = output, to rounding."""

    values: Matrix
    baselines: Matrix
    outputs: Matrix


class ExactShap:
    """Exact SHAP values against one background. Not for use from two threads.

    `behind_link` tells the space: that of the outputs (probabilities, or what a regression predicts), or, where too
    many columns are used for that, that of the scores before the link (log-odds where the link is logistic).
    """

    def __init__(self, model: Additive, background: Matrix) -> None:
        """`background`: coded rows (B, columns). Raises `NotAdditive` where the trees are beyond what is computed."""
        self.model = model
        self._features = model.features(background)
        scores = model.terms.scores(self._features)
        # Every class has scores of its own for all mixtures.
        most = MOST_MIXED_COLUMNS[type(model.terms)] - (model.link != "logistic") * math.ceil(
            math.log2(scores.shape[1])
        )
        self.behind_link = model.link == "identity" or model.used <= most
        self._baseline = (linked(scores, model.link) if self.behind_link else scores).mean(axis=0)
        self._width = len(model.table.codings)
        self._leaves: Leaves | None = None
        if isinstance(model.terms, Trees) and (model.link == "identity" or not self.behind_link):
            self._leaves = Leaves(model.terms, model.columns[model.terms.feature], self._features)

    @property
    def rows_at_once(self) -> int:
        """How many rows `explain` may be given in a step that must end within seconds."""
        if not self.behind_link or self.model.link == "identity":
            return ROWS_AT_ONCE
        return max(1, MOST_MIXTURES >> self.model.used)

    def explain(self, rows: Matrix, explained: Ints) -> Exact:
        """The values of output `explained[n]` for each coded row n of (N, columns)."""
        parts = [
            self._explain(self.model.features(rows[at : at + ROWS_AT_ONCE]), explained[at : at + ROWS_AT_ONCE])
            for at in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return Exact(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _explain(self, features: Matrix, explained: Ints) -> tuple[Matrix, Matrix, Matrix]:
        model = self.model
        scores = model.terms.scores(features)
        outputs = linked(scores, model.link) if self.behind_link else scores
        chosen = np.arange(len(features))
        if self.behind_link and model.link != "identity":
            values = self._mixed(features, explained)
        elif isinstance(model.terms, Linear):
            values = self._linear(features, model.terms, explained)
        else:
            values = self._of_leaves(features, explained)
        return values, self._baseline[explained], outputs[chosen, explained]

    def _linear(self, features: Matrix, linear: Linear, explained: Ints) -> Matrix:
        """Weight times the distance to the background's mean, summed over each column's features."""
        moved = (features - self._features.mean(axis=0)) * linear.weights.T[explained]
        return _by_column(moved, self.model.columns, self._width)

    def _of_leaves(self, features: Matrix, explained: Ints) -> Matrix:
        if self._leaves is None:
            raise TypeError("only trees have leaves")
        return self._leaves.values(features, explained, self._width)

    def _mixed(self, features: Matrix, explained: Ints) -> Matrix:
        model, mixtures = self.model, Mixtures(self.model.used, CODES[self.model.link])
        if isinstance(model.terms, Linear):
            mine, theirs = (
                _parts(given, model.terms, model.columns, self._width) for given in (features, self._features)
            )
            return mixtures.of_linear(mine, theirs, model.terms.base, explained)
        ours, others = (model.terms.decisions(given) for given in (features, self._features))
        return mixtures.of_trees(model.terms, model.columns[model.terms.feature], ours, others, explained, self._width)


def _by_column(moved: Matrix, columns: Ints, count: int) -> Matrix:
    values = np.zeros((len(moved), count))
    known = columns >= 0
    np.add.at(values.T, columns[known], moved.T[known])
    return values


def _parts(features: Matrix, linear: Linear, columns: Ints, count: int) -> Matrix:
    """What each column adds to each score, (N, columns, scores)."""
    scores = [_by_column(features * weights, columns, count) for weights in linear.weights.T]
    return np.ascontiguousarray(np.stack(scores, axis=-1))
