"""Models of many exporters over one made-up table, each with the table, the output and the rows to explain.

The table is hard on purpose: numbers with missing values, grades, strings, categories that the background hardly has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affiant.common.events import Column, Decision, ModelSpec, Scalar
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.sessions import open_session
from affiant.explainer.methods.table import Matrix, Table, read_table
from tests.support.explained import csv_of

NUMBERS = ("income", "debt", "age", "rate")
GRADES = ("children", "grade")
STRINGS = ("job", "home")
NAMES = (*NUMBERS, *GRADES, *STRINGS)
BACKGROUND_ROWS = 25


@dataclass(frozen=True)
class Exported:
    """`outputs` gives what the model itself says, (N, C), for coded rows."""

    name: str
    model: bytes
    output: str
    spec: ModelSpec
    table: Table
    rows: Matrix
    outputs: Callable[[Matrix], Matrix] = field(repr=False)


class Levels:
    """The values that occur in one explanation, by their rank in each column.

    shap calls two values equal when `np.isclose` does, and a column that seems never to change gets 0: true of any
    amounts below 1e-8, and of times in seconds that lie hours apart. Ranks are never close; so stock alibi is asked
    about ranks.
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


def values(count: int, seed: int, missing: bool) -> list[list[Scalar]]:
    random = np.random.default_rng(seed)
    return [
        [
            None if missing and random.random() < 0.15 else round(float(random.gamma(4, 10)), 1),
            round(float(random.gamma(2, 8)), 2),
            round(float(random.uniform(18, 80)), 0),
            round(float(random.normal()), 3),
            float(random.integers(0, 5)),
            float(random.integers(1, 4)),
            str(random.choice(["clerk", "driver", "nurse", "none"], p=[0.5, 0.3, 0.18, 0.02])),
            str(random.choice(["owner", "rent"])),
        ]
        for _ in range(count)
    ]


def target(row: list[Scalar]) -> float:
    income, debt, age, rate, children, grade, job, home = row
    burden = float(debt or 0) / float(income or 20) + 0.1 * float(children or 0) * (home == "rent")
    return burden + 0.3 * float(rate or 0) * float(grade or 0) - 0.01 * float(age or 0) + 0.5 * (job == "none")


def labels(rows: list[list[Scalar]], classes: int) -> Any:
    found = np.array([target(row) for row in rows])
    return np.digitize(found, np.quantile(found, np.arange(1, classes) / classes))


def matrix(rows: list[list[Scalar]]) -> Any:
    """The numbers and grades alone, as exporters that know no strings want them."""
    numbers = [[np.nan if value is None else value for value in row[:6]] for row in rows]
    return np.array(numbers, dtype=np.float32)


def frame(rows: list[list[Scalar]]) -> Any:
    import pandas as pd

    numbers = dict.fromkeys((*NUMBERS, *GRADES), "float32")
    return pd.DataFrame(rows, columns=list(NAMES)).astype(numbers)


@functools.cache
def pipeline(name: str, classes: int = 2, zipmap: bool = False) -> Exported:
    """A scikit-learn pipeline with one named input for each column: scaled, imputed and one-hot."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    estimator = _estimator(name)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (numbers, list(NUMBERS)),
        ("passthrough", list(GRADES)),
        (OneHotEncoder(handle_unknown="ignore"), list(STRINGS)),
    )
    model = make_pipeline(columns, estimator)
    seen = values(500, 1, missing=True)
    regression = name.endswith("regression")
    model.fit(frame(seen), [target(row) for row in seen] if regression else labels(seen, classes))
    types = [(each, (StringTensorType if each in STRINGS else FloatTensorType)([None, 1])) for each in NAMES]
    options = None if regression else {id(model): {"zipmap": zipmap}}
    exported = to_onnx(model, initial_types=types, options=options)
    named = [
        Column(
            name=each,
            kind="categorical" if each in STRINGS else "numeric",
            datatype="BYTES" if each in STRINGS else "FP32",
            input=each,
        )
        for each in NAMES
    ]
    return _exported(f"{name}, {classes} classes", exported, named, seen, values(30, 2, missing=True), classes)


@functools.cache
def boosted(library: str, kind: str) -> Exported:
    """XGBoost ("xgboost") or LightGBM ("lightgbm") on one matrix with missing values; kind "2", "3" or "regression"."""
    import lightgbm
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    seen = values(500, 3, missing=True)
    classes = 2 if kind == "regression" else int(kind)
    given = np.array([target(row) for row in seen]) if kind == "regression" else labels(seen, classes)
    made: Any
    if library == "xgboost":
        made = (xgboost.XGBRegressor if kind == "regression" else xgboost.XGBClassifier)(n_estimators=25, max_depth=4)
    else:
        chosen = lightgbm.LGBMRegressor if kind == "regression" else lightgbm.LGBMClassifier
        made = chosen(n_estimators=25, num_leaves=12, verbose=-1)
    made.fit(matrix(seen), given)
    convert = onnxmltools.convert_xgboost if library == "xgboost" else onnxmltools.convert_lightgbm
    exported = convert(made, initial_types=[("row", FloatTensorType([None, 6]))])
    columns = [
        Column(name=name, kind="numeric", datatype="FP32", input="row", index=index)
        for index, name in enumerate((*NUMBERS, *GRADES))
    ]
    rows = [row[:6] for row in values(30, 4, missing=True)]
    return _exported(f"{library} {kind}", exported, columns, [row[:6] for row in seen], rows, classes)


@functools.cache
def wide(columns: int = 200) -> Exported:
    """Gradient boosting over a matrix of many numbers."""
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    random = np.random.default_rng(5)
    numbers = random.normal(size=(400, columns)).round(3).astype(np.float32)
    chosen = numbers @ random.normal(size=columns) > 0
    model = GradientBoostingClassifier(n_estimators=60).fit(numbers, chosen.astype(int))
    exported = to_onnx(model, numbers[:1], options={id(model): {"zipmap": False}})
    named = [
        Column(name=f"c{at}", kind="numeric", datatype="FP32", input=exported.graph.input[0].name, index=at)
        for at in range(columns)
    ]
    rows: list[list[Scalar]] = [[float(value) for value in row] for row in numbers]
    return _exported("wide", exported, named, rows[:300], rows[300:330], 2)


def _estimator(name: str) -> Any:
    from sklearn import ensemble, linear_model, neural_network, svm, tree

    made: dict[str, Callable[[], Any]] = {
        "logistic": lambda: linear_model.LogisticRegression(max_iter=500),
        "linear regression": lambda: linear_model.LinearRegression(),
        "tree": lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0),
        "forest": lambda: ensemble.RandomForestClassifier(30, min_samples_leaf=3, random_state=0),
        "forest regression": lambda: ensemble.RandomForestRegressor(20, min_samples_leaf=3, random_state=0),
        "boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=40, random_state=0),
        "network": lambda: neural_network.MLPClassifier((8,), max_iter=300, random_state=0),
        "support vectors": lambda: svm.SVC(probability=True, random_state=0),
    }
    return made[name]()


def _exported(
    name: str, model: Any, columns: list[Column], background: list[list[Scalar]], rows: list[list[Scalar]], classes: int
) -> Exported:
    data = model.SerializeToString()
    table = read_table(columns, csv_of([column.name for column in columns], background[:BACKGROUND_ROWS]))
    outputs = [output.name for output in model.graph.output]
    session = open_session(data)

    def answers(coded: Matrix) -> Matrix:
        try:
            found = session.run([outputs[-1]], table.feed(coded))[0]
        except Exception as error:
            raise Unexplainable(str(error)) from error
        if isinstance(found, list):  # ZipMap
            found = np.array([[each[label] for label in sorted(each)] for each in found])
        return np.asarray(found, dtype=np.float64).reshape(len(coded), -1)

    labels = list(range(classes))
    decision = Decision(label_output=outputs[0], probability_output=outputs[-1], classes=labels, favourable=1)
    spec = ModelSpec(
        model="made",
        version=1,
        digest="sha256:0",
        size_bytes=len(data),
        author="ana",
        inputs=[],
        outputs=[],
        columns=columns,
        decision=decision if len(outputs) == 2 else None,
    )
    return Exported(name, data, outputs[-1], spec, table, np.array([table.encode(row) for row in rows]), answers)
