"""`affiant verify`, `erase`, `hold`, `retention` as people type them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import anyio

from tests.unit.auditor.exported import Door, export, recorded
from tests.unit.auditor.test_answers import opened
from tests.unit.cli.fake_services import FakeServices
from tests.unit.cli.test_commands import Affiant, affiant as affiant, home as home, services as services

HELD = {"hold_id": "h-1", "scope": "model", "value": "loan", "since": "", "until": "", "reason": "case 7"}
HOLD = HELD | {"set_by": "iris", "set_at": "2026-11-24T10:00:00.000000Z"}


def exported(tmp_path: Path) -> Path:
    async def make() -> None:
        auditor = await opened(tmp_path)
        await recorded(auditor, 5, missing=(3,))
        export(Door(auditor), auditor, tmp_path / "log")
        auditor.writer.close()

    anyio.run(make)
    return tmp_path / "log"


def test_a_whole_log_is_verified_without_any_service(affiant: Affiant, tmp_path: Path) -> None:
    folder = exported(tmp_path)
    done = affiant("verify", str(folder), "--key", str(folder / "log.vkey"))
    assert done.code == 0
    assert "✓ the log holds" in done.out and "epoch 1: 3 never arrived" in done.out
    assert json.loads(affiant("verify", str(folder), "-o", "json").out)["missing"] == 1
    assert affiant("verify", str(folder), "--complete").code == 1


def test_a_log_that_does_not_hold_ends_with_1_and_names_the_entry(affiant: Affiant, tmp_path: Path) -> None:
    folder = exported(tmp_path)
    data = bytearray((folder / "payload/000.p/5").read_bytes())
    data[100] ^= 1
    (folder / "payload/000.p/5").write_bytes(data)
    done = affiant("verify", str(folder))
    assert done.code == 1
    assert "✗ entry 0: the payload is not the one that was sworn to" in done.out


def test_what_is_no_log_is_a_problem_in_words(affiant: Affiant, tmp_path: Path) -> None:
    done = affiant("verify", str(tmp_path))
    assert done.code == 1
    assert "holds no checkpoint" in done.err
    assert affiant("verify").code == 1


def test_the_verifier_is_written_out_as_one_file_that_runs(affiant: Affiant, tmp_path: Path) -> None:
    assert affiant("verify", "--write", str(tmp_path / "affiant_verify.py")).code == 0
    run = [sys.executable, "-I", str(tmp_path / "affiant_verify.py"), str(exported(tmp_path)), "--jobs", "1"]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "the key is the export's own" in found.stdout


def test_erasing_says_what_was_erased_and_what_still_has_copies(affiant: Affiant, services: FakeServices) -> None:
    services.answers["POST /v1/erasures"] = (
        200,
        {"dry_run": False, "count": 2, "entries": 5, "predictions": ["p1"], "statements": [32], "pending": ["the bus"]},
    )
    done = affiant("erase", "--subject", "customer-1", "--reason", "article 17", "--as", "omar")
    assert "erased 2 predictions (5 entries" in done.out and "entry 32" in done.out and "! the bus" in done.out
    assert services.asked[-1].json["subject"] == "customer-1"
    assert affiant("erase", "--reason", "x").code == 1


def test_a_hold_is_set_and_lifted(affiant: Affiant, services: FakeServices) -> None:
    services.answers["POST /v1/holds"] = (200, HOLD)
    services.answers["POST /v1/holds/h-1/lift"] = (200, HOLD)
    services.answers["GET /v1/holds"] = (200, {"holds": [HOLD]})
    assert "--lift h-1" in affiant("hold", "--model", "loan", "--reason", "case 7").out
    assert "is lifted" in affiant("hold", "--lift", "h-1", "--reason", "settled").out
    assert "model loan" in affiant("holds").out
    assert "hold what?" in affiant("hold", "--reason", "case 7").err


def test_a_retention_class_is_shown_and_set(affiant: Affiant, services: FakeServices) -> None:
    rule = {"kind": "model", "value": "loan", "days": 730, "reason": "policy", "set_by": "omar", "set_at": ""}
    for method in ("GET", "POST"):
        services.answers[f"{method} /v1/retention"] = (200, {"default_days": 0, "rules": [rule]})
    assert "everything else: ever" in affiant("retention").out
    assert "730 days" in affiant("retention", "--model", "loan", "--days", "730", "--reason", "policy").out
    assert affiant("retention", "--model", "loan", "--days", "730").code == 1


def test_who_was_shown_a_payload_is_listed(affiant: Affiant, services: FakeServices) -> None:
    line = {"by": "iris", "at": "2026-11-24T10:00:00.000000Z", "how": "record", "index": 7}
    services.answers["GET /v1/predictions/p1/reads"] = (200, {"reads": [line]})
    assert "iris" in affiant("reads", "p1").out
    services.answers["GET /v1/predictions/p1/reads"] = (200, {"reads": []})
    assert "nobody was shown" in affiant("reads", "p1").out
