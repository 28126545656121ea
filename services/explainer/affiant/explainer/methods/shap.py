"""SHAP values: how much each column's value moved the output that is explained (Lundberg, Lee 2017).

Interventional, for the raw columns, against a small fixed sample of the background; in probability space (identity
link) unless `Shap.units` says otherwise. Two ways lead there, and `Shap.estimator` says which was gone: exactly, where
the model is a sum of terms that can be read from its graph (`exact`), else KernelSHAP, as alibi drives it, on the model
as a black box (`sampled`). No column is selected away (`l1_reg`): a column that counts a little must not read as one
that does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affiant.common.events import Shap, ShapValue
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.exact import ExactShap
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sampled import kernel_shap
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import Trees

COALITIONS = 512
"""Sets of columns whose worth is asked of the model: all of them up to nine columns, and then the values are exact."""


def find_shap(predictor: Predictor, row: Matrix, explained: int, seed: int) -> Shap:
    """SHAP values of output `explained` for one coded row (columns,). The same seed gives the same values."""
    found = shap_values(predictor, row.reshape(1, -1), [explained], [seed])[0]
    if isinstance(found, Unexplainable):
        raise found
    return found


def prepare(predictor: Predictor) -> None:
    """Read the graph and compile what its values need, so that no row waits for it."""
    shap_values(predictor, predictor.baseline_rows[:1], [0], [0])


def shap_values(
    predictor: Predictor, rows: Matrix, explained: Sequence[int], seeds: Sequence[int]
) -> list[Shap | Unexplainable]:
    """SHAP values of output `explained[n]` for each coded row n of (N, columns), `seeds[n]` being its seed.

    A row's values do not depend on the others. A row on which the model fails gets the error, and harms no other.
    """
    if len(rows) == 0:
        return []
    exact = predictor.exact
    if exact is None:
        return _sampled(predictor, rows, explained, seeds)
    try:
        return _exact(predictor, exact, rows, explained)
    except Unexplainable as error:
        if len(rows) == 1:
            return [error]
        alone = (slice(at, at + 1) for at in range(len(rows)))
        return [shap_values(predictor, rows[one], explained[one], seeds[one])[0] for one in alone]


def _exact(
    predictor: Predictor, exact: ExactShap, rows: Matrix, explained: Sequence[int]
) -> list[Shap | Unexplainable]:
    found = exact.explain(rows, np.asarray(explained, dtype=np.int64))
    # What is said of the output is what the model itself says, so that a sum read wrongly would show as an error.
    said = predictor.outputs(rows)[np.arange(len(rows)), explained] if exact.behind_link else found.outputs
    units = predictor.units if exact.behind_link else _score_units(exact)
    estimator = _exact_estimator(exact, len(predictor.baseline_rows))
    return [
        _shap(predictor, rows[at], float(found.baselines[at]), float(said[at]), found.values[at], estimator, units)
        for at in range(len(rows))
    ]


def _sampled(
    predictor: Predictor, rows: Matrix, explained: Sequence[int], seeds: Sequence[int]
) -> list[Shap | Unexplainable]:
    background = predictor.baseline_rows
    found = kernel_shap(predictor.outputs, background, rows, np.asarray(explained, dtype=np.int64), seeds, COALITIONS)
    estimator = _kernel_estimator(rows.shape[1], len(background), predictor.not_exact)
    return [
        answer
        if isinstance(answer, Unexplainable)
        else _shap(predictor, row, answer[0], answer[1], answer[2], estimator, predictor.units)
        for row, answer in zip(rows, found, strict=True)
    ]


def _shap(
    predictor: Predictor, row: Matrix, baseline: float, output: float, values: Matrix, estimator: str, units: str
) -> Shap | Unexplainable:
    if not (np.isfinite(values).all() and np.isfinite([baseline, output]).all()):
        return Unexplainable("the model gives this row, or one mixed from it and the background, no finite output")
    named = [
        ShapValue(column=coding.column.name, value=coding.value(code), shap=float(value))
        for coding, code, value in zip(predictor.table.codings, row, values, strict=True)
    ]
    return Shap(
        baseline=baseline,
        output=output,
        values=named,
        additivity_error=abs(baseline + float(values.sum()) - output),
        estimator=estimator,
        units=units,
    )


def _score_units(exact: ExactShap) -> str:
    return "log-odds" if exact.model.link == "logistic" else f"score before the {exact.model.link}"


def _exact_estimator(exact: ExactShap, background: int) -> str:
    what = "trees" if isinstance(exact.model.terms, Trees) else "linear model"
    space = "" if exact.behind_link else f", of the {_score_units(exact)}: too many columns for probabilities"
    return f"exact interventional SHAP of the {what} in the ONNX graph{space}, {_against(background)}"


def _kernel_estimator(columns: int, background: int, why: str) -> str:
    every = 2**columns - 2
    asked = f"{min(COALITIONS, every)} of {every if columns <= 30 else f'2^{columns}'} coalitions"
    return (
        f"KernelSHAP (coalitions of shap 0.43), identity link, {asked}, {_against(background)}; no exact values: {why}"
    )


def _against(background: int) -> str:
    return f"{background} background rows evenly spaced by score"
