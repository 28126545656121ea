"""SHAP values: how much each column's value moved the probability of the decision (Lundberg, Lee 2017).

KernelSHAP on the raw columns, in probability space (identity link), against a small fixed sample of the background.
No column is selected away (`l1_reg`): a column that counts a little must not read as one that does not count.
"""

from __future__ import annotations

import numpy as np

from affiant.common.events import Shap, ShapValue
from affiant.explainer.methods.libraries import KernelShap, software
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.table import Matrix

BACKGROUND_ROWS = 40
COALITIONS = 512
"""Sets of columns whose worth is asked of the model: all of them up to nine columns, and then the values are exact."""


class Levels:
    """The values that occur in one explanation, by their rank in each column.

    shap calls two values equal when `np.isclose` does, and a column that seems never to change gets 0: true of any
    amounts below 1e-8, and of times in seconds that lie hours apart. Ranks are never close.
    """

    def __init__(self, rows: Matrix) -> None:
        self._levels = [np.unique(column) for column in rows.T]

    def ranks(self, rows: Matrix) -> Matrix:
        """Rows (N, columns) that were given at the start, as ranks."""
        pairs = zip(self._levels, rows.T, strict=True)
        return np.column_stack([np.searchsorted(level, column) for level, column in pairs]).astype(np.float64)

    def rows(self, ranks: Matrix) -> Matrix:
        """The rows (N, columns) behind ranks."""
        pairs = zip(self._levels, ranks.T.astype(np.int64), strict=True)
        return np.column_stack([level[column] for level, column in pairs])


def find_shap(predictor: Predictor, row: Matrix, explained: int, seed: int) -> Shap:
    """SHAP values of class `explained` for one coded row (columns,). The same seed gives the same values."""
    background = predictor.representatives(BACKGROUND_ROWS)
    levels = Levels(np.vstack([background, row]))

    def probability(ranks: Matrix) -> Matrix:
        return predictor.probabilities(levels.rows(ranks))[:, [explained]]

    explainer = KernelShap(probability, link="identity", feature_names=predictor.table.names, seed=seed)
    explainer.fit(levels.ranks(background))
    np.random.seed(seed)  # shap draws from numpy's global generator
    raw = explainer.explain(levels.ranks(row.reshape(1, -1)), nsamples=COALITIONS, l1_reg=False, silent=True)
    values = np.asarray(raw.shap_values[0], dtype=np.float64).reshape(-1)
    baseline = float(np.squeeze(raw.expected_value[0]))
    output = float(predictor.probabilities(row.reshape(1, -1))[0, explained])
    return Shap(
        baseline=baseline,
        output=output,
        values=_values(predictor, row, values),
        additivity_error=abs(baseline + float(values.sum()) - output),
        estimator=_estimator(len(row), len(background)),
    )


def _values(predictor: Predictor, row: Matrix, values: Matrix) -> list[ShapValue]:
    return [
        ShapValue(column=coding.column.name, value=coding.value(code), shap=float(value))
        for coding, code, value in zip(predictor.table.codings, row, values, strict=True)
    ]


def _estimator(columns: int, background: int) -> str:
    coalitions = min(COALITIONS, 2**columns - 2)
    return (
        f"KernelShap (alibi {software()['alibi']}), identity link, {coalitions} of {2**columns - 2} coalitions, "
        f"{background} background rows evenly spaced by score"
    )
