"""A version's background cut into bins, as the anchor search needs it: prepared once, shared by all rows.

A row's predicates are alibi's: for each numeric column one for each edge (“at most bin b” or “above bin b”, whichever
is true of the row), for each categorical column one (“the row's category”), in the order of the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import cast

import numpy as np
import numpy.typing as npt

from affiant.explainer.methods.table import Matrix

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Range = tuple[int, int]
"""The bins of one column that a predicate allows: first and last, both included."""

MOST_KEPT = 20_000
"""Row sets kept for one version; each takes a byte and at most eight for each background row."""


class Grid:
    """The binned background (rows, columns). `edges` of the numeric columns; `categories`: how many, of the others.

    Bins are counted through all columns (`codes`), so that one histogram counts every bin of every column at once.
    """

    def __init__(self, background: Matrix, edges: Mapping[int, Matrix], categories: Mapping[int, int]) -> None:
        self.rows, self.columns = background.shape
        self.edges = edges
        sizes = [len(edges[at]) + 1 if at in edges else categories[at] for at in range(self.columns)]
        self.sizes = sizes
        self.offsets: Indices = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        self.bins = int(sum(sizes))
        self._binned = self.binned(background)
        self.codes: Indices = self._binned + self.offsets
        self._allowed: dict[tuple[int, tuple[Range, ...]], Indices] = {}
        self._masks: dict[tuple[int, tuple[Range, ...]], Mask] = {}
        self._in_bin: dict[tuple[int, int], Indices] = {}

    def binned(self, rows: Matrix) -> Indices:
        """Rows (N, columns) as the number of the bin in each column: bin b holds edges[b-1] < value <= edges[b]."""
        found = np.empty(rows.shape, dtype=np.int64)
        for at in range(self.columns):
            found[:, at] = np.searchsorted(self.edges[at], rows[:, at]) if at in self.edges else rows[:, at]
        return found

    def predicates(self, row: Matrix) -> Predicates:
        """What is true of one coded row (columns,)."""
        [bins] = self.binned(row.reshape(1, -1))
        columns: list[int] = []
        ranges: list[Range] = []
        for at, size in enumerate(self.sizes):
            own = int(bins[at])
            if at not in self.edges:
                columns.append(at)
                ranges.append((own, own))
                continue
            for edge in range(size - 1):
                columns.append(at)
                ranges.append((0, edge) if own <= edge else (edge + 1, size - 1))
        return Predicates(self, columns, ranges, bins + self.offsets)

    def allowed_rows(self, column: int, ranges: tuple[Range, ...]) -> Indices:
        """The background rows whose bin lies in all `ranges`, in the order in which alibi lists them.

        alibi goes through the bins in the order of a Python set and through each bin's rows in ascending order; which
        row a random number stands for depends on it, so the sets are made here as they are made there.
        """
        key = (column, ranges)
        if key not in self._allowed:
            if len(self._allowed) >= MOST_KEPT:
                self._allowed.clear()
                self._masks.clear()
            sets = [set(range(low, high + 1)) for low, high in ranges]
            bins = reduce(lambda known, more: known.intersection(more), sets)
            parts = [self._rows_in(column, each) for each in bins]
            self._allowed[key] = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return self._allowed[key]

    def mask(self, column: int, ranges: tuple[Range, ...]) -> Mask:
        """`allowed_rows` as a mask (rows,)."""
        key = (column, ranges)
        if key not in self._masks:
            mask = np.zeros(self.rows, dtype=np.bool_)
            mask[self.allowed_rows(column, ranges)] = True
            self._masks[key] = mask
        return self._masks[key]

    def _rows_in(self, column: int, bin: int) -> Indices:
        key = (column, bin)
        if key not in self._in_bin:
            self._in_bin[key] = np.flatnonzero(self._binned[:, column] == bin)
        return self._in_bin[key]


class Predicates:
    """The predicates of one row, by number. `columns` and `ranges` say what each is about and which bins it allows."""

    def __init__(self, grid: Grid, columns: Sequence[int], ranges: Sequence[Range], codes: Indices) -> None:
        self.grid = grid
        self.columns = columns
        self.ranges = ranges
        self.codes = codes
        """The row's own bins (columns,), counted through all columns."""
        offsets = grid.offsets[np.array(columns, dtype=np.int64)]
        self._first: Indices = offsets + np.array([low for low, _ in ranges], dtype=np.int64)
        self._last: Indices = offsets + np.array([high for _, high in ranges], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.columns)

    def counts(self, codes: Indices, weights: Matrix | None = None) -> Matrix:
        """For each predicate, how many of the rows (N, columns) of `codes` it holds for; or the sum of `weights` (N,).

        Sums of whole numbers: exact, in any order.
        """
        every = None if weights is None else np.repeat(weights, codes.shape[1])
        histogram = np.bincount(codes.ravel(), every, minlength=self.grid.bins)
        below = np.concatenate([[0.0], np.cumsum(histogram, dtype=np.float64)])
        return cast("Matrix", below[self._last + 1] - below[self._first])

    def holds(self, predicate: int, codes: Indices) -> Mask:
        """For which rows (N, columns) of `codes` a predicate holds."""
        column = codes[:, self.columns[predicate]]
        return cast("Mask", (column >= self._first[predicate]) & (column <= self._last[predicate]))
