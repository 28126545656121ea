"""What people see."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from affiant.cli.views import events as event_views, predictions as prediction_views
from affiant.cli.views.explanation import SHOWN, waterfall
from affiant.cli.views.tables import value
from affiant.common import events, wire
from affiant.common.events import EVENTS, GapFound, PredictionLogged

SHAP = {
    "baseline": 0.70,
    "output": 0.35,
    "values": [
        {"column": "income", "value": 12.0, "shap": -0.30},
        {"column": "purpose", "value": "car", "shap": -0.10},
        {"column": "age", "value": None, "shap": 0.05},
    ],
    "additivity_error": 0.0,
    "estimator": "exact",
}
EXPLAINED = {
    "prediction_id": "p1",
    "row": 0,
    "seed": 7,
    "background_rows": 100,
    "explained_label": "denied",
    "explained_output": "probability of approved",
    "duration_ms": 12.3,
    "software": {"alibi": "0.9.4"},
    "shap": SHAP,
    "anchor": {
        "clauses": ["income ≤ 20"],
        "precision": 0.97,
        "coverage": 0.21,
        "threshold": 0.95,
        "success": True,
        "sentence": "Denied while income is at most 20.",
    },
}
RECORD: dict[str, Any] = {
    "record": {
        "prediction_id": "p1",
        "model": "loan",
        "version": 1,
        "digest": "sha256:00",
        "received_at": "2026-11-23T10:00:00.000000Z",
        "status": "answered",
        "inputs": [{"name": "income", "datatype": "FP64", "shape": [1, 1], "data": [12.0]}],
        "context": [{"name": "race", "datatype": "BYTES", "shape": [1, 1], "data": ["[b]"]}],
        "labels": ["denied"],
        "scores": [0.35],
        "adverse": [True],
    },
    "source": "affiant://modelserver",
    "index": 41,
    "leaf_hash": "ab" * 32,
    "audited_at": "2026-11-23T10:00:01.000000Z",
    "explanations": [{"index": 42, "event": EXPLAINED}],
    "lineage": [
        {
            "index": 1,
            "type": "affiant.registry.model_promoted.v1",
            "time": "2026-11-23T09:00:00.000000Z",
            "event": {
                "model": "loan",
                "version": 1,
                "alias": "champion",
                "approved_by": "ben",
                "promoted_at": "2026-11-23T09:00:00.000000Z",
                "spec": {
                    "model": "loan",
                    "version": 1,
                    "digest": "sha256:00",
                    "size_bytes": 1,
                    "author": "ana",
                    "inputs": [],
                    "outputs": [],
                    "columns": [],
                },
            },
        }
    ],
    "proof": {"size": 50, "path": ["aa", "bb"], "root": "cc", "verifier_key": "affiant.local/e5+24+AU"},
}


def seen(*views: RenderableType) -> str:
    screen = Console(file=io.StringIO(), width=120, markup=False, highlight=False, emoji=False)
    for view in views:
        screen.print(view)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_waterfall_goes_from_the_baseline_to_the_output_largest_first() -> None:
    lines = seen(waterfall(SHAP, "probability of approved")).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [
        "baseline",
        "income = 12",
        "purpose = car",
        "age = missing",
        "probability of approved",
    ]
    assert "-0.300" in lines[1]
    assert "+0.050" in lines[3]
    # The end of one bar is the start of the next.
    assert lines[1].index("▒") == lines[2].rindex("▒")


def test_small_contributions_are_summed_up_in_one_line() -> None:
    many = {**SHAP, "values": [{"column": f"c{n}", "value": n, "shap": 0.01} for n in range(SHOWN + 3)]}
    assert "3 other columns" in seen(waterfall(many, "output"))


def test_a_record_shows_what_went_in_what_came_out_and_why() -> None:
    text = seen(*prediction_views.record(RECORD))
    for part in (
        "denied (adverse)",
        "score 0.350",
        "race (not seen by the model)",
        "Denied while income is at most 20.",
        "precision 97.0%",
        "seed 7",
        "41 of 50",
        "2 hashes up to the root cc",
        "loan/1 is champion, approved by ben",
    ):
        assert part in text, part


def test_a_value_with_brackets_is_shown_as_it_is() -> None:
    assert "[b]" in seen(*prediction_views.record(RECORD))


def test_a_prediction_that_nobody_explained_says_how_to_ask() -> None:
    text = seen(*prediction_views.record({**RECORD, "explanations": []}))
    assert "affiant explain p1" in text


def test_an_explanation_that_failed_gives_its_reason() -> None:
    failed = {"prediction_id": "p1", "row": 0, "state": "expired", "reason": "took over 30 s"}
    assert "expired: took over 30 s" in seen(*prediction_views.explanation(failed))


def test_numbers_are_written_as_people_write_them() -> None:
    assert [value(found) for found in (1.0, 0.25, None, "car", 3)] == ["1", "0.25", "missing", "car", "3"]


def test_every_event_has_a_line() -> None:
    assert set(event_views._SAID) == set(EVENTS)


def test_a_logged_prediction_says_which_version_decided_what() -> None:
    event = PredictionLogged(
        prediction_id="p1",
        model="loan",
        version=2,
        digest="",
        received_at="",
        status="answered",
        labels=["denied"],
        adverse=[True],
    )
    message = wire.encode(event, owner="modelserver")
    seen_event = event_views.Seen.of(message.subject, message.body, message.headers)
    assert seen_event.said == "loan/2 p1 → denied (1 of 1 adverse)"
    assert seen_event.data()["data"]["prediction_id"] == "p1"


def test_missing_requests_are_named() -> None:
    event = GapFound(model="loan", replica="r1", epoch=1, missing=[(3, 5)], found_at="")
    assert "3–5" in event_views.describe(event)


def test_a_message_that_cannot_be_read_is_shown_with_the_reason() -> None:
    kind = events.type_of(PredictionLogged)
    found = event_views.Seen.of(f"{kind}.loan", b"{}", None)
    assert found.said.startswith("malformed: ")
