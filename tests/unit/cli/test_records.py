"""Finding predictions on record from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from affiant.cli.moments import moment
from affiant.common.errors import Problem
from tests.unit.cli.fake_services import FakeServices
from tests.unit.cli.test_commands import Affiant, affiant, home, services

__all__ = ["affiant", "home", "services"]

LINE: dict[str, Any] = {
    "prediction_id": "p1",
    "received_at": "2026-11-23T10:00:00.000000Z",
    "model": "loan",
    "version": 2,
    "status": "answered",
    "rows": 1,
    "adverse_rows": 1,
    "labels": ["no"],
    "scores": [0.25],
    "request_id": "r-7",
    "subject_ref": "applicant-4711",
    "error": "",
}


def page(services: FakeServices, *lines: dict[str, Any], cursor: str | None = None) -> None:
    services.answers["GET /v1/predictions"] = (200, {"predictions": list(lines), "next": cursor})


def test_every_filter_reaches_the_auditor(affiant: Affiant, services: FakeServices) -> None:
    page(services, LINE, cursor="abc")
    filters = ["--model", "loan/2", "--adverse", "--label", "no", "--where", "income<3.5", "--where", "purpose=car"]
    done = affiant("predictions", *filters, "--since", "2026-11-23T00:00:00Z", "--subject", "applicant-4711")
    asked = parse_qs(urlsplit(services.asked[-1].path).query)
    assert asked == {
        "model": ["loan"],
        "version": ["2"],
        "adverse": ["true"],
        "label": ["no"],
        "where": ["income<3.5", "purpose=car"],
        "since": ["2026-11-23T00:00:00.000000Z"],
        "subject_ref": ["applicant-4711"],
        "limit": ["20"],
    }
    assert "no (adverse)" in done.out
    assert "--cursor abc" in done.out


def test_a_request_id_of_several_predictions_leads_to_the_list(affiant: Affiant, services: FakeServices) -> None:
    page(services, LINE, LINE | {"prediction_id": "p2"})
    done = affiant("prediction", "r-7")
    assert done.code == 6
    assert "affiant predictions --request-id r-7" in done.err


def test_an_id_that_nothing_has_is_said_in_the_words_of_the_auditor(affiant: Affiant, services: FakeServices) -> None:
    services.answers["GET /v1/predictions/x%2Fy"] = (404, {"error": "no prediction x/y is on record"})
    page(services)
    assert "no prediction x/y is on record" in affiant("prediction", "x/y").err


def test_times_are_taken_as_people_type_them() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert moment("24h", now) == "2026-11-23T12:00:00.000000Z"
    assert moment("2026-11-23T14:00:00+02:00") == "2026-11-23T12:00:00.000000Z"
    with pytest.raises(Problem, match="no time"):
        moment("yesterday")
