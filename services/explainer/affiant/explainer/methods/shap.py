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


def find_shap(predictor: Predictor, row: Matrix, explained: int, seed: int) -> Shap:
    """SHAP values of class `explained` for one coded row (columns,). The same seed gives the same values."""

    def probability(rows: Matrix) -> Matrix:
        return predictor.probabilities(rows)[:, [explained]]

    background = predictor.representatives(BACKGROUND_ROWS)
    explainer = KernelShap(probability, link="identity", feature_names=predictor.table.names, seed=seed)
    explainer.fit(background)
    np.random.seed(seed)  # shap draws from numpy's global generator
    raw = explainer.explain(row.reshape(1, -1), nsamples=COALITIONS, l1_reg=False, silent=True)
    values = np.asarray(raw.shap_values[0], dtype=np.float64).reshape(-1)
    baseline = float(np.squeeze(raw.expected_value[0]))
    output = float(probability(row.reshape(1, -1))[0, 0])
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
