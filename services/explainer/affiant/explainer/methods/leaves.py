"""Exact SHAP values of trees whose scores are the output: a closed form for each leaf.

A leaf is a product of conditions on raw columns. For one row and one background row, let a of its columns have their
conditions met by the row alone and b by the background row alone, and all others by both: then each of the a columns
gets the leaf's weight times (a-1)! b! / (a+b)!, each of the b ones loses a! (b-1)! / (a+b)! of it. That is algorithm 3
of Lundberg and others (2020), with all conditions on a column taken together. Background rows that meet the same of a
leaf's columns count once.
"""

from __future__ import annotations

import math

import numpy as np

from affiant.explainer.methods.compiled import compiled
from affiant.explainer.methods.errors import NotAdditive
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import Flags, Ints, Modes, Trees, Words, goes_yes

PATH_COLUMNS = 62


class Leaves:
    """Each leaf's columns, and what the background rows satisfy of its conditions on them."""

    def __init__(self, trees: Trees, column: Ints, background: Matrix) -> None:
        """`column`: the raw column of each node; `background`: the features (B, F) of the background rows."""
        self._trees = trees
        self._background = len(background)
        bit, self._starts, self._columns = _paths(trees, column)
        self._nodes = trees.feature, trees.threshold, trees.mode, trees.missing, trees.yes, trees.no, bit
        most = int(np.max(np.diff(self._starts), initial=0))
        if most > PATH_COLUMNS:
            raise NotAdditive(f"a path of the trees asks for more than {PATH_COLUMNS} columns")
        everything = (0, len(trees.feature)), (0, len(trees.weights))
        met = _met(background, *self._nodes, *everything)
        self._firsts, self._failed, self._sizes, self._counts = _patterns(met, self._starts)
        self._shares = np.array([[_share(a, b) for b in range(most + 1)] for a in range(most + 1)])

    def values(self, features: Matrix, explained: Ints, width: int) -> Matrix:
        """The values (N, width) of score `explained[n]` for the features (N, F) of rows."""
        return _leaf_values(
            features,
            *self._nodes,
            self._trees.roots,
            self._trees.first_leaves,
            self._starts,
            self._columns,
            self._firsts,
            self._failed,
            self._sizes,
            self._counts,
            self._trees.weights,
            explained,
            self._background,
            self._shares,
            width,
        )


def _share(a: int, b: int) -> float:
    """(a-1)! b! / (a+b)!, through logarithms: the factorials are large where paths are long."""
    return math.exp(math.lgamma(a) + math.lgamma(b + 1) - math.lgamma(a + b + 1)) if a else 0.0


def _paths(trees: Trees, column: Ints) -> tuple[Ints, Ints, Ints]:
    """For each node the place of its column among those of its path; for each leaf its columns, flat."""
    bit = np.zeros(len(trees.feature), dtype=np.int64)
    owners: list[tuple[int, ...]] = [()] * len(trees.weights)
    paths: list[tuple[int, ...]] = [()] * len(trees.feature)
    for node in range(len(trees.feature)):
        path, own = paths[node], int(column[node])
        if own not in path:
            path = (*path, own)
        bit[node] = path.index(own)
        for end in (int(trees.yes[node]), int(trees.no[node])):
            if end >= 0:
                paths[end] = path
            else:
                owners[~end] = path
    starts = np.cumsum([0, *(len(owner) for owner in owners)])
    return bit, starts.astype(np.int64), np.array([each for owner in owners for each in owner], dtype=np.int64)


@compiled
def _met(
    features: Matrix,
    feature: Ints,
    threshold: Matrix,
    mode: Modes,
    missing: Flags,
    yes: Ints,
    no: Ints,
    bit: Ints,
    nodes: tuple[int, int],
    leaves: tuple[int, int],
) -> Words:
    """For each leaf and row the columns, as bits, of whose conditions on the leaf's path the row meets all.

    `nodes` and `leaves` are the ranges of one tree, or of all.
    """
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    one = np.uint64(1)
    rows = features.shape[0]
    met = np.full((leaves[1] - leaves[0], rows), full, dtype=np.uint64)
    at_node = np.empty(nodes[1] - nodes[0], dtype=np.uint64)
    for row in range(rows):
        at_node[:] = full
        for node in range(nodes[0], nodes[1]):
            kept = at_node[node - nodes[0]]
            to_yes, to_no = kept, kept & ~(one << np.uint64(bit[node]))
            if not goes_yes(features[row, feature[node]], threshold[node], mode[node], missing[node]):
                to_yes, to_no = to_no, to_yes
            if yes[node] >= 0:
                at_node[yes[node] - nodes[0]] = to_yes
            else:
                met[~yes[node] - leaves[0], row] = to_yes
            if no[node] >= 0:
                at_node[no[node] - nodes[0]] = to_no
            else:
                met[~no[node] - leaves[0], row] = to_no
    return met


@compiled
def _patterns(met: Words, starts: Ints) -> tuple[Ints, Words, Ints, Matrix]:
    """What the background rows fail of each leaf: the different sets, their sizes, how many rows have them."""
    leaves, rows = met.shape
    one = np.uint64(1)
    firsts = np.zeros(leaves + 1, dtype=np.int64)
    failed = np.empty(leaves * rows, dtype=np.uint64)
    sizes = np.zeros(leaves * rows, dtype=np.int64)
    counts = np.empty(leaves * rows)
    filled = 0
    for leaf in range(leaves):
        count = starts[leaf + 1] - starts[leaf]
        full = (one << np.uint64(count)) - one
        ordered = np.sort(met[leaf])
        for row in range(rows):
            if row > 0 and ordered[row] == ordered[row - 1]:
                counts[filled - 1] += 1.0
                continue
            failed[filled] = ~ordered[row] & full
            counts[filled] = 1.0
            for k in range(count):
                sizes[filled] += (failed[filled] >> np.uint64(k)) & one
            filled += 1
        firsts[leaf + 1] = filled
    return firsts, failed[:filled].copy(), sizes[:filled].copy(), counts[:filled].copy()


@compiled
def _leaf_values(
    features: Matrix,
    feature: Ints,
    threshold: Matrix,
    mode: Modes,
    missing: Flags,
    yes: Ints,
    no: Ints,
    bit: Ints,
    roots: Ints,
    first_leaves: Ints,
    starts: Ints,
    columns: Ints,
    firsts: Ints,
    failed: Words,
    sizes: Ints,
    counts: Matrix,
    weights: Matrix,
    explained: Ints,
    total: int,
    shares_of: Matrix,
    width: int,
) -> Matrix:
    rows = features.shape[0]
    values = np.zeros((rows, width))
    # What a row gets of a leaf depends on the columns that it fails there: computed once for all rows alike.
    shares = np.zeros((rows, 64))
    empty = np.zeros(rows, dtype=np.bool_)
    known = np.full(4096, -1, dtype=np.int64)
    one = np.uint64(1)
    for tree in range(roots.shape[0]):
        if roots[tree] < 0:
            continue
        # One tree after the other: what is in use stays in the processor's cache.
        start, end = roots[tree], feature.shape[0]
        for later in range(tree + 1, roots.shape[0]):
            if roots[later] >= 0:
                end = roots[later]
                break
        leaves = (first_leaves[tree], first_leaves[tree + 1])
        met = _met(features, feature, threshold, mode, missing, yes, no, bit, (start, end), leaves)
        for leaf in range(leaves[0], leaves[1]):
            first, count = starts[leaf], starts[leaf + 1] - starts[leaf]
            if count == 0:
                continue
            full = (one << np.uint64(count)) - one
            small = count <= 12
            filled = 0
            if small:
                known[: 1 << count] = -1
            for row in range(rows):
                mine = ~met[leaf - leaves[0], row] & full
                slot = known[mine] if small else -1
                if slot < 0:
                    slot = filled
                    filled += 1
                    shares[slot, :count] = 0.0
                    b = 0
                    for k in range(count):
                        b += (mine >> np.uint64(k)) & one
                    loss = 0.0
                    reached = False
                    for at in range(firsts[leaf], firsts[leaf + 1]):
                        theirs = failed[at]
                        if mine & theirs:
                            continue
                        a = sizes[at]
                        loss += counts[at] * shares_of[b, a]
                        gain = counts[at] * shares_of[a, b]
                        reached = True
                        for k in range(count):
                            shares[slot, k] += gain * ((theirs >> np.uint64(k)) & one)
                    for k in range(count):
                        if (mine >> np.uint64(k)) & one:
                            shares[slot, k] = -loss
                    empty[slot] = not reached
                    if small:
                        known[mine] = slot
                if empty[slot]:
                    continue
                weight = weights[leaf, explained[row]] / total
                for k in range(count):
                    values[row, columns[first + k]] += weight * shares[slot, k]
    return values
