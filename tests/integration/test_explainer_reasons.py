"""Reasons of denials: in the version's words, tried on the model itself, and held back where they would mislead."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from affiant.common.events import ReasonTable, ReasonText, Trust
from affiant.explainer.methods.explain import Explainer
from affiant.explainer.methods.messages import Explain, Explained, ModelFiles
from affiant.explainer.methods.reasons import held_back
from tests.support.explained import Trained, boosting

WORDS = {
    "income": ReasonText(column="income", text="Income", below="Income is low", above="Income is high"),
    "debt": ReasonText(column="debt", text="Debt", below="Debt is low", above="Debt is high"),
    "children": ReasonText(column="children", text="Household"),
    "job": ReasonText(column="job", text="Employment"),
    "home": ReasonText(column="home", text="Housing"),
}


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer()


def explained(
    explainer: Explainer,
    folder: Path,
    at: int,
    without: tuple[str, ...] = (),
    protected: tuple[str, ...] = (),
    trained: Trained | None = None,
) -> Explained:
    trained = trained or boosting()
    texts = [words for name, words in WORDS.items() if name not in without]
    # Another digest, another version: the explainer keeps what it has loaded.
    number = 1 + hash((without, protected)) % 10_000
    spec = msgspec.structs.replace(
        trained.spec,
        version=number,
        protected=list(protected),
        reasons=ReasonTable(digest="sha256:words", texts=texts),
    )
    model, background = folder / "model.onnx", folder / "background.csv"
    model.write_bytes(trained.model)
    background.write_bytes(trained.background)
    where = ModelFiles(spec, str(model), str(background))
    return explainer.explain(Explain(where, trained.rows[at], trained.labels[at], trained.scores[at], ["shap"], 1))


def test_a_denial_gets_at_most_four_reasons_the_strongest_first(explainer: Explainer, tmp_path: Path) -> None:
    for at in boosting().denied()[:10]:
        answer = explained(explainer, tmp_path, at)
        assert answer.reasons is not None and answer.shap is not None
        shares = [reason.share for reason in answer.reasons.reasons]
        assert 1 <= len(shares) <= 4 and shares == sorted(shares, reverse=True) and shares[-1] >= 0.05
        strongest = max(answer.shap.values, key=lambda each: each.shap)
        assert answer.reasons.reasons[0].column == strongest.column
        assert answer.reasons.reasons[0].text in msgspec.structs.astuple(WORDS[strongest.column])


def test_reasons_are_tried_on_the_model_itself(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    for at in trained.denied()[:10]:
        reasons = explained(explainer, tmp_path, at).reasons
        assert reasons is not None
        assert reasons.score_before == pytest.approx(trained.scores[at], abs=1e-6)
        assert reasons.faithful == (reasons.score_after > reasons.score_before)
        assert reasons.faithful and not reasons.objection
        assert reasons.decision_changes > 0.3


def test_words_follow_the_side_on_which_the_value_lies(explainer: Explainer, tmp_path: Path) -> None:
    trained = boosting()
    debts = [row[1] for row in trained.rows]
    middle = float(np.median([float(debt or 0) for debt in debts]))
    told = [
        (trained.rows[at], reason.text)
        for at in trained.denied()[:10]
        for reason in (explained(explainer, tmp_path, at).reasons or pytest.fail("no reasons")).reasons
        if reason.column == "debt"
    ]
    assert any(text == "Debt is high" for _, text in told)
    assert all(text == "Debt is high" for row, text in told if float(row[1] or 0) > middle * 1.5)


def test_a_favourable_decision_has_no_reasons(explainer: Explainer, tmp_path: Path) -> None:
    assert explained(explainer, tmp_path, boosting().granted()[0]).reasons is None


def test_a_protected_column_is_no_reason_and_its_weight_is_not_passed_over(
    explainer: Explainer, tmp_path: Path
) -> None:
    trained = boosting()
    at = next(at for at in trained.denied() if trained.rows[at][3] == "none" and trained.rows[at][4] == "rent")
    reasons = explained(explainer, tmp_path, at, protected=("job",)).reasons
    assert reasons is not None
    assert "job" not in [reason.column for reason in reasons.reasons]
    assert reasons.objection.startswith("the protected column job is among what counted most")


def test_a_principal_reason_without_words_holds_the_others_back(explainer: Explainer, tmp_path: Path) -> None:
    at = boosting().denied()[0]
    whole = explained(explainer, tmp_path, at).reasons
    assert whole is not None
    first = whole.reasons[0].column
    reasons = explained(explainer, tmp_path, at, without=(first,)).reasons
    assert reasons is not None
    assert reasons.objection == f"{first} is among what counted most, and the version's table has no words for it"


def test_reasons_of_an_unstable_explanation_are_held_back(explainer: Explainer, tmp_path: Path) -> None:
    reasons = explained(explainer, tmp_path, boosting().denied()[0]).reasons
    assert reasons is not None
    steady = Trust(distance=0.1, distance_percentile=50.0)
    assert held_back(reasons, steady) == reasons
    assert "unstable" in held_back(reasons, msgspec.structs.replace(steady, unstable=True)).objection
