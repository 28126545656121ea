"""Letters: what a person is told, and what is in no letter."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from affiant.cli.commands.letters import letter_of
from affiant.cli.views import letter as views, predictions as prediction_views
from affiant.common.errors import Problem
from tests.unit.cli.test_views import EXPLAINED, RECORD, seen

REASONS: dict[str, Any] = {
    "reasons": [
        {"column": "income", "value": 12.0, "text": "The income is low <here>", "share": 0.75},
        {"column": "purpose", "value": "car", "text": "What the credit is for", "share": 0.25},
    ],
    "table_digest": "sha256:abcdef",
    "baseline": "the mean of 40 rows of the background, evenly spaced by score",
    "score_before": 0.35,
    "score_after": 0.61,
    "decision_changes": 0.8,
    "faithful": True,
}


def found(**changed: Any) -> dict[str, Any]:
    record = deepcopy(RECORD)
    record["explanations"] = [{"event": EXPLAINED | {"reasons": REASONS | changed}}]
    return record


def test_a_letter_gives_the_reasons_in_the_reviewed_words_and_how_to_find_the_record() -> None:
    text = views.text(letter_of(found(), "p1", 0, "Example Bank"))
    assert text.startswith("The decision of 23 November 2026: denied")
    assert "  1. The income is low <here>\n  2. What the credit is for" in text
    assert "Reference: p1" in text and "Model: loan/1" in text and "Example Bank" in text


def test_a_letter_names_no_column_and_no_figure_of_the_model() -> None:
    text = views.text(letter_of(found(), "p1", 0, ""))
    assert "purpose" not in text and "0.75" not in text and "SHAP" not in text


def test_a_letter_as_a_page_keeps_words_words() -> None:
    page = views.page(letter_of(found(), "p1", 0, ""))
    assert "<li>The income is low &lt;here&gt;</li>" in page
    assert "<here>" not in page and "http" not in page


def test_an_objection_keeps_the_reasons_out_of_letters_and_says_why() -> None:
    with pytest.raises(Problem, match="no letter: the explanation is unstable"):
        letter_of(found(objection="the explanation is unstable: with other seeds it names other columns"), "p1", 0, "")


def test_reasons_that_are_not_faithful_are_in_no_letter_whatever_else_is_said() -> None:
    with pytest.raises(Problem, match="no letter: the reasons do not hold"):
        letter_of(found(faithful=False), "p1", 0, "")


def test_there_is_no_letter_about_a_favourable_decision_or_one_without_reasons() -> None:
    record = found()
    record["record"]["adverse"] = [False]
    with pytest.raises(Problem, match="the decision was not adverse"):
        letter_of(record, "p1", 0, "")
    record = found()
    record["explanations"] = [{"event": EXPLAINED}]
    with pytest.raises(Problem, match="no reasons are on record"):
        letter_of(record, "p1", 0, "")


def test_the_newest_explanation_of_the_row_speaks() -> None:
    record = found()
    later = EXPLAINED | {"reasons": REASONS | {"reasons": [REASONS["reasons"][1]]}}
    other_row = EXPLAINED | {"row": 1, "reasons": REASONS}
    record["explanations"] += [{"event": later}, {"event": other_row}]
    written = letter_of(record, "p1", 0, "")
    assert written.reasons == ["What the credit is for"] and "principal reason was" in written.opening


def test_a_record_shows_the_reasons_and_any_objection_to_them() -> None:
    text = seen(*prediction_views.record(found(objection="race counted")))
    assert "1. The income is low <here>  (income, 75%)" in text
    assert "score 0.350 → 0.610, favourable in 80% of cases" in text
    assert "not for a letter: race counted" in text
