"""Settings come from the environment, typed, and nothing misspelt is silently without effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from affiant.common.errors import Problem
from affiant.common.settings import ServiceSettings, load, read_secret


class Mine(ServiceSettings, frozen=True, kw_only=True):
    ack_wait_seconds: float = 30.0
    workers: int = 2
    quiet: bool = False
    columns: list[str] = []  # noqa: RUF012 - msgspec copies an empty list for each instance


def test_a_default_works_without_any_variable() -> None:
    assert load(Mine, "AFFIANT_MINE", {}) == Mine()


def test_variables_are_read_with_their_types() -> None:
    environ = {
        "AFFIANT_MINE_ACK_WAIT_SECONDS": "2.5",
        "AFFIANT_MINE_WORKERS": "4",
        "AFFIANT_MINE_QUIET": "true",
        "AFFIANT_MINE_COLUMNS": "a, b",
        "OTHER": "x",
    }
    assert load(Mine, "AFFIANT_MINE", environ) == Mine(ack_wait_seconds=2.5, workers=4, quiet=True, columns=["a", "b"])


def test_a_value_that_does_not_fit_names_its_variable() -> None:
    with pytest.raises(Problem, match="AFFIANT_MINE_WORKERS='many'"):
        load(Mine, "AFFIANT_MINE", {"AFFIANT_MINE_WORKERS": "many"})


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(Problem, match="AFFIANT_MINE_WORKER is not a setting"):
        load(Mine, "AFFIANT_MINE", {"AFFIANT_MINE_WORKER": "2"})


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert read_secret(str(tmp_path / "secret")) == "s3cret"
    with pytest.raises(Problem, match="cannot read"):
        read_secret(str(tmp_path / "absent"))
