"""Exact SHAP values behind a link (logistic, softmax): every mixture of a row with a background row is looked at.

Behind a link the terms do not add up. But for one row and one background row only those columns matter in which the
terms tell the two apart, d of them. The scores of all 2^d mixtures are built at once, for trees by a Möbius transform
over the leaves that some mixture reaches, for linear models by doubling; they are linked, and folded into Shapley
values.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from affiant.explainer.methods.compiled import compiled
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import Flags, Ints, Trees

Sizes = npt.NDArray[np.uint8]
Parts = npt.NDArray[np.float64]
"""What each column adds to each score of a linear model, (N, columns, scores)."""

LOGISTIC, SOFTMAX, NORMALISED_LOGISTIC = range(3)


class Mixtures:
    """Games of up to `most` columns."""

    def __init__(self, most: int, link: int) -> None:
        self._link = link
        self._sizes = _sizes(most)
        self._ins, self._outs = _fold_weights(most)

    def of_linear(self, rows: Parts, background: Parts, base: Matrix, explained: Ints) -> Matrix:
        """The values (N, columns) of output `explained[n]`."""
        return _linear_values(rows, background, base, explained, self._link, self._sizes, self._ins, self._outs)

    def of_trees(
        self, trees: Trees, column: Ints, rows: Flags, background: Flags, explained: Ints, width: int
    ) -> Matrix:
        """The values (N, width) of output `explained[n]`, from the nodes' decisions; `column` is that of each node."""
        return _tree_values(
            rows,
            background,
            trees.yes,
            trees.no,
            trees.roots,
            column,
            trees.weights,
            trees.base,
            explained,
            self._link,
            self._sizes,
            self._ins,
            self._outs,
            width,
        )


def _sizes(columns: int) -> Sizes:
    """How many columns each coalition of up to `columns` has, by its number."""
    sizes = np.zeros(1, dtype=np.uint8)
    for _ in range(columns):
        sizes = np.concatenate([sizes, sizes + np.uint8(1)])
    return sizes


def _fold_weights(most: int) -> tuple[Matrix, Matrix]:
    """For games of d columns, by the coalition's size s: w(s-1) + w(s), and w(s), with w(s) = s! (d-s-1)! / d!."""
    ins, outs = np.zeros((most + 1, most + 1)), np.zeros((most + 1, most + 1))
    for d in range(1, most + 1):
        for s in range(d):
            outs[d, s] = 1.0 / (d * math.comb(d - 1, s))
        ins[d, : d + 1] = outs[d, : d + 1] + np.concatenate([[0.0], outs[d, :d]])
    return ins, outs


@compiled
def _output(scores: Matrix, at: int, explained: int, link: int) -> float:
    """The explained output of mixture `at` from the scores (scores, mixtures); a lone score is the explained one."""
    if link == 0:
        return 1.0 / (1.0 + math.exp(-scores[0, at]))
    highest, total = float(scores[0, at]), 0.0
    if link == 1:
        for score in range(scores.shape[0]):
            highest = max(highest, scores[score, at])
        for score in range(scores.shape[0]):
            total += math.exp(scores[score, at] - highest)
        return math.exp(scores[explained, at] - highest) / total
    for score in range(scores.shape[0]):
        total += 1.0 / (1.0 + math.exp(-scores[score, at]))
    return 1.0 / (1.0 + math.exp(-scores[explained, at])) / total


@compiled
def _fold(worth: Matrix, d: int, sizes: Sizes, ins: Matrix, outs: Matrix, found: Ints, values: Matrix) -> None:
    """Add the Shapley values of the game `worth` (2^d,) of the columns `found` to `values`; `worth` is used up."""
    size = 1 << d
    rest = 0.0
    for at in range(size):
        rest += outs[d, sizes[at]] * worth[at]
        worth[at] *= ins[d, sizes[at]]
    for k in range(d - 1, -1, -1):
        half = 1 << k
        with_it = 0.0
        for at in range(half):
            with_it += worth[half + at]
            worth[at] += worth[half + at]
        values[found[k]] += with_it - rest


@compiled
def _linear_values(
    mine: Parts,
    theirs: Parts,
    base: Matrix,
    explained: Ints,
    link: int,
    sizes: Sizes,
    ins: Matrix,
    outs: Matrix,
) -> Matrix:
    rows, width, scores = mine.shape
    backgrounds = theirs.shape[0]
    values = np.zeros((rows, width))
    kept = 1 if link == 0 else scores
    mixed = np.empty((kept, sizes.shape[0]))
    worth = np.empty(sizes.shape[0])
    found = np.empty(width, dtype=np.int64)
    for row in range(rows):
        for other in range(backgrounds):
            d = 0
            for column in range(width):
                for score in range(scores):
                    if mine[row, column, score] != theirs[other, column, score]:
                        found[d] = column
                        d += 1
                        break
            for score in range(kept):
                own = explained[row] if link == 0 else score
                start = base[own]
                for column in range(width):
                    start += theirs[other, column, own]
                mixed[score, 0] = start
                for k in range(d):
                    moved = mine[row, found[k], own] - theirs[other, found[k], own]
                    for at in range(1 << k):
                        mixed[score, (1 << k) + at] = mixed[score, at] + moved
            for at in range(1 << d):
                worth[at] = _output(mixed, at, explained[row], link)
            _fold(worth, d, sizes, ins, outs, found, values[row])
        values[row] /= backgrounds
    return values


@compiled
def _tree_values(
    mine: Flags,
    theirs: Flags,
    yes: Ints,
    no: Ints,
    roots: Ints,
    column: Ints,
    weights: Matrix,
    base: Matrix,
    explained: Ints,
    link: int,
    sizes: Sizes,
    ins: Matrix,
    outs: Matrix,
    width: int,
) -> Matrix:
    rows, backgrounds, scores = mine.shape[0], theirs.shape[0], weights.shape[1]
    kept = 1 if link == 0 else scores
    values = np.zeros((rows, width))
    mixed = np.empty((kept, sizes.shape[0]))
    worth = np.empty(sizes.shape[0])
    found = np.empty(width, dtype=np.int64)
    place = np.full(width, -1, dtype=np.int64)
    deep = yes.shape[0] + 2
    stack = np.empty((deep, 3), dtype=np.int64)
    reached = np.empty((weights.shape[0] + 1, 3), dtype=np.int64)
    for row in range(rows):
        for other in range(backgrounds):
            # The leaves that some mixture of the two rows reaches, with the columns it must and must not take.
            d, leaves = 0, 0
            for root in roots:
                stack[0, 0], stack[0, 1], stack[0, 2] = root, 0, 0
                top = 1
                while top > 0:
                    top -= 1
                    at, must, must_not = stack[top, 0], stack[top, 1], stack[top, 2]
                    while at >= 0:
                        here, there = mine[row, at], theirs[other, at]
                        if here == there:
                            at = yes[at] if here else no[at]
                            continue
                        own = column[at]
                        if place[own] < 0:
                            place[own] = d
                            found[d] = own
                            d += 1
                        bit = 1 << place[own]
                        if must & bit:
                            at = yes[at] if here else no[at]
                        elif must_not & bit:
                            at = yes[at] if there else no[at]
                        else:
                            stack[top, 0] = yes[at] if there else no[at]
                            stack[top, 1], stack[top, 2] = must, must_not | bit
                            top += 1
                            at = yes[at] if here else no[at]
                            must |= bit
                    reached[leaves, 0], reached[leaves, 1], reached[leaves, 2] = ~at, must, must_not
                    leaves += 1
            for k in range(d):
                place[found[k]] = -1
            if d == 0:
                continue
            size = 1 << d
            for score in range(kept):
                own = explained[row] if link == 0 else score
                sums = mixed[score]
                sums[:size] = 0.0
                sums[0] = base[own]
                for leaf in range(leaves):
                    weight, must, must_not = weights[reached[leaf, 0], own], reached[leaf, 1], reached[leaf, 2]
                    # Inclusion and exclusion over the columns that must not be taken.
                    part = must_not
                    while True:
                        sums[must | part] += -weight if sizes[part] & 1 else weight
                        if part == 0:
                            break
                        part = (part - 1) & must_not
                for k in range(d):
                    half = 1 << k
                    for start in range(half, size, 2 * half):
                        for at in range(start, start + half):
                            sums[at] += sums[at - half]
            for at in range(size):
                worth[at] = _output(mixed, at, explained[row], link)
            _fold(worth, d, sizes, ins, outs, found, values[row])
        values[row] /= backgrounds
    return values
