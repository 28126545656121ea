"""What the commands say of a record that somebody altered, and of one that nobody did."""

from __future__ import annotations

import json
from typing import Any

from affiant.cli.home import Home
from tests.unit.cli.fake_services import FakeServices
from tests.unit.cli.test_commands import Affiant, Done, affiant, home, services
from tests.unit.cli.test_verifying import RECORD, proved

__all__ = ["affiant", "home", "services"]
"""The fixtures of the commands' tests."""


def integrity(services: FakeServices, **found: Any) -> None:
    whole = {"intact": True, "size": 1200, "checked": 1200, "checkpoint_size": 1200, "advice": "", "damage": []}
    summary = {"predictions": 3, "explained": 1, "missing": 0}
    services.answers |= {
        "GET /v1/deployments": (200, {"deployments": []}),
        "GET /v1/summary": (200, summary),
        "GET /v1/integrity": (200, whole | found),
    }


def finding(done: Done, subject: str) -> dict[str, Any]:
    return next(one for one in json.loads(done.out)["findings"] if one["subject"] == subject)


def test_the_doctor_says_how_much_of_the_log_was_verified(affiant: Affiant, services: FakeServices) -> None:
    integrity(services)
    found = finding(affiant("doctor", "--output", "json"), "log")
    assert found["level"] == "good"
    assert found["said"] == "1,200 of 1,200 entries verified against the checkpoint over 1,200"


def test_the_doctor_names_the_first_altered_entry(affiant: Affiant, services: FakeServices) -> None:
    damage = [{"index": n, "said": f"entry {n} of the log was altered: it was removed"} for n in (7, 9)]
    integrity(services, intact=False, damage=damage, advice="keep the store as evidence")
    found = finding(affiant("doctor", "--output", "json"), "log")
    assert found["level"] == "problem"
    assert found["said"].startswith("entry 7 of the log was altered: it was removed, and 1 more found")
    assert found["next_step"] == "keep the store as evidence"


def proven(services: FakeServices, home: Home, **shown: Any) -> None:
    """The auditor answers with a true proof, and `shown` in the record above it."""
    proof, key = proved()
    home.log_key.write_text(key)
    services.answers["GET /v1/predictions/p1"] = (
        200,
        {
            "record": RECORD | shown,
            "source": "affiant://modelserver",
            "audited_at": "2026-11-23T10:00:01.000000Z",
            "index": 4,
            "leaf_hash": "00",
            "explanations": [],
            "lineage": [],
            "proof": proof | {"size": 7, "root": "00", "verifier_key": key},
        },
    )


def test_a_prediction_is_shown_with_its_proof_verified_here(
    affiant: Affiant, services: FakeServices, home: Home
) -> None:
    proven(services, home)
    done = affiant("prediction", "p1")
    assert done.code == 0
    assert "verified here: payload → leaf → root → signature" in done.out
    as_json = json.loads(affiant("prediction", "p1", "--output", "json").out)
    assert as_json["verified"] == {"verifies": True, "objection": "", "signature": "verified"}


def test_a_prediction_that_does_not_verify_is_not_shown_as_a_record(
    affiant: Affiant, services: FakeServices, home: Home
) -> None:
    proven(services, home, labels=["forged"])
    done = affiant("prediction", "p1")
    assert done.code == 1
    assert "DOES NOT VERIFY: the record that is shown is not the one in the payload" in done.out
    assert "forged" not in done.out
    as_json = affiant("prediction", "p1", "--output", "json")
    assert (as_json.code, json.loads(as_json.out)["verified"]["verifies"]) == (1, False)
