"""SHAP values at speed are the same SHAP values: held against the definition and against alibi 0.9.4 itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from affiant.explainer.methods import leaves, mixtures, sampled
from affiant.explainer.methods.additive import Linear, read_additive
from affiant.explainer.methods.errors import NotAdditive, Unexplainable
from affiant.explainer.methods.exact import ExactShap
from affiant.explainer.methods.libraries import KernelShap
from affiant.explainer.methods.loops import compile_loops
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.provenance import attributes
from affiant.explainer.methods.sampled import kernel_shap
from affiant.explainer.methods.sessions import open_session
from affiant.explainer.methods.shap import COALITIONS, find_shap, shap_values
from affiant.explainer.methods.table import Matrix
from tests.support.exported import Exported, Levels, boosted, pipeline, wide

Make = Callable[[], Exported]
ADDITIVE: list[Make] = [
    *(partial(pipeline, name) for name in ("logistic", "tree", "forest", "boosting")),
    *(partial(pipeline, name, 3) for name in ("logistic", "forest", "boosting")),
    *(partial(pipeline, name) for name in ("linear regression", "forest regression")),
    *(partial(boosted, library, kind) for library in ("xgboost", "lightgbm") for kind in ("2", "3", "regression")),
    partial(pipeline, "boosting", 2, True),
]


def name_of(make: Make) -> str:
    return "-".join(str(argument) for argument in make.args) if isinstance(make, partial) else str(make)


def exact_of(made: Exported) -> ExactShap:
    read = read_additive(made.model, made.output, made.table, made.outputs, made.table.background)
    return ExactShap(read, made.table.background)


def by_definition(outputs: Callable[[Matrix], Matrix], row: Matrix, background: Matrix, output: int) -> Matrix:
    """Shapley's formula over all coalitions of raw columns, each asked of the model itself."""
    columns = len(row)
    taken = np.arange(2**columns)[:, None] >> np.arange(columns) & 1 == 1
    mixed = np.where(taken[:, None, :], row, background).reshape(-1, columns)
    worth = outputs(mixed)[:, output].reshape(len(taken), -1).mean(axis=1)
    sizes = taken.sum(axis=1)
    weight = np.array([1 / (columns * math.comb(columns - 1, size)) for size in range(columns)])
    return np.array(
        [
            np.sum((weight[sizes[without]]) * (worth[without | 1 << at] - worth[without]))
            for at in range(columns)
            for without in [np.flatnonzero(~taken[:, at])]
        ]
    )


@pytest.mark.parametrize("make", ADDITIVE, ids=name_of)
def test_exact_values_are_those_of_the_definition(make: Make) -> None:
    made = make()
    exact = exact_of(made)
    rows = made.rows[:4]
    outputs = made.outputs(rows)
    explained = np.arange(len(rows)) % outputs.shape[1]
    found = exact.explain(rows, explained)
    assert exact.behind_link
    assert found.outputs == pytest.approx(outputs[np.arange(len(rows)), explained], abs=2e-6)
    assert found.baselines + found.values.sum(axis=1) == pytest.approx(found.outputs, abs=1e-9)
    for row, output, values in zip(rows, explained, found.values, strict=True):
        assert values == pytest.approx(by_definition(made.outputs, row, made.table.background, output), abs=1e-6)


@pytest.mark.parametrize("make", ADDITIVE, ids=name_of)
def test_many_rows_at_once_get_the_values_that_each_gets_alone(make: Make) -> None:
    made = make()
    exact, rows = exact_of(made), np.tile(made.rows, (2, 1))
    explained = np.arange(len(rows)) % made.outputs(rows).shape[1]
    together = exact.explain(rows, explained)
    for at in (0, 7, len(rows) - 1):
        alone = exact.explain(rows[at : at + 1], explained[at : at + 1])
        assert together.values[at] == pytest.approx(alone.values[0], abs=1e-12)


def test_where_columns_are_too_many_for_probabilities_the_values_are_those_of_the_score_and_say_so() -> None:
    made = wide()
    predictor = Predictor(made.spec, made.model, made.table)
    shap = find_shap(predictor, made.rows[0], 1, seed=1)
    assert shap.units == "log-odds" and "of the log-odds" in shap.estimator
    probability = made.outputs(made.rows[:1])[0, 1]
    assert shap.output == pytest.approx(math.log(probability / (1 - probability)), abs=1e-5)
    assert shap.baseline + sum(value.shap for value in shap.values) == pytest.approx(shap.output, abs=1e-9)
    # A column that the model is not told of changes nothing; the others agree with the score's own differences.
    assert predictor.exact is not None
    unused = sorted(set(range(200)) - set(predictor.exact.model.columns[predictor.exact.model.terms.feature]))
    assert [shap.values[at].shap for at in unused] == pytest.approx([0.0] * len(unused))


def test_scores_of_linear_models_are_explained_by_their_weights() -> None:
    exact = exact_of(pipeline("logistic"))
    exact.behind_link = False
    made = pipeline("logistic")
    found = exact.explain(made.rows[:3], np.array([1, 1, 1]))

    def log_odds(rows: Matrix) -> Matrix:
        chances = made.outputs(rows)
        return np.log(chances / (1 - chances))

    assert isinstance(exact.model.terms, Linear)
    for row, values in zip(made.rows[:3], found.values, strict=True):
        assert values == pytest.approx(by_definition(log_odds, row, made.table.background, 1), abs=1e-4)


def stock(made: Exported, row: Matrix, output: int, seed: int, budget: int) -> Matrix:
    """alibi 0.9.4, one row, the model as a black box."""
    background = made.table.background
    levels = Levels(np.vstack([background, row]))
    explainer = KernelShap(lambda ranks: made.outputs(levels.rows(ranks))[:, [output]], link="identity", seed=seed)
    explainer.fit(levels.ranks(background))
    np.random.seed(seed)
    raw = explainer.explain(levels.ranks(row.reshape(1, -1)), nsamples=budget, l1_reg=False, silent=True)
    return np.asarray(raw.shap_values[0], dtype=np.float64).reshape(-1)


@pytest.mark.parametrize("name", ["logistic", "forest", "boosting", "network", "support vectors"])
@pytest.mark.parametrize("budget", [40, 120, 2000])
def test_kernel_shap_gives_alibis_own_values(name: str, budget: int) -> None:
    made = pipeline(name)
    rows = np.vstack([made.rows[:3], made.table.background[:1]])
    explained, seeds = np.array([0, 1, 1, 0]), [3, 4, 5, 6]
    found = kernel_shap(made.outputs, made.table.background, rows, explained, seeds, budget)
    for row, output, seed, answer in zip(rows, explained, seeds, found, strict=True):
        assert not isinstance(answer, Unexplainable)
        baseline, result, values = answer
        assert values == pytest.approx(stock(made, row, output, seed, budget), abs=1e-6)
        assert result == pytest.approx(made.outputs(row.reshape(1, -1))[0, output], abs=1e-6)
        assert baseline == pytest.approx(made.outputs(made.table.background)[:, output].mean(), abs=1e-9)


def test_kernel_shap_gives_alibis_own_values_on_a_table_of_two_hundred_columns() -> None:
    made = wide()
    answer = kernel_shap(made.outputs, made.table.background, made.rows[:1], np.array([1]), [9], COALITIONS)[0]
    assert not isinstance(answer, Unexplainable)
    assert answer[2] == pytest.approx(stock(made, made.rows[0], 1, 9, COALITIONS), abs=1e-6)


def test_kernel_shap_with_all_coalitions_is_exact() -> None:
    made = pipeline("boosting")
    exact = exact_of(made).explain(made.rows[:2], np.array([1, 1]))
    found = kernel_shap(made.outputs, made.table.background, made.rows[:2], np.array([1, 1]), [1, 2], 10_000)
    for answer, values in zip(found, exact.values, strict=True):
        assert not isinstance(answer, Unexplainable)
        assert answer[2] == pytest.approx(values, abs=1e-6)


def test_a_model_that_no_exact_path_serves_gets_kernel_shap_and_the_explanation_says_why() -> None:
    made = pipeline("network")
    shap = find_shap(Predictor(made.spec, made.model, made.table), made.rows[0], 1, seed=3)
    assert shap.estimator.startswith("KernelSHAP (coalitions of shap 0.43), identity link, 254 of 254 coalitions")
    assert "no exact values: its outputs are made by the operator" in shap.estimator


def test_a_model_that_is_another_than_its_graph_says_gets_no_exact_values() -> None:
    made = pipeline("boosting")

    def tilted(rows: Matrix) -> Matrix:
        return made.outputs(rows) + np.array([0.001, -0.001])

    with pytest.raises(NotAdditive, match=r"the sum of its terms is 0\.001 away from what the model says"):
        read_additive(made.model, made.output, made.table, tilted, made.table.background)


def test_features_that_mix_columns_get_no_exact_values() -> None:
    made = pipeline("boosting")
    graph = onnx.load_model_from_string(made.model)
    scaler = next(node for node in graph.graph.node if node.op_type == "Scaler")
    graph.graph.node.append(
        onnx.helper.make_node("Normalizer", [scaler.output[0]], ["mixed"], domain="ai.onnx.ml", norm="L2")
    )
    for node in graph.graph.node:
        if node.op_type == "Concat" and scaler.output[0] in node.input:
            node.input[:] = ["mixed" if name == scaler.output[0] else name for name in node.input]
    at = [node.output[0] for node in graph.graph.node].index("mixed")
    nodes = list(graph.graph.node)
    nodes.insert(next(i for i, node in enumerate(nodes) if "mixed" in node.input), nodes.pop(at))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    with pytest.raises(NotAdditive, match="the operator Normalizer precedes the model"):
        read_additive(graph.SerializeToString(), made.output, made.table, made.outputs, made.table.background)


def test_a_row_on_which_the_model_fails_harms_no_other() -> None:
    made = pipeline("network")
    predictor = Predictor(made.spec, made.model, made.table)
    poisoned = made.rows[:5].copy()
    poisoned[2, 1] = 12345.0
    whole = predictor.outputs

    def failing(rows: Matrix) -> Matrix:
        if np.any(rows[:, 1] == 12345.0):
            raise Unexplainable("the model fails on these rows: it cannot")
        return whole(rows)

    predictor.outputs = failing  # type: ignore[method-assign]
    found = shap_values(predictor, poisoned, [1] * 5, [1] * 5)
    assert isinstance(found[2], Unexplainable)
    for at in (0, 1, 3, 4):
        assert found[at] == find_shap(predictor, poisoned[at], 1, 1)


def test_a_slow_model_is_asked_few_times() -> None:
    made = pipeline("network")
    calls = []

    def slow(rows: Matrix) -> Matrix:
        calls.append(len(rows))
        time.sleep(0.02)
        return made.outputs(rows)

    kernel_shap(slow, made.table.background, made.rows[:12], np.ones(12, dtype=np.int64), list(range(12)), COALITIONS)
    assert len(calls) <= 6


def test_a_row_that_is_the_only_background_row_has_no_values() -> None:
    made = pipeline("network")
    answer = kernel_shap(made.outputs, made.rows[:1], made.rows[:1], np.array([1]), [1], COALITIONS)[0]
    assert not isinstance(answer, Unexplainable)
    assert not answer[2].any()


def unified(made: Exported) -> bytes:
    """The same trees as the `TreeEnsemble` of ai.onnx.ml, version 5, which holds all of them in one operator."""
    graph = onnx.load_model_from_string(made.model)
    old = next(node for node in graph.graph.node if node.op_type == "TreeEnsembleRegressor")
    found = attributes(old)
    keys = list(zip(found["nodes_treeids"], found["nodes_nodeids"], strict=True))
    inner = [at for at, mode in enumerate(found["nodes_modes"]) if mode != b"LEAF"]
    places = {keys[at]: place for place, at in enumerate(inner)}
    owners = list(zip(found["target_treeids"], found["target_nodeids"], strict=True))

    def ends(side: str) -> tuple[list[int], list[int]]:
        children = [(keys[at][0], found[f"nodes_{side}nodeids"][at]) for at in inner]
        leaf = [int(child not in places) for child in children]
        return [places[child] if child in places else owners.index(child) for child in children], leaf

    (yes, yes_leaf), (no, no_leaf) = ends("true"), ends("false")
    modes = {b"BRANCH_LEQ": 0, b"BRANCH_LT": 1}
    new = onnx.helper.make_node(
        "TreeEnsemble",
        list(old.input),
        [f"{old.output[0]}.sum"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=1,
        post_transform=0,
        tree_roots=[places[key] for key in keys if key[1] == 0],
        nodes_featureids=[found["nodes_featureids"][at] for at in inner],
        nodes_splits=numpy_helper.from_array(np.array([found["nodes_values"][at] for at in inner], dtype=np.float32)),
        nodes_modes=numpy_helper.from_array(
            np.array([modes[found["nodes_modes"][at]] for at in inner], dtype=np.uint8)
        ),
        nodes_missing_value_tracks_true=[found["nodes_missing_value_tracks_true"][at] for at in inner],
        nodes_truenodeids=yes,
        nodes_trueleafs=yes_leaf,
        nodes_falsenodeids=no,
        nodes_falseleafs=no_leaf,
        leaf_targetids=list(found["target_ids"]),
        leaf_weights=numpy_helper.from_array(np.array(found["target_weights"], dtype=np.float32)),
    )
    same = onnx.helper.make_node("Identity", [new.output[0]], list(old.output))
    nodes = [*(node for node in graph.graph.node if node is not old)]
    at = list(graph.graph.node).index(old)
    nodes[at:at] = [new, same]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    for each in graph.opset_import:
        each.version = 5 if each.domain == "ai.onnx.ml" else each.version
    return graph.SerializeToString()


def test_the_newest_operator_of_trees_is_read_too() -> None:
    made = boosted("lightgbm", "regression")
    model = unified(made)
    session = open_session(model)

    def outputs(rows: Matrix) -> Matrix:
        return np.asarray(session.run([made.output], made.table.feed(rows))[0], dtype=np.float64).reshape(-1, 1)

    assert outputs(made.rows) == pytest.approx(made.outputs(made.rows), abs=1e-5)
    read = read_additive(model, made.output, made.table, outputs, made.table.background)
    explained = np.zeros(len(made.rows), dtype=np.int64)
    found = ExactShap(read, made.table.background).explain(made.rows, explained)
    assert found.values == pytest.approx(exact_of(made).explain(made.rows, explained).values, abs=1e-9)


LOOPS = [leaves._leaf_values, mixtures._tree_values, mixtures._linear_values, sampled._number, sampled._mixed]


def test_no_loop_is_compiled_anew_for_a_model_once_all_were_made_ready() -> None:
    compile_loops()
    before = [len(loop.signatures) for loop in LOOPS]  # type: ignore[attr-defined]
    assert all(before)
    for make in (*ADDITIVE[:7], partial(boosted, "xgboost", "2"), partial(pipeline, "network"), wide):
        made = make()
        if made.spec.decision is not None:
            shap_values(Predictor(made.spec, made.model, made.table), made.rows[:2], [0, 1], [1, 2])
    assert [len(loop.signatures) for loop in LOOPS] == before  # type: ignore[attr-defined]


def test_a_step_is_given_the_fewer_rows_the_more_columns_are_mixed() -> None:
    assert exact_of(pipeline("boosting")).rows_at_once == 2**20 >> 8
    assert exact_of(pipeline("forest")).rows_at_once == exact_of(wide()).rows_at_once == 1024
