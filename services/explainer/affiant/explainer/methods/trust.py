"""How far an explanation can be trusted: how unusual the row is, and whether other seeds would say the same.

Distance: Gower's (1971), the mean over the columns of the difference as a share of the background's range, 1 for
another category or where only one value is missing. A row's figure is its mean distance to its nearest background rows,
and the percentile of that among the background rows' own figures. Explanations are made from background rows: of a row
unlike any of them they say little, however precise their figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from affiant.common.events import Shap
from affiant.explainer.methods.table import MISSING, Matrix, Table

NEIGHBOURS = 5
MOST_ROWS = 1_000
"""Background rows that distances are measured to: evenly spaced ones of a longer background."""

ROWS_AT_ONCE = 50
TOP_COLUMNS = 4
"""Of SHAP values: as many as an adverse action notice names."""

UNSTABLE_BELOW = 0.5
"""Mean overlap of the columns over the seeds. Two sets of two columns that share one overlap by a third."""


class Distances:
    """Distances to one version's background."""

    def __init__(self, table: Table) -> None:
        rows = table.background
        if len(rows) > MOST_ROWS:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
        self._categorical = np.array([coding.categorical for coding in table.codings])
        known = np.where(rows <= MISSING, np.nan, rows)
        ranges = np.array([_range(column) for column in known.T])
        self._ranges = np.where(self._categorical, 1.0, ranges)
        self._rows = known
        self._own = np.sort(self._nearest(known, itself=True))

    def of(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """For coded rows (N, columns): the distance (0-1) and its percentile among the background's own (0-100)."""
        found = self._nearest(np.where(rows <= MISSING, np.nan, rows), itself=False)
        return found, np.searchsorted(self._own, found, side="right") * 100.0 / len(self._own)

    def _nearest(self, rows: Matrix, *, itself: bool) -> Matrix:
        """The mean distance of each row to its nearest background rows, of which with `itself` it is one."""
        parts = [self._distances(rows[at : at + ROWS_AT_ONCE]) for at in range(0, len(rows), ROWS_AT_ONCE)]
        distances = np.sort(np.concatenate(parts), axis=1)
        first = 1 if itself and distances.shape[1] > 1 else 0
        nearest: Matrix = distances[:, first : first + NEIGHBOURS].mean(axis=1)
        return nearest

    def _distances(self, rows: Matrix) -> Matrix:
        apart = np.abs(rows[:, None, :] - self._rows[None, :, :]) / self._ranges
        # Beyond the background's range a column counts as another category does, and no more.
        apart = np.where(self._categorical, apart > 0, np.minimum(apart, 1.0))
        one_missing = np.isnan(rows)[:, None, :] != np.isnan(self._rows)[None, :, :]
        summed: Matrix = np.where(one_missing, 1.0, np.nan_to_num(apart, nan=0.0)).mean(axis=2)
        return summed


def overlap(sets: Sequence[frozenset[str]]) -> float:
    """The mean Jaccard index of all pairs; two empty sets agree."""
    pairs = [len(one & other) / len(one | other) if one | other else 1.0 for one, other in combinations(sets, 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0


def largest(shap: Shap) -> frozenset[str]:
    """The columns with the largest SHAP values."""
    ordered = sorted(shap.values, key=lambda value: -abs(value.shap))
    return frozenset(value.column for value in ordered[:TOP_COLUMNS] if value.shap)


def _range(column: Matrix) -> float:
    known = column[~np.isnan(column)]
    found = float(np.max(known) - np.min(known)) if len(known) else 0.0
    return found or 1.0
