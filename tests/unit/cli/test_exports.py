"""Writing predictions to a file from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.cli.fake_services import FakeServices
from tests.unit.cli.test_commands import Affiant, affiant, home, services

__all__ = ["affiant", "home", "services"]


def test_an_export_gets_its_name_when_it_is_whole(affiant: Affiant, services: FakeServices, tmp_path: Path) -> None:
    services.answers["GET /v1/predictions.jsonl"] = (200, {"index": 0})
    out = tmp_path / "loan.jsonl"
    done = affiant("export", "predictions", "--model", "loan", "--out", str(out), "--output", "json")
    assert done.code == 0
    assert json.loads(done.out)["bytes"] == out.stat().st_size
    assert json.loads(out.read_text()) == {"index": 0}
    assert [path.name for path in tmp_path.glob("*loan*")] == ["loan.jsonl"]


def test_an_export_that_fails_leaves_nothing(affiant: Affiant, services: FakeServices, tmp_path: Path) -> None:
    services.answers["GET /v1/predictions.csv"] = (403, {"error": "ana may not: it needs the role auditor"})
    done = affiant("export", "predictions", "--out", str(tmp_path / "loan.csv"))
    assert done.code == 4
    assert not list(tmp_path.glob("*loan*"))


def test_an_export_that_breaks_off_is_said_and_leaves_nothing(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    services.answers["GET /v1/predictions.csv"] = (200, {"a": 1})
    services.cut = 3
    done = affiant("export", "predictions", "--out", str(tmp_path / "loan.csv"))
    assert done.code == 3
    assert "broke off" in done.err
    assert not list(tmp_path.glob("*loan*"))


def test_a_file_that_is_there_is_not_replaced_unasked(affiant: Affiant, services: FakeServices, tmp_path: Path) -> None:
    (tmp_path / "loan.csv").write_text("mine")
    assert affiant("export", "predictions", "--out", str(tmp_path / "loan.csv")).code == 6
    services.answers["GET /v1/predictions.csv"] = (200, {})
    assert affiant("export", "predictions", "--out", str(tmp_path / "loan.csv"), "--force").code == 0
    assert (tmp_path / "loan.csv").read_text() == "{}"


def test_a_name_that_says_no_format_is_asked_about(affiant: Affiant, tmp_path: Path) -> None:
    assert "--format jsonl, csv or parquet" in affiant("export", "predictions", "--out", str(tmp_path / "loan")).err
