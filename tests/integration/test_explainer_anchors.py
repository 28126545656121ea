"""Our anchor search beside alibi 0.9.4's: the same anchors with the same figures, alone and in company."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from affiant.explainer.methods import anchors, deciding
from affiant.explainer.methods.anchors import CHOICES, Anchors, Case
from affiant.explainer.methods.deciding import labelled_by_scores, tree_decisions
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.grid import Grid, Predicates
from affiant.explainer.methods.libraries import AnchorTabular
from affiant.explainer.methods.mixing import Mixer
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sampling import Draw, Numbers
from affiant.explainer.methods.search import Choices, Found, Search
from affiant.explainer.methods.stock import find_stock
from affiant.explainer.methods.table import Matrix, read_table
from tests.support.explained import Trained, boosting, forest, logistic

Train = Callable[[], Trained]


def loaded(trained: Trained) -> Predictor:
    return Predictor(trained.spec, trained.model, read_table(trained.spec.columns, trained.background))


def coded(predictor: Predictor, trained: Trained, count: int) -> Matrix:
    return np.array([predictor.table.encode(values) for values in trained.rows[:count]])


def searched(mixer: Mixer, predictor: Predictor, row: Matrix, seed: int, predicates: Predicates, how: Choices) -> Found:
    """Our search, alone."""
    [label] = predictor.labels(row.reshape(1, -1))
    search = Search(predicates, Numbers(seed), how)
    asking = search.run()
    try:
        draws = next(asking)
        while True:
            draws = asking.send([own == label for own in mixer.decisions(draws, [row] * len(draws))])
    except StopIteration:
        return search.found


def figures(found: Found) -> tuple[Any, ...]:
    return found.order, found.success, found.precision, found.coverage


@pytest.mark.parametrize("train", [logistic, forest])
def test_anchors_are_those_of_alibi_as_it_comes(train: Train) -> None:
    trained = train()
    predictor = loaded(trained)
    mixer, table = Mixer(predictor), predictor.table
    categories = {at: len(coding.categories) for at, coding in enumerate(table.codings) if coding.categorical}
    rows = coded(predictor, trained, 100)
    differing = []
    for seed, row in enumerate(rows):
        names = {at: [str(code) for code in range(count)] for at, count in categories.items()}
        theirs = AnchorTabular(predictor.labels, table.names, categorical_names=names, seed=seed)
        theirs.fit(table.background)
        np.random.seed(seed)
        raw = theirs.explain(row, threshold=0.95)
        quartiles = {at: theirs.samplers[0].disc.lambdas[at].keywords["qts"] for at in theirs.numerical_features}
        predicates = Grid(table.background, quartiles, categories).predicates(row)
        ours = searched(mixer, predictor, row, seed, predicates, Choices())
        columns = list(dict.fromkeys(predicates.columns[each] for each in ours.order))
        same = (
            columns == raw.data["raw"]["feature"]
            and ours.precision == float(np.squeeze(raw.precision))
            and ours.coverage == raw.coverage
            and ours.success == raw.data["raw"]["success"]
        )
        if not same:
            differing.append((seed, ours, raw.anchor, raw.precision, raw.coverage))
    assert differing == []


@pytest.mark.parametrize(
    ("train", "count", "how"),
    [(boosting, 100, CHOICES), (boosting, 10, Choices(beam=3)), (forest, 20, Choices(threshold=0.99, tolerance=0.05))],
)
def test_anchors_with_missing_values_are_those_of_alibi_with_our_bins(train: Train, count: int, how: Choices) -> None:
    trained = train()
    predictor = loaded(trained)
    mixer = Mixer(predictor)
    for seed, row in enumerate(coded(predictor, trained, count)):
        theirs, predicates = find_stock(predictor, row, seed, how)
        assert figures(searched(mixer, predictor, row, seed, predicates, how)) == figures(theirs), seed


def test_a_value_that_no_background_row_lacks_is_searched_as_alibi_with_our_sampler_does() -> None:
    trained = boosting()
    predictor = loaded(trained)
    mixer = Mixer(predictor)
    for seed, row in enumerate(coded(predictor, trained, 15)):
        row[1] = predictor.table.codings[1].code(None)
        theirs, predicates = find_stock(predictor, row, seed, CHOICES)
        assert figures(searched(mixer, predictor, row, seed, predicates, CHOICES)) == figures(theirs), seed


def cases(predictor: Predictor, trained: Trained, positions: Sequence[int]) -> list[Case]:
    return [Case(predictor.table.encode(trained.rows[at]), trained.labels[at], 100 + at) for at in positions]


@pytest.mark.parametrize("train", [logistic, boosting, forest])
def test_a_row_gets_the_same_anchor_alone_and_in_company(train: Train) -> None:
    trained = train()
    predictor = loaded(trained)
    wanted = cases(predictor, trained, range(24))
    together = Anchors(predictor).find(wanted)
    alone = [Anchors(predictor).find([case])[0] for case in wanted]
    assert [each.anchor for each in together] == [each.anchor for each in alone]
    backwards = Anchors(predictor).find(wanted[::-1])
    assert [each.anchor for each in backwards[::-1]] == [each.anchor for each in alone]


@pytest.mark.parametrize("train", [logistic, boosting, forest])
def test_the_model_computes_a_row_bit_by_bit_the_same_in_any_batch_but_alone(train: Train) -> None:
    trained = train()
    predictor = loaded(trained)
    background = predictor.table.background
    whole = predictor.outputs(background)
    for size in (2, 3, 7, 16, 100, 250):
        parts = [background[start : start + size] for start in range(0, len(background) - 1, size)]
        found = np.concatenate([predictor.outputs(part) for part in parts if len(part) > 1])
        assert np.array_equal(found, whole[: len(found)]), size


@pytest.mark.parametrize("train", [boosting, forest])
def test_decisions_taken_from_the_trees_are_the_models_own(train: Train) -> None:
    predictor = loaded(train())
    trees = tree_decisions(predictor)
    assert trees is not None
    background, random = predictor.table.background, np.random.default_rng(3)
    mixed = np.column_stack([random.choice(column, 20_000) for column in background.T])
    labels, clear = trees.decided(trees.features(mixed))
    assert clear.mean() > 0.99
    assert np.array_equal(labels[clear], predictor.labels(mixed)[clear])


def test_what_the_trees_leave_unclear_the_model_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = forest()
    predictor = loaded(trained)
    wanted = cases(predictor, trained, range(12))
    expected = [each.anchor for each in Anchors(predictor).find(wanted)]
    for clear in (0.3, 1e9):  # some samples, and all of them
        monkeypatch.setattr(deciding, "CLEAR", clear)
        assert [each.anchor for each in Anchors(predictor).find(wanted)] == expected


def test_a_model_whose_label_is_no_sum_of_trees_decides_everything_itself() -> None:
    assert tree_decisions(loaded(logistic())) is None
    trained = forest()
    decision = trained.spec.decision
    assert decision is not None
    graph = onnx.load_model_from_string(trained.model)
    assert labelled_by_scores(trained.model, decision.label_output, decision.probability_output)
    [trees] = [node for node in graph.graph.node if node.op_type == "TreeEnsembleClassifier"]
    graph.graph.node.append(onnx.helper.make_node("ArgMax", [trees.output[1]], ["argmax"], axis=1, keepdims=0))
    assert not labelled_by_scores(graph.SerializeToString(), "argmax", decision.probability_output)


def test_a_row_on_which_the_model_fails_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = boosting()
    predictor = loaded(trained)
    wanted = cases(predictor, trained, range(5))
    expected = [each.anchor for each in Anchors(predictor).find(wanted)]
    found = Anchors(predictor)
    decide = found._mixer.decisions

    def fails_on_the_third(draws: Sequence[Draw], rows: Sequence[Matrix]) -> list[Any]:
        if any(row is wanted[2].row for row in rows):
            raise Unexplainable("the model fails on these rows")
        return decide(draws, rows)

    monkeypatch.setattr(found._mixer, "decisions", fails_on_the_third)
    answers = found.find(wanted)
    assert answers[2].failure == "the model fails on these rows"
    assert [each.anchor for each in answers if not each.failure] == expected[:2] + expected[3:]


def test_a_search_that_has_no_time_left_fails_with_a_reason_and_the_others_go_on() -> None:
    trained = boosting()
    predictor = loaded(trained)
    first, second, third = cases(predictor, trained, range(3))
    late, costly = replace(first, until=0.0), replace(second, work_seconds=0.0)
    answers = Anchors(predictor).find([late, costly, third])
    assert [(each.anchor is None, each.late) for each in answers] == [(True, True), (True, False), (False, False)]
    assert "before the deadline" in answers[0].failure and "in 0 seconds of work" in answers[1].failure


def test_a_row_that_our_search_does_not_serve_is_searched_by_alibi_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = boosting()
    predictor = loaded(trained)
    wanted = cases(predictor, trained, trained.denied()[:2])
    expected = Anchors(predictor).find(wanted)

    def broken(*_: object) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(anchors.Search, "_propose", broken)
    answers = Anchors(predictor).find(wanted)
    assert [each.anchor and each.anchor.sentence for each in answers] == [
        each.anchor and each.anchor.sentence for each in expected
    ]
    assert all("searched by alibi itself" in each.warnings[0] for each in answers)
    assert "a mistake of ours" in answers[0].warnings[0]
