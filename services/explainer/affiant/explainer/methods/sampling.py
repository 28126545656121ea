"""Rows put together for an anchor: the anchor's columns from background rows that it covers, the others from any.

This is the sampler of alibi 0.9.4 (`TabularSampler.perturbation` and `replace_features`): the same random numbers,
drawn in the same order, choose the same background rows. But a sample is kept as the numbers of those rows, one for
each column that differs; values are looked up when the model is asked.

It is honest about values that no background row has. alibi forgets them when the rest of an anchor has rows enough,
and otherwise draws a number from the column's range. Here a clause about such a value holds the row's own value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from affiant.explainer.methods.grid import Grid, Indices, Mask, Predicates, Range

WORDS = 8_192
"""Random words made at a time."""


@dataclass(frozen=True)
class Draw:
    """`base` (N,): the background row of each sample; `replaced`: of the columns in which it is another (N,).

    Columns in `own` hold the value of the row that is explained.
    """

    base: Indices
    replaced: dict[int, Indices]
    own: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.base)

    def codes(self, predicates: Predicates) -> Indices:
        """The samples' bins (N, columns), counted through all columns."""
        codes = predicates.grid.codes[self.base]
        for column, rows in self.replaced.items():
            codes[:, column] = predicates.grid.codes[rows, column]
        for column in self.own:
            codes[:, column] = predicates.codes[column]
        return codes


class Numbers:
    """The numbers that `numpy.random.seed(seed)` and then `numpy.random.choice` would draw, for one search.

    numpy takes the generator's words of 32 bits one by one, keeps the bits that are needed, and passes over what is too
    large. The same is done here for many words at once, without what numpy's call costs each time.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.RandomState(seed)._bit_generator
        self._words: Indices = np.empty(0, dtype=np.int64)
        self._at = 0

    def choose(self, among: int, count: int) -> Indices:
        """`count` numbers from 0 to `among` - 1, with replacement. One to choose from costs no random number."""
        if among == 1 or not count:
            return np.zeros(count, dtype=np.int64)
        bits = (1 << (among - 1).bit_length()) - 1
        # At least half of the words will do.
        look = 2 * count + 16
        while True:
            words = self._words[self._at : self._at + look] & bits
            fit = (words < among).nonzero()[0]
            if len(fit) >= count:
                fit = fit[:count]
                self._at += int(fit[-1]) + 1
                return cast("Indices", words[fit])
            if self._at + look <= len(self._words):
                look *= 2
            else:
                self._draw(look)

    def _draw(self, least: int) -> None:
        more = self._generator.random_raw(max(least, WORDS)).astype(np.int64)
        self._words = np.concatenate([self._words[self._at :], more])
        self._at = 0


class Plan:
    """From which background rows the columns of one anchor are taken. `order`: its predicates as they were found."""

    def __init__(self, predicates: Predicates, order: Sequence[int]) -> None:
        grid = predicates.grid
        ranges: dict[int, tuple[Range, ...]] = {}
        for predicate in order:
            column = predicates.columns[predicate]
            ranges[column] = (*ranges.get(column, ()), predicates.ranges[predicate])
        self._grid = grid
        self._ranges = ranges
        self.allowed = {column: grid.allowed_rows(column, ranges[column]) for column in ranges}
        self.own = tuple(column for column, rows in self.allowed.items() if not len(rows))
        self.columns = [column for column in ranges if column not in self.own]

    @cached_property
    def covered(self) -> Indices:
        """The background rows that the whole anchor covers."""
        return self.partial[-1] if self.partial else np.empty(0, dtype=np.int64)

    @cached_property
    def partial(self) -> list[Indices]:
        """The background rows that the anchor's first column covers, its first two, and so on."""
        rows: list[Indices] = []
        mask: Mask | None = None
        for column in self.columns:
            more = self._grid.mask(column, self._ranges[column])
            mask = more if mask is None else mask & more
            # alibi lists the rows of the first column bin by bin, of several columns in ascending order.
            rows.append(np.flatnonzero(mask) if rows else self.allowed[column])
        return rows

    def draw(self, numbers: Numbers, count: int) -> Draw:
        """`count` samples."""
        base = numbers.choose(self._grid.rows, count)
        if not self.columns:
            return Draw(base, {}, self.own)
        if len(self.covered) >= count:
            rows = self.covered[numbers.choose(len(self.covered), count)]
            return Draw(base, dict.fromkeys(self.columns, rows), self.own)
        return Draw(base, self._piecewise(numbers, base, count), self.own)

    def _piecewise(self, numbers: Numbers, base: Indices, count: int) -> dict[int, Indices]:
        """Fewer rows than samples: each covered row once, then rows covered by ever shorter beginnings of the anchor,
        whose missing columns, and at last all columns, are drawn one by one."""
        replaced = {column: base.copy() for column in self.columns}
        backwards = self.columns[::-1]
        partial = self.partial[::-1]
        start, wanted = 0, count
        for missing, rows in enumerate(partial):
            if not len(rows):
                continue
            taken = min(len(rows), wanted)
            chosen = rows if wanted >= len(rows) else rows[numbers.choose(len(rows), wanted)]
            for column in backwards[missing:]:
                replaced[column][start : start + taken] = chosen
            self._one_by_one(numbers, replaced, backwards[:missing], start, taken)
            start, wanted = start + taken, wanted - taken
            if not wanted:
                break
        if wanted:
            self._one_by_one(numbers, replaced, backwards, start, wanted)
        return replaced

    def _one_by_one(
        self, numbers: Numbers, replaced: dict[int, Indices], columns: list[int], start: int, count: int
    ) -> None:
        for column in columns:
            allowed = self.allowed[column]
            replaced[column][start : start + count] = allowed[numbers.choose(len(allowed), count)]


def coverage_weights(numbers: Numbers, grid: Grid, samples: int) -> Indices:
    """How often each background row was drawn (rows,) among the `samples` that coverage is measured on."""
    return np.bincount(numbers.choose(grid.rows, samples), minlength=grid.rows)
