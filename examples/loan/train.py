"""Two models of one table, as ONNX files that answer like scikit-learn does.

Every column is an input of its own, shape (N, 1): float (NaN = missing) or string ("" = missing). Outputs: `label`
(N,) text, `probabilities` (N, 2) in the order of `classes`.

**Rare denials.** A model fitted on 12 % denials and cut at one half denies hardly anyone. The unfavourable rows get a
weight, chosen from cross-validated scores so that denials are about as frequent as in the table. Ranking stays as it
was; the probabilities are those of the weighted table, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from affiant.common.errors import Problem
from examples.loan.table import Table

HELD_OUT = 0.3
BACKGROUND_ROWS = 1_000
LARGEST_DIFFERENCE = 1e-4
"""Of a probability, between scikit-learn (double precision) and ONNX (single)."""

Kind = Literal["logistic regression", "gradient boosting"]
KINDS: tuple[Kind, ...] = ("logistic regression", "gradient boosting")


@dataclass(frozen=True)
class Split:
    """The table in two parts: people to learn from and people whose applications are sent."""

    learn: NDArray[np.int64]
    held_out: NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A trained pipeline as an ONNX file, with what was measured on the held-out people.

    `largest_difference`: of any probability between scikit-learn and ONNX, over all held-out rows and over the same
    rows with every tenth value taken away.
    """

    kind: Kind
    onnx: bytes
    classes: tuple[str, ...]
    auc: float
    accuracy: float
    adverse_rate: float
    adverse_weight: float
    largest_difference: float
    rows_compared: int


def split(table: Table, seed: int) -> Split:
    """Shuffle and cut, with the same share of denials in both parts.

    A person with a category that nobody else has is learned from: of such a one a model can say nothing.
    """
    learn, held_out = train_test_split(
        np.arange(table.rows), test_size=HELD_OUT, random_state=seed, stratify=table.labels
    )
    unheard = _adds_a_category(table, held_out, learn)
    return Split(np.concatenate([learn, held_out[unheard]]), held_out[~unheard])


def background(table: Table, parts: Split, seed: int) -> str:
    """The rows that explanations are made against, as CSV: some of those that were learned from.

    With at least one row for each category, and with the protected columns that the models do not see.
    """
    shuffled = np.random.default_rng(seed).permutation(parts.learn)
    rows, others = shuffled[:BACKGROUND_ROWS], shuffled[BACKGROUND_ROWS:]
    rows = np.concatenate([rows, others[_adds_a_category(table, others, rows)]])
    numeric = {column.name: np.float32 for column in table.columns if column.kind == "numeric"}
    beside = [name for name in table.protected.columns if name not in table.features.columns]
    # In single precision a value is written as it was read: 0.35, not 0.3499999940395355.
    features = table.features.iloc[rows].astype(numeric)
    whole = pd.concat([features, table.protected[beside].iloc[rows]], axis=1)
    return str(whole.to_csv(index=False, lineterminator="\n"))


def _adds_a_category(table: Table, rows: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `rows` hold a category that none of `known` holds."""
    new = np.zeros(len(rows), dtype=bool)
    for column in table.columns:
        if column.kind == "categorical":
            values = table.features[column.name]
            new |= ~values.iloc[rows].isin(set(values.iloc[known])).to_numpy()
    return new


def train(table: Table, parts: Split, kind: Kind, seed: int) -> Model:
    """Fit, export and compare. Raises `Problem` when the ONNX file does not answer like the pipeline."""
    learn, labels = table.features.iloc[parts.learn], table.labels.iloc[parts.learn]
    pipeline = _pipeline(table, kind, seed)
    weight = _adverse_weight(pipeline, learn, labels, table.adverse)
    pipeline.fit(learn, labels, **_weights(labels, table.adverse, weight))
    onnx = export(pipeline, table)
    held_out = table.features.iloc[parts.held_out]
    compared = pd.concat([held_out, _with_holes(table, held_out, seed)])
    difference = _largest_difference(onnx, pipeline, table, compared)
    actual = table.labels.iloc[parts.held_out]
    answers = pipeline.predict(held_out)
    favourable = pipeline.predict_proba(held_out)[:, list(pipeline.classes_).index(table.favourable)]
    return Model(
        kind=kind,
        onnx=onnx,
        classes=tuple(str(label) for label in pipeline.classes_),
        auc=float(roc_auc_score(actual == table.favourable, favourable)),
        accuracy=float((answers == actual).mean()),
        adverse_rate=float((answers == table.adverse).mean()),
        adverse_weight=weight,
        largest_difference=difference,
        rows_compared=len(compared),
    )


def _pipeline(table: Table, kind: Kind, seed: int) -> Pipeline:
    linear = kind == "logistic regression"
    numeric = [column.name for column in table.columns if column.kind == "numeric"]
    categorical = [column.name for column in table.columns if column.kind == "categorical"]
    # Trees need no scaling, and it would hurt: a value scaled in single precision can fall on a split's other side.
    numbers = make_pipeline(SimpleImputer(strategy="median"), *([StandardScaler()] if linear else []))
    parts = [("numbers", numbers, numeric), ("texts", OneHotEncoder(handle_unknown="ignore"), categorical)]
    classifier = (
        LogisticRegression(max_iter=1_000, C=0.5)
        if linear
        else GradientBoostingClassifier(n_estimators=60, max_depth=3, subsample=0.8, random_state=seed)
    )
    columns = ColumnTransformer([part for part in parts if part[2]])
    return Pipeline([("columns", columns), ("classifier", classifier)])


def _adverse_weight(pipeline: Pipeline, learn: pd.DataFrame, labels: pd.Series[str], adverse: str) -> float:
    """The weight of an unfavourable row that moves the cut from its place to one half (odds times weight)."""
    scores = cross_val_predict(pipeline, learn, labels, cv=3, method="predict_proba")
    of_adverse = scores[:, sorted(set(labels)).index(adverse)]
    cut = float(np.clip(np.quantile(of_adverse, 1.0 - (labels == adverse).mean()), 0.02, 0.98))
    return round((1.0 - cut) / cut, 2)


def _weights(labels: pd.Series[str], adverse: str, weight: float) -> dict[str, Any]:
    return {"classifier__sample_weight": np.where(labels == adverse, weight, 1.0)}


def export(pipeline: Pipeline, table: Table) -> bytes:
    """The fitted pipeline as ONNX bytes, with one named input per column and plain tensors out."""
    inputs = [
        (column.name, (FloatTensorType if column.kind == "numeric" else StringTensorType)([None, 1]))
        for column in table.columns
    ]
    model = to_onnx(
        pipeline,
        initial_types=inputs,
        options={id(pipeline.steps[-1][1]): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    return bytes(model.SerializeToString())


def answers(onnx: bytes, table: Table, rows: pd.DataFrame) -> tuple[list[str], NDArray[np.float32]]:
    """Labels and probabilities (N, 2) of the ONNX file for `rows` of features."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feeds = {
        column.name: rows[column.name].to_numpy(dtype=np.float32 if column.kind == "numeric" else object).reshape(-1, 1)
        for column in table.columns
    }
    labels, probabilities = session.run(None, feeds)
    return [str(label) for label in labels], probabilities


def _with_holes(table: Table, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The same rows with every tenth value missing, so that missing values are compared too."""
    holes = np.random.default_rng(seed).random(rows.shape) < 0.1
    return pd.DataFrame(
        {
            column.name: rows[column.name].mask(holes[:, place], np.nan if column.kind == "numeric" else "")
            for place, column in enumerate(table.columns)
        }
    )


def _largest_difference(onnx: bytes, pipeline: Pipeline, table: Table, rows: pd.DataFrame) -> float:
    expected = pipeline.predict_proba(rows)
    labels, probabilities = answers(onnx, table, rows)
    difference = float(np.abs(expected - probabilities).max())
    # At one half exactly either label is right; elsewhere they must agree.
    decided = np.abs(expected[:, 0] - 0.5) > LARGEST_DIFFERENCE
    other = int((np.array(labels)[decided] != pipeline.predict(rows)[decided]).sum())
    if difference > LARGEST_DIFFERENCE or other:
        raise Problem(
            f"the ONNX file differs from scikit-learn: probabilities by up to {difference:.2g}, {other} decisions"
        )
    return difference
