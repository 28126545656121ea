"""Three models of one made loan table with twelve columns, as the explainer loads them.

Eight numeric columns (one a count) and four categories as numbers, in one matrix of float32. The models are
scikit-learn pipelines exported by skl2onnx: one-hot encoding and scaling, then a logistic regression, 100 boosted trees
of depth 3, or a forest of 100 trees of depth 8.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from affiant.common.events import Column, Decision, ModelSpec, PredictionLogged, TensorData
from affiant.common.ids import now, uuid7

KINDS = ("logistic", "boosting", "forest")
CATEGORIES = {3: 4, 4: 5, 10: 3, 11: 7}
"""How many categories each categorical column has."""

COLUMNS = 12
NAMES = [f"column {at}" for at in range(COLUMNS)]
LEARN, BACKGROUND, ROWS = 2_000, 1_000, 6_000

Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Loans:
    """A model with its background and rows that it has not seen; `denied`: those of them that it decides against."""

    kind: str
    model: bytes
    background: Table
    rows: Table
    denied: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    spec: ModelSpec

    @property
    def background_csv(self) -> bytes:
        lines = [",".join(NAMES), *(",".join(f"{value}" for value in row) for row in self.background)]
        return ("\n".join(lines) + "\n").encode()

    def record(self, at: int) -> PredictionLogged:
        """The prediction that a model server would log for one row."""
        is_denied = bool(self._is_denied[at])
        return PredictionLogged(
            prediction_id=uuid7(),
            model=self.spec.model,
            version=self.spec.version,
            digest=self.spec.digest,
            received_at=now(),
            status="answered",
            replica="r1",
            epoch=1,
            sequence=at + 1,
            inputs=[TensorData(name="X", datatype="FP32", shape=[1, COLUMNS], data=[float(v) for v in self.rows[at]])],
            labels=[0 if is_denied else 1],
            scores=[float(self.scores[at])],
            adverse=[is_denied],
        )

    @property
    def _is_denied(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(self.rows), dtype=np.bool_)
        mask[self.denied] = True
        return mask


def table(rows: int, seed: int = 0) -> tuple[Table, npt.NDArray[np.int64]]:
    """`rows` applications, and whether each is granted (1) or denied (0)."""
    random = np.random.default_rng(seed)
    numbers = [
        random.gamma(4, 10, rows),
        random.beta(2, 5, rows),
        random.normal(0.7, 0.2, rows),
        random.gamma(2, 4, rows).round(),
        random.normal(40, 12, rows),
        random.exponential(3, rows),
        random.normal(0, 1, rows),
        random.integers(0, 12, rows).astype(float),
    ]
    found = np.empty((rows, COLUMNS), dtype=np.float32)
    for at, size in CATEGORIES.items():
        found[:, at] = random.integers(0, size, rows)
    for at, values in zip([at for at in range(COLUMNS) if at not in CATEGORIES], numbers, strict=True):
        found[:, at] = values
    income, debt, value, history, _, age, years, late, other, _ = (
        found[:, 0], found[:, 1], found[:, 2], found[:, 3], found[:, 4], found[:, 5], found[:, 6], found[:, 7],
        found[:, 8], found[:, 9],
    )  # fmt: skip
    points = 0.05 * (income - 40) - 4 * (debt - 0.3) - 2 * (value - 0.7) + 0.08 * (age - 8) - 0.5 * history
    points = points - 0.3 * other + 0.4 * (found[:, 10] == 1) - 0.8 * (late > 5) + 0.001 * years
    return found, (points + random.normal(0, 0.5, rows) > -2.2).astype(np.int64)


def loans(kind: str) -> Loans:
    """Train, export and ask one model."""
    rows, granted = table(LEARN + ROWS)
    pipeline = _pipeline(kind).fit(rows[:LEARN], granted[:LEARN])
    from skl2onnx import to_onnx

    model = to_onnx(pipeline, rows[:1], options={id(pipeline): {"zipmap": False}}).SerializeToString()
    label, probabilities = (output.name for output in session(model).get_outputs())
    labels, scores = session(model).run([label, probabilities], {"X": rows[LEARN:]})
    background = rows[:BACKGROUND]
    made = Loans(
        kind=kind,
        model=model,
        background=background,
        rows=rows[LEARN:],
        denied=np.flatnonzero(labels == 0),
        scores=scores[:, 1].astype(np.float64),
        spec=ModelSpec(
            model=f"loans-{kind}",
            version=1,
            digest=_digest(model),
            size_bytes=len(model),
            author="benchmark",
            inputs=[],
            outputs=[],
            columns=[
                Column(
                    name=NAMES[at],
                    kind="categorical" if at in CATEGORIES else "numeric",
                    datatype="FP32",
                    input="X",
                    index=at,
                )
                for at in range(COLUMNS)
            ],
            decision=Decision(label_output=label, probability_output=probabilities, classes=[0, 1], favourable=1),
        ),
    )
    digest = _digest(made.background_csv)
    return dataclasses.replace(made, spec=msgspec.structs.replace(made.spec, background_digest=digest))


def session(model: bytes, threads: int = 1) -> Any:
    """A session of onnxruntime; 0 threads: its default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _pipeline(kind: str) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    classifier = {
        "logistic": LogisticRegression(),
        "boosting": GradientBoostingClassifier(n_estimators=100, random_state=0),
        "forest": RandomForestClassifier(100, max_depth=8, random_state=0),
    }[kind]
    numeric = [at for at in range(COLUMNS) if at not in CATEGORIES]
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)), (StandardScaler(), numeric)
        ),
        classifier,
    )


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
