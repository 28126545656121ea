"""The coalitions that KernelSHAP asks the model about, and the regression that turns their worths into SHAP values.

The same ones, with the same weights, as shap 0.43's `KernelExplainer` draws (alibi drives that one) after
`np.random.seed(seed)`: the sizes that fit into the budget completely, smallest and largest first, then random ones with
their complements. They depend on the number of columns that vary, the budget and the seed alone, so rows share them.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from affiant.explainer.methods.table import Matrix

KEPT = 64
"""Sets of coalitions kept: one is 4 MB at 12 columns and the budget of shap's documentation."""


@dataclass(frozen=True)
class Coalitions:
    """`masks` (coalitions, columns): true where a column is the row's own. `solve` is the regression's matrix."""

    masks: npt.NDArray[np.bool_]
    solve: Matrix

    def values(self, worth: Matrix, total: float) -> Matrix:
        """SHAP values (columns,) from the worth of each coalition above the baseline; they add up to `total`."""
        kept = self.solve @ (worth - self.masks[:, -1] * total)
        values = np.append(kept, total - kept.sum())
        # As shap does: what is below is rounding.
        values[np.abs(values) < 1e-10] = 0.0
        return values


@functools.lru_cache(maxsize=KEPT)
def draw(columns: int, budget: int, seed: int) -> Coalitions:
    """At most `budget` coalitions of `columns` (at least two) columns."""
    count = min(budget, 2**columns - 2) if columns <= 30 else budget
    masks, weights = _draw(columns, count, seed)
    differences = masks[:, :-1] - masks[:, -1:]
    weighted = differences * weights[:, None]
    gram = weighted.T @ differences
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(gram)
    return Coalitions(masks.astype(np.bool_), inverse @ weighted.T)


def _draw(columns: int, count: int, seed: int) -> tuple[Matrix, Matrix]:
    sizes, paired = math.ceil((columns - 1) / 2), (columns - 1) // 2
    by_size = np.array([(columns - 1.0) / (size * (columns - size)) for size in range(1, sizes + 1)])
    by_size[:paired] *= 2
    by_size /= by_size.sum()
    masks: list[Matrix] = []
    weights: list[float] = []
    complete = _complete_sizes(columns, count, by_size, paired)
    for size in range(1, complete + 1):
        weight = by_size[size - 1] / math.comb(columns, size) / (2.0 if size <= paired else 1.0)
        for members in itertools.combinations(range(columns), size):
            mask = np.zeros(columns)
            mask[list(members)] = 1.0
            masks.append(mask)
            if size <= paired:
                masks.append(1.0 - mask)
        weights.extend([weight] * (len(masks) - len(weights)))
    if complete == sizes:
        return np.array(masks), np.array(weights)
    fixed = len(masks)
    _sample(columns, count, seed, by_size, paired, complete, masks, weights)
    drawn = np.array(weights)
    drawn[fixed:] *= by_size[complete:].sum() / drawn[fixed:].sum()
    return np.array(masks), drawn


def _complete_sizes(columns: int, count: int, by_size: Matrix, paired: int) -> int:
    """How many sizes, from the smallest, are asked about completely."""
    left: float = count
    remaining = by_size.copy()
    for at in range(len(by_size)):
        subsets = math.comb(columns, at + 1) * (2 if at + 1 <= paired else 1)
        if left * remaining[at] / subsets < 1.0 - 1e-8:
            return at
        left -= subsets
        if remaining[at] < 1.0:
            remaining /= 1 - remaining[at]
    return len(by_size)


def _sample(
    columns: int,
    count: int,
    seed: int,
    by_size: Matrix,
    paired: int,
    complete: int,
    masks: list[Matrix],
    weights: list[float],
) -> None:
    """Add random coalitions until there are `count`; one that is drawn again weighs more."""
    # The generator that np.random.seed seeds and shap draws from, as an object of its own.
    random = np.random.RandomState(seed)
    chances = by_size.copy()
    chances[:paired] /= 2
    chances = chances[complete:] / chances[complete:].sum()
    left = count - len(masks)
    used: dict[bytes, int] = {}
    for drawn in random.choice(len(chances), 4 * left, p=chances):
        if left <= 0:
            return
        size = int(drawn) + complete + 1
        mask = np.zeros(columns)
        mask[random.permutation(columns)[:size]] = 1.0
        key = mask.tobytes()
        at = used.get(key)
        if at is None:
            used[key] = len(masks)
            masks.append(mask)
            weights.append(1.0)
            left -= 1
            if left > 0 and size <= paired:
                masks.append(1.0 - mask)
                weights.append(1.0)
                left -= 1
        else:
            weights[at] += 1.0
            # shap adds to the next one, whatever it is, except when the budget is spent.
            if left > 0 and size <= paired:
                weights[at + 1] += 1.0
