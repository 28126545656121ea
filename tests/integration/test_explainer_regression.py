"""A regression with a threshold is explained as a classifier is, in the units of its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from affiant.explainer.methods.explain import Explainer
from affiant.explainer.methods.messages import Explain, Explained, ModelFiles, Overview
from affiant.explainer.methods.overview import overview
from tests.support.explained import Trained, regression


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer()


def explained(explainer: Explainer, trained: Trained, folder: Path, at: int) -> Explained:
    model, background = folder / "model.onnx", folder / "background.csv"
    model.write_bytes(trained.model)
    background.write_bytes(trained.background)
    files = ModelFiles(trained.spec, str(model), str(background))
    methods = ["anchor", "shap", "counterfactual"]
    return explainer.explain(Explain(files, trained.rows[at], trained.labels[at], None, methods, 7))


def test_shap_values_add_up_to_the_predicted_value(explainer: Explainer, tmp_path: Path) -> None:
    trained = regression()
    for at in trained.denied()[:5]:
        found = explained(explainer, trained, tmp_path, at)
        assert found.explained_output == "value of variable"
        assert found.shap is not None
        assert found.shap.units == "value"
        assert found.shap.estimator.startswith("exact interventional SHAP of the trees")
        assert found.shap.output == pytest.approx(trained.scores[at], rel=1e-6)
        assert found.shap.baseline + sum(one.shap for one in found.shap.values) == pytest.approx(
            found.shap.output, rel=1e-6
        )


def test_an_anchor_holds_the_side_of_the_threshold(explainer: Explainer, tmp_path: Path) -> None:
    trained = regression()
    found = explained(explainer, trained, tmp_path, max(trained.denied(), key=lambda at: trained.scores[at]))
    assert found.anchor is not None
    assert found.anchor.success
    assert "“above”" in found.anchor.sentence
    assert any("debt" in clause for clause in found.anchor.clauses)


def test_a_counterfactual_brings_the_value_to_the_other_side(explainer: Explainer, tmp_path: Path) -> None:
    trained = regression()
    assert trained.spec.decision is not None
    for at in trained.denied()[:5]:
        found = explained(explainer, trained, tmp_path, at)
        assert found.counterfactuals
        for way in found.counterfactuals:
            assert way.label == "below"
            assert way.score < trained.spec.decision.threshold


def test_the_version_as_a_whole_is_told_in_the_units_of_its_value(explainer: Explainer, tmp_path: Path) -> None:
    trained = regression()
    explained(explainer, trained, tmp_path, 0)
    files = ModelFiles(trained.spec, str(tmp_path / "model.onnx"), str(tmp_path / "background.csv"))
    [found] = [reply for reply in overview(explainer.warm(files), 7) if isinstance(reply, Overview)]
    assert found.explained_output == "value of variable"
    assert max(found.importance, key=lambda one: one.importance).column == "debt"
