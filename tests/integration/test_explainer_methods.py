"""Alibi on real exported pipelines: the figures hold, and what alibi would get wrong without a word is said."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from affiant.common.events import Scalar
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.explain import Explainer
from affiant.explainer.methods.messages import Answered, Batch, CannotExplain, Explain, Explained, ModelFiles, Row
from affiant.explainer.methods.pool import Worker
from affiant.explainer.methods.predictor import Predictor
from tests.support.explained import Trained, boosting, digest, logistic
from tests.support.model import loan_model, loan_spec

Values = dict[str, Scalar]


def files(trained: Trained, folder: Path) -> ModelFiles:
    model, background = folder / "model.onnx", folder / "background.csv"
    model.write_bytes(trained.model)
    background.write_bytes(trained.background)
    return ModelFiles(trained.spec, str(model), str(background))


def job(trained: Trained, where: ModelFiles, at: int, seed: int = 7, values: list[Scalar] | None = None) -> Explain:
    given = trained.rows[at] if values is None else values
    return Explain(where, given, trained.labels[at], trained.scores[at], ["anchor", "shap"], seed)


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer()


@pytest.mark.parametrize("train", [boosting, logistic])
def test_shap_values_and_baseline_add_up_to_the_probability_of_the_decision(
    train: Callable[[], Trained], explainer: Explainer, tmp_path: Path
) -> None:
    trained = train()
    where = files(trained, tmp_path)
    for at in trained.denied()[:5] + trained.granted()[:2]:
        shap = explainer.explain(job(trained, where, at)).shap
        assert shap is not None
        on_record = trained.scores[at] if at in trained.granted() else 1 - trained.scores[at]
        assert shap.output == pytest.approx(on_record, abs=1e-6)
        assert shap.baseline + sum(value.shap for value in shap.values) == pytest.approx(shap.output, abs=1e-6)
        assert shap.additivity_error < 1e-6


def test_shap_values_agree_with_the_shapley_formula(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    at = trained.denied()[0]
    shap = explainer.explain(job(trained, where, at)).shap
    assert shap is not None
    exact = shapley(explainer.warm(where), trained.rows[at], trained.labels[at])
    assert [value.shap for value in shap.values] == pytest.approx(exact, abs=1e-6)


def shapley(predictor: Predictor, values: list[Scalar], label: str | int) -> list[float]:
    """The definition, over all coalitions, against the same background rows."""
    row, background = predictor.table.encode(values), predictor.representatives(40)
    columns, explained = len(row), predictor.class_of(label)
    worth = []
    for coalition in range(2**columns):
        known = [at for at in range(columns) if coalition >> at & 1]
        mixed = background.copy()
        mixed[:, known] = row[known]
        worth.append(float(predictor.outputs(mixed)[:, explained].mean()))
    weight = [1 / (columns * math.comb(columns - 1, size)) for size in range(columns)]
    return [
        sum(
            weight[coalition.bit_count()] * (worth[coalition | 1 << at] - worth[coalition])
            for coalition in range(2**columns)
            if not coalition >> at & 1
        )
        for at in range(columns)
    ]


def test_an_anchor_holds_its_precision_when_it_is_sampled_again(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    predictor = explainer.warm(where)
    found = 0
    for at in trained.denied()[:8]:
        anchor = explainer.explain(job(trained, where, at)).anchor
        assert anchor is not None
        if anchor.success and anchor.clauses:
            found += 1
            precision = sampled_precision(predictor, anchor.clauses, trained.labels[at])
            assert precision >= anchor.threshold - 0.04
            assert precision == pytest.approx(anchor.precision, abs=0.05)
    assert found >= 4


def sampled_precision(predictor: Predictor, clauses: list[str], label: str | int, rows: int = 4000) -> float:
    """Background rows that the clauses cover, all other columns taken from other rows: how often is it `label`?"""
    random, table = np.random.default_rng(0), predictor.table
    background = [decoded(predictor, row) for row in table.background]
    covered = [at for at, row in enumerate(background) if all(holds(clause, row) for clause in clauses)]
    assert covered, clauses
    named = [at for at, name in enumerate(table.names) if any(name in clause.split() for clause in clauses)]
    mixed = table.background[random.choice(len(background), rows)]
    mixed[:, named] = table.background[random.choice(covered, rows)][:, named]
    return float(np.mean(predictor.labels(mixed) == predictor.class_of(label)))


def decoded(predictor: Predictor, row: np.ndarray) -> Values:  # type: ignore[type-arg]
    return {c.column.name: c.value(code) for c, code in zip(predictor.table.codings, row, strict=True)}


def holds(clause: str, row: Values) -> bool:
    """Reads a clause as a person would."""
    if found := re.fullmatch(r"(\w+) is (missing|given)", clause):
        return (row[found[1]] is None) == (found[2] == "missing")
    if found := re.fullmatch(r"(\w+) = (.+)", clause):
        return str(row[found[1]]) == found[2]
    found = re.fullmatch(r"(?:(\S+) < )?(\w+)(?: (≤|>) (\S+))?( or missing)?", clause)
    assert found, clause
    above, name, sign, edge, or_missing = found.groups()
    value = row[name]
    if value is None:
        return or_missing is not None
    over = above is None or float(value) > float(above)
    return over and (float(value) > float(edge) if sign == ">" else float(value) <= float(edge))


def test_every_clause_is_true_of_the_row_that_it_explains(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    predictor = explainer.warm(where)
    without_income = [at for at in trained.denied() if trained.rows[at][0] is None][:4]
    assert without_income
    for at in trained.denied()[:6] + without_income:
        anchor = explainer.explain(job(trained, where, at)).anchor
        assert anchor is not None
        row = decoded(predictor, predictor.table.encode(trained.rows[at]))
        assert [clause for clause in anchor.clauses if not holds(clause, row)] == []
        assert all(clause in anchor.sentence for clause in anchor.clauses)


async def test_the_same_seed_gives_the_same_numbers_in_another_process(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    first, second = (job(trained, where, at, seed=11) for at in trained.denied()[:2])
    # Another order, so that what one explanation leaves behind would show in the next.
    here = [explainer.explain(second), explainer.explain(first), explainer.explain(first)]
    worker = Worker(0, run_seconds=60, memory_mib=4096)
    try:
        there = [await worker.explain(first), await worker.explain(second)]
    finally:
        await worker.stop()
    assert all(isinstance(answer, Explained) for answer in there)
    assert [(a.anchor, a.shap) for a in here] == [(a.anchor, a.shap) for a in (there[1], there[0], there[0])]  # type: ignore[union-attr]


def row(trained: Trained, at: int, **changes: Any) -> Row:
    wanted = ["anchor", "shap"]
    return msgspec.structs.replace(Row(trained.rows[at], trained.labels[at], trained.scores[at], wanted, at), **changes)


def without_seconds(answer: Explained | CannotExplain) -> Explained | CannotExplain:
    return msgspec.structs.replace(answer, seconds={}) if isinstance(answer, Explained) else answer


async def test_rows_in_a_batch_get_what_they_get_alone_and_a_poison_row_harms_none(
    explainer: Explainer, tmp_path: Path
) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    rows = [row(trained, at) for at in trained.denied()[:12]]
    rows[3] = row(trained, trained.denied()[3], values=["no", "numbers", 1, "clerk", "rent"])
    rows[5] = row(trained, trained.denied()[5], label="granted")
    rows[7] = row(trained, trained.denied()[7], left_seconds=0.0)
    found: dict[int, Explained | CannotExplain] = {}

    async def answered(reply: Answered) -> None:
        found[reply.at] = reply.answer

    worker = Worker(0, run_seconds=60, memory_mib=4096)
    try:
        await worker.explain_all(Batch(where, rows), answered)
    finally:
        await worker.stop()
    assert sorted(found) == list(range(12))
    reasons = {at: answer for at, answer in found.items() if isinstance(answer, CannotExplain)}
    assert sorted(reasons) == [3, 5, 7]
    assert reasons[7].late and not reasons[3].late and "the registered model decides" in reasons[5].reason
    for at in sorted(set(found) - set(reasons)):
        [alone] = [each for each in explainer.explain_all(Batch(where, [rows[at]])) if isinstance(each, Answered)]
        assert without_seconds(found[at]) == without_seconds(alone.answer), at


def test_an_explanation_says_how_far_it_can_be_trusted(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    at = next(at for at in trained.denied() if trained.rows[at][0] is not None)
    usual = explainer.explain(job(trained, where, at))
    assert usual.trust is not None and usual.anchor is not None
    assert 0 < usual.trust.distance < 0.3 and usual.trust.distance_percentile < 99 and usual.trust.seeds == 1
    low, high = usual.anchor.precision_low, usual.anchor.precision_high
    assert low is not None and high is not None and low < usual.anchor.precision <= high
    far = Explain(where, [trained.rows[at][0], 9_999.0, 90, *trained.rows[at][3:]], "denied", None, ["shap"], 1)
    unusual = explainer.explain(far)
    assert unusual.trust is not None and unusual.trust.distance_percentile == 100
    assert any("the background hardly knows cases like this one" in warning for warning in unusual.warnings)


def test_an_explanation_that_is_tried_with_other_seeds_keeps_its_figures(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    for at in trained.denied()[:6]:
        once, tried = row(trained, at), row(trained, at, seeds=4)
        replies = explainer.explain_all(Batch(where, [once, tried]))
        one, four = (
            reply.answer
            for reply in sorted((each for each in replies if isinstance(each, Answered)), key=lambda each: each.at)
        )
        assert isinstance(one, Explained) and isinstance(four, Explained)
        assert (one.anchor, one.shap) == (four.anchor, four.shap)
        assert four.trust is not None and four.trust.seeds == 4
        assert four.trust.anchor_overlap is not None and four.trust.shap_overlap == 1.0
        assert four.trust.unstable == (four.trust.anchor_overlap < 0.5)
        assert four.trust.unstable == any(warning.startswith("unstable") for warning in four.warnings)


def test_another_seed_may_give_another_anchor_but_never_another_shap_baseline(
    explainer: Explainer, tmp_path: Path
) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    answers = [explainer.explain(job(trained, where, trained.denied()[0], seed)) for seed in range(4)]
    assert len({answer.shap.baseline for answer in answers if answer.shap}) == 1


def test_a_value_outside_the_background_is_explained_with_a_warning(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    at = next(at for at in trained.denied() if trained.rows[at][0] is not None)
    values = [*trained.rows[at][:1], 9_999.0, *trained.rows[at][2:]]
    answer = explainer.explain(Explain(where, values, "denied", None, ["anchor"], 1))
    assert any(warning.startswith("debt = 9999 lies outside the background's range") for warning in answer.warnings)


def test_a_missing_value_that_the_background_never_lacks_is_said_to_be_missing(
    explainer: Explainer, tmp_path: Path
) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    predictor = explainer.warm(where)
    for at in trained.denied()[:20]:
        values = [trained.rows[at][0], None, *trained.rows[at][2:]]
        label = predictor.decision.classes[predictor.decide(predictor.table.encode(values))[0]]
        answer = explainer.explain(Explain(where, values, label, None, ["anchor", "shap"], 1))
        assert "debt is missing here but never in the background" in answer.warnings
        assert answer.anchor is not None and answer.shap is not None
        assert not [c for c in answer.anchor.clauses if "debt" in c and not c.endswith("missing")]
        assert answer.shap.values[1].value is None


def test_a_category_that_the_background_does_not_know_is_refused(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    values = [*trained.rows[0][:3], "astronaut", "rent"]
    with pytest.raises(Unexplainable, match="job = 'astronaut' does not occur in the background"):
        explainer.explain(job(trained, where, 0, values=values))


def test_a_record_that_does_not_replay_is_refused(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    where = files(trained, tmp_path)
    granted = trained.granted()[0]
    with pytest.raises(Unexplainable, match="the record says 'denied', but the registered model decides 'granted'"):
        explainer.explain(Explain(where, trained.rows[granted], "denied", None, ["anchor"], 1))


def test_a_score_that_does_not_replay_is_warned_of(explainer: Explainer, tmp_path: Path) -> None:
    trained = logistic()
    where = files(trained, tmp_path)
    answer = explainer.explain(Explain(where, trained.rows[0], trained.labels[0], 0.123456, ["shap"], 1))
    assert any("the record gives the favourable class 0.123456" in warning for warning in answer.warnings)


def test_files_with_another_digest_are_refused(tmp_path: Path) -> None:
    trained = logistic()
    where = files(trained, tmp_path)
    Path(where.model_path).write_bytes(trained.model + b"x")
    with pytest.raises(Unexplainable, match="the model has the digest"):
        Explainer().explain(job(trained, where, 0))


def test_an_anchor_that_reaches_no_precision_says_so(explainer: Explainer, tmp_path: Path) -> None:
    trained = logistic()
    where = files(trained, tmp_path)
    undecided = sorted(range(len(trained.rows)), key=lambda at: abs(trained.scores[at] - 0.5))[:6]
    answers = [explainer.explain(job(trained, where, at)) for at in undecided]
    failed = [answer for answer in answers if answer.anchor and not answer.anchor.success]
    assert failed
    for answer in failed:
        assert answer.anchor is not None and answer.anchor.precision < 0.95
        assert "no set of conditions that reaches 95 % was found" in answer.anchor.sentence
        assert "no anchor reached the precision 0.95; the best one found is given" in answer.warnings


def test_a_column_of_very_small_numbers_counts_as_much_as_any_other(explainer: Explainer, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    lines = [f"{income:.4g},{debt:.4g}" for income, debt in random.uniform(0, 9e-9, (80, 2))]
    model, background = loan_model(weight=1e9), ("income,debt\n" + "\n".join(lines)).encode()
    spec = msgspec.structs.replace(loan_spec(model), background_digest=digest(background))
    where = ModelFiles(spec, str(tmp_path / "model"), str(tmp_path / "background"))
    Path(where.model_path).write_bytes(model)
    Path(where.background_path).write_bytes(background)
    shap = explainer.explain(Explain(where, [1e-9, 8e-9], 0, None, ["shap"], 1)).shap
    assert shap is not None and min(value.shap for value in shap.values) > 0.1
