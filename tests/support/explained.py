"""Two small real models to explain: trained here by scikit-learn on a made-up loan table, exported by skl2onnx."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affiant.common import ids
from affiant.common.events import (
    Column,
    Decision,
    ExplainPolicy,
    ModelSpec,
    Policy,
    PredictionLogged,
    Scalar,
    TensorData,
)

KINDS = {"income": "FP32", "debt": "FP32", "children": "INT64", "job": "BYTES", "home": "BYTES"}
JOBS = ("clerk", "driver", "nurse", "none")
HOMES = ("owner", "rent")
Rows = list[list[Scalar]]


@dataclass(frozen=True)
class Trained:
    """A model, its background, and rows that neither has seen, with what the model decides on them."""

    model: bytes
    background: bytes
    spec: ModelSpec
    rows: Rows
    labels: list[str | int]
    scores: list[float] = field(repr=False)

    def denied(self) -> list[int]:
        """The positions of the rows that the model decides against."""
        assert self.spec.decision is not None
        return [at for at, label in enumerate(self.labels) if label != self.spec.decision.favourable]

    def granted(self) -> list[int]:
        return sorted(set(range(len(self.rows))) - set(self.denied()))

    def record(self, *positions: int) -> PredictionLogged:
        """One request that holds these rows."""
        chosen = [self.rows[at] for at in positions]
        denied = set(self.denied())
        return PredictionLogged(
            prediction_id=ids.uuid7(),
            model=self.spec.model,
            version=self.spec.version,
            digest=self.spec.digest,
            received_at=ids.now(),
            status="answered",
            replica="r1",
            epoch=1,
            sequence=1,
            inputs=_tensors(self.spec, chosen),
            labels=[self.labels[at] for at in positions],
            scores=[self.scores[at] for at in positions],
            adverse=[at in denied for at in positions],
        )


def table(rows: int, seed: int) -> Rows:
    """Rows in the order of `KINDS`; a tenth of the incomes and a few homes are missing."""
    random = np.random.default_rng(seed)
    return [
        [
            None if random.random() < 0.1 else round(float(random.gamma(4, 10)), 1),
            round(float(random.gamma(2, 8)), 2),
            int(random.integers(0, 5)),
            str(random.choice(JOBS)),
            "" if random.random() < 0.03 else str(random.choice(HOMES)),
        ]
        for _ in range(rows)
    ]


def outcome(row: list[Scalar]) -> str:
    """What is learnt: denied with a high debt for the income, or without a job in a rented home."""
    income, debt, children, job, home = row
    burden = float(debt or 0) / float(income or 15.0) + 0.05 * int(children or 0)
    return "denied" if burden > 0.75 or (job == "none" and home == "rent") else "granted"


@functools.cache
def boosting() -> Trained:
    """A gradient boosting pipeline over mixed columns: one named input each, labels are strings."""
    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    def frame(rows: Rows) -> Any:
        return pd.DataFrame(rows, columns=list(KINDS)).astype({"income": "float32", "debt": "float32"})

    seen, held_out = table(600, 1), table(200, 2)
    pipeline = make_pipeline(
        make_column_transformer(
            (SimpleImputer(strategy="median"), ["income", "debt"]),
            ("passthrough", ["children"]),
            (OneHotEncoder(handle_unknown="ignore"), ["job", "home"]),
        ),
        GradientBoostingClassifier(n_estimators=40, random_state=0),
    )
    pipeline.fit(frame(seen), [outcome(row) for row in seen])
    types = {"FP32": FloatTensorType, "INT64": Int64TensorType, "BYTES": StringTensorType}
    model = to_onnx(
        pipeline,
        initial_types=[(name, types[kind]([None, 1])) for name, kind in KINDS.items()],
        options={id(pipeline): {"zipmap": False}},
    ).SerializeToString()
    columns = [
        Column(name=name, kind="categorical" if kind == "BYTES" else "numeric", datatype=kind, input=name)
        for name, kind in KINDS.items()
    ]
    return _trained("loan", model, columns, seen[:400], held_out, "granted")


@functools.cache
def logistic() -> Trained:
    """A logistic regression over one matrix of numbers, labels are 0 and 1."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    names = ("income", "debt", "children")

    def numbers(rows: Rows) -> Rows:
        return [[float(row[0] or 15.0), float(row[1] or 0.0), float(row[2] or 0.0)] for row in rows]

    seen, held_out = table(600, 3), table(100, 4)
    classifier = LogisticRegression().fit(
        np.array(numbers(seen), dtype=np.float32), [int(outcome(row) == "granted") for row in seen]
    )
    model = to_onnx(
        classifier,
        initial_types=[("row", FloatTensorType([None, len(names)]))],
        options={id(classifier): {"zipmap": False}},
    ).SerializeToString()
    columns = [
        Column(name=name, kind="numeric", datatype="FP32", input="row", index=index) for index, name in enumerate(names)
    ]
    return _trained("plain", model, columns, numbers(seen[:300]), numbers(held_out), 1)


@functools.cache
def forest() -> Trained:
    """A random forest with three classes over one matrix: numbers, a count, and categories as numbers."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import RandomForestClassifier

    def numbers(rows: Rows) -> Rows:
        return [
            [float(row[0] or 15.0), float(row[1] or 0.0), float(row[2] or 0.0), float(JOBS.index(str(row[3])))]
            for row in rows
        ]

    def outcome_of_three(row: list[Scalar]) -> str:
        return "referred" if int(row[2] or 0) == 2 and row[3] != "nurse" else outcome(row)

    seen, held_out = table(900, 5), table(300, 6)
    classifier = RandomForestClassifier(30, max_depth=7, random_state=0)
    classifier.fit(np.array(numbers(seen), dtype=np.float32), [outcome_of_three(row) for row in seen])
    model = to_onnx(
        classifier, initial_types=[("row", FloatTensorType([None, 4]))], options={id(classifier): {"zipmap": False}}
    ).SerializeToString()
    columns = [
        Column(name=name, kind="categorical" if name == "job" else "numeric", datatype="FP32", input="row", index=index)
        for index, name in enumerate(("income", "debt", "children", "job"))
    ]
    classes: list[str | int] = ["denied", "granted", "referred"]
    return _trained("three", model, columns, numbers(seen[:500]), numbers(held_out), "granted", classes)


@functools.cache
def regression() -> Trained:
    """Boosted trees that predict an interest rate in percent from numbers; at most 8 is what an applicant hopes for."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import GradientBoostingRegressor

    names = ("income", "debt", "children")

    def numbers(rows: Rows) -> Rows:
        return [[float(row[0] or 15.0), float(row[1] or 0.0), float(row[2] or 0.0)] for row in rows]

    def rate(row: list[Scalar]) -> float:
        return 3.0 + 8.0 * float(row[1] or 0) / float(row[0] or 1) + 0.4 * float(row[2] or 0)

    seen, held_out = numbers(table(600, 5)), numbers(table(100, 6))
    regressor = GradientBoostingRegressor(n_estimators=40, random_state=0)
    regressor.fit(np.array(seen, dtype=np.float32), [rate(row) for row in seen])
    model = to_onnx(regressor, initial_types=[("row", FloatTensorType([None, len(names)]))]).SerializeToString()
    columns = [
        Column(name=name, kind="numeric", datatype="FP32", input="row", index=index) for index, name in enumerate(names)
    ]
    decision = Decision(
        label_output="",
        probability_output="",
        classes=["below", "above"],
        favourable="below",
        value_output="variable",
        threshold=8.0,
    )
    spec, data = _spec("rate", model, columns, seen[:300], decision)
    values = _session(model).run(["variable"], _feed(spec, held_out))[0].reshape(-1)
    return Trained(model, data, spec, held_out, [decision.side(value) for value in values.tolist()], values.tolist())


def csv_of(names: list[str], rows: Rows) -> bytes:
    """The rows as CSV; missing values are empty cells."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue().encode()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _trained(
    name: str,
    model: bytes,
    columns: list[Column],
    background: Rows,
    rows: Rows,
    favourable: str | int,
    classes: list[str | int] | None = None,
) -> Trained:
    label, probability = (output.name for output in _session(model).get_outputs())
    if classes is None:
        classes = ["denied", "granted"] if isinstance(favourable, str) else [0, 1]
    decision = Decision(label_output=label, probability_output=probability, classes=classes, favourable=favourable)
    spec, data = _spec(name, model, columns, background, decision)
    labels, probabilities = _session(model).run(None, _feed(spec, rows))
    scores = [float(each) for each in probabilities[:, classes.index(favourable)]]
    return Trained(model, data, spec, rows, labels.tolist(), scores)


def _spec(
    name: str, model: bytes, columns: list[Column], background: Rows, decision: Decision
) -> tuple[ModelSpec, bytes]:
    """The version, and its background as CSV."""
    data = csv_of([column.name for column in columns], background)
    spec = ModelSpec(
        model=name,
        version=1,
        digest=digest(model),
        size_bytes=len(model),
        author="ana",
        inputs=[],
        outputs=[],
        columns=columns,
        decision=decision,
        background_digest=digest(data),
        policy=Policy(explain=ExplainPolicy()),
    )
    return spec, data


def _session(model: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _feed(spec: ModelSpec, rows: Rows) -> dict[str, Any]:
    """The request as the model server would make it from the tensors."""
    types = {"FP32": np.float32, "INT64": np.int64, "BYTES": object}
    return {
        tensor.name: np.array(
            [math.nan if value is None else value for value in tensor.data], dtype=types[tensor.datatype]
        ).reshape(tensor.shape)
        for tensor in _tensors(spec, rows)
    }


def _tensors(spec: ModelSpec, rows: Rows) -> list[TensorData]:
    widths: dict[str, list[int]] = {}
    for at, column in enumerate(spec.columns):
        widths.setdefault(column.input, []).append(at)
    return [
        TensorData(
            name=name,
            datatype=spec.columns[found[0]].datatype,
            shape=[len(rows), len(found)],
            data=[row[at] for row in rows for at in found],
        )
        for name, found in widths.items()
    ]
