"""SHAP values: alibi 0.9.4 as its documentation shows it, the same coalitions vectorised, and values from the graph.

One thread, on a made-up loan table of 12 columns (8 numbers, 4 strings that the model one-hot encodes) against 100
background rows. Times are processor time, medians: other work on the machine counts little. Beside each ratio stands
how far the values are from alibi's (same coalitions) or from Shapley's formula over all coalitions (exact values).

    python benchmarks/shap_values.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

for _library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402  # the number of threads is read at the import

from affiant.common.events import Column, Decision, ModelSpec, Scalar  # noqa: E402
from affiant.explainer.methods.exact import ExactShap  # noqa: E402
from affiant.explainer.methods.libraries import KernelShap  # noqa: E402
from affiant.explainer.methods.predictor import Predictor  # noqa: E402
from affiant.explainer.methods.sampled import kernel_shap  # noqa: E402
from affiant.explainer.methods.table import Matrix, read_table  # noqa: E402

NUMBERS = [f"number_{at}" for at in range(6)] + ["grade", "count"]
STRINGS = {"job": "abcde", "home": "ab", "region": "abcd", "purpose": "abc"}
BACKGROUND, COALITIONS, SEED = 100, 2 * 12 + 2048, 7
"""alibi's documentation: a background of about 100 rows, and shap's default of 2 M + 2048 coalitions."""


def table(rows: int) -> Any:
    import pandas as pd

    random = np.random.default_rng(0)
    numbers = {name: random.gamma(2, 5, rows).round(2).astype("float32") for name in NUMBERS[:6]}
    grades = {"grade": random.integers(0, 5, rows), "count": random.integers(0, 12, rows)}
    strings = {name: random.choice(list(letters), rows) for name, letters in STRINGS.items()}
    return pd.DataFrame({**numbers, **{k: v.astype("float32") for k, v in grades.items()}, **strings})


def predictor(estimator: Any, frame: Any) -> Predictor:
    """The estimator behind a scaler and a one-hot encoder, exported with one named input for each column."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    noise = np.random.default_rng(1).normal(0, 2, len(frame))
    worth = frame.number_0 + frame.number_1 * frame.number_2 / 10 - 2 * frame.grade + 3 * (frame.job == "a") + noise
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), list(STRINGS))
    )
    pipeline = make_pipeline(columns, estimator).fit(frame, (worth > 12).astype(int))
    types = [(name, (StringTensorType if name in STRINGS else FloatTensorType)([None, 1])) for name in frame]
    model = to_onnx(pipeline, initial_types=types, options={id(pipeline): {"zipmap": False}})
    named = [
        Column(name=name, kind="categorical" if name in STRINGS else "numeric", datatype=kind, input=name)
        for name, kind in ((name, "BYTES" if name in STRINGS else "FP32") for name in frame)
    ]
    label, probability = (output.name for output in model.graph.output)
    decision = Decision(label_output=label, probability_output=probability, classes=[0, 1], favourable=1)
    spec = ModelSpec(
        model="loan",
        version=1,
        digest="sha256:0",
        size_bytes=0,
        author="ana",
        inputs=[],
        outputs=[],
        columns=named,
        decision=decision,
    )
    background = frame[:BACKGROUND].to_csv(index=False).encode()
    return Predictor(spec, model.SerializeToString(), read_table(named, background))


def rows_of(made: Predictor, frame: Any, count: int) -> Matrix:
    rows: list[list[Scalar]] = frame[BACKGROUND : BACKGROUND + count].values.tolist()
    return np.array([made.table.encode(row) for row in rows])


def milliseconds(work: Callable[[int], object], times: int) -> float:
    """The median processor time of `work(0)`, `work(1)`, …"""
    spent = []
    for at in range(times):
        started = time.process_time()
        work(at)
        spent.append((time.process_time() - started) * 1000)
    return statistics.median(spent)


def by_definition(made: Predictor, row: Matrix) -> Matrix:
    """Shapley's formula over all coalitions, each asked of the model itself."""
    from math import comb

    columns, background = len(row), made.table.background
    taken = np.arange(2**columns)[:, None] >> np.arange(columns) & 1 == 1
    worth = np.concatenate(
        [
            made.outputs(np.where(part[:, None, :], row, background).reshape(-1, columns))[:, 1]
            .reshape(len(part), -1)
            .mean(axis=1)
            for part in np.array_split(taken, 16)
        ]
    )
    sizes = taken.sum(axis=1)
    weight = np.array([1 / (columns * comb(columns - 1, size)) for size in range(columns)])
    without = [np.flatnonzero(~taken[:, at]) for at in range(columns)]
    return np.array(
        [np.sum(weight[sizes[free]] * (worth[free | 1 << at] - worth[free])) for at, free in enumerate(without)]
    )


def compare(name: str, made: Predictor, rows: Matrix, quick: bool) -> None:
    """Print one model's lines."""
    stock = KernelShap(lambda mixed: made.outputs(mixed)[:, [1]], link="identity", seed=SEED)
    stock.fit(made.table.background)
    theirs: dict[int, Matrix] = {}

    def alibi(at: int) -> None:
        np.random.seed(SEED)
        found = stock.explain(rows[at : at + 1], silent=True, l1_reg=False)
        theirs[at] = np.asarray(found.shap_values[0]).reshape(-1)

    ours: dict[int, Matrix] = {}

    def same(at: int) -> None:
        [found] = kernel_shap(made.outputs, made.table.background, rows[at : at + 1], np.array([1]), [SEED], COALITIONS)
        assert isinstance(found, tuple)
        ours[at] = found[2]

    times = 1 if quick else 5
    same(0)  # compiles
    slow, fast = milliseconds(alibi, times), milliseconds(same, times)
    apart = max(float(np.abs(theirs[at] - ours[at]).max()) for at in theirs)
    print(f"\n{name}")
    print(f"  alibi's KernelShap                    {slow:9.1f} ms a row")
    print(
        f"  KernelSHAP, the model as a black box  {fast:9.1f} ms a row   {slow / fast:8.1f} times   apart {apart:.0e}"
    )
    assert made.exact is not None, made.not_exact
    exact = ExactShap(made.exact.model, made.table.background)
    one = np.array([1])
    apart = max(
        float(np.abs(exact.explain(rows[at : at + 1], one).values[0] - by_definition(made, rows[at])).max())
        for at in range(1 if quick else 3)
    )
    single = milliseconds(lambda at: exact.explain(rows[at : at + 1], one), 5 if quick else 50)
    chosen = np.ones(len(rows), dtype=np.int64)
    batch = milliseconds(lambda _: exact.explain(rows, chosen), 1 if quick else 3) / len(rows)
    print(
        f"  exact, one by one                     {single:9.2f} ms a row   {slow / single:8.0f} times"
        f"   apart {apart:.0e}"
    )
    print(f"  exact, {len(rows):5d} rows at once            {batch:9.3f} ms a row   {slow / batch:8.0f} times")
    many = np.tile(rows, (-(-20_000 // len(rows)), 1))[:20_000]
    feed = made.table.feed(many)
    bare = milliseconds(lambda _: made._session.run([made.decision.probability_output], feed), 3)
    print(f"  limit: bare session.run               {bare / 20:9.3f} µs a row   {20_000 / bare * 1000:8,.0f} rows/s")
    asked = BACKGROUND * COALITIONS
    print(f"         for alibi's {asked:,} mixtures  {asked * bare / 20_000:9.1f} ms a row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, few rows: does it run?")
    quick = parser.parse_args().quick
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    frame = table(3000)
    print(f"12 columns, {BACKGROUND} background rows, {COALITIONS} coalitions, one thread, processor time")
    for name, estimator in (
        ("logistic regression", LogisticRegression(max_iter=500)),
        ("gradient boosting, 100 trees of depth 3", GradientBoostingClassifier(random_state=0)),
        ("random forest, 100 trees", RandomForestClassifier(100, min_samples_leaf=5, random_state=0)),
    ):
        made = predictor(estimator, frame)
        compare(name, made, rows_of(made, frame, 50 if quick else 1000), quick)


if __name__ == "__main__":
    main()
