"""Getting the German credit table: cached, held against a digest, never waited for too long."""

import threading
from pathlib import Path

import pandas as pd
import pytest

from affiant.common.errors import Problem
from examples.loan import openml


@pytest.fixture(name="cells")
def some_cells(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    cells = openml.canonical(pd.DataFrame({"a": [1.0, 2.5], "b": ["'<0'", " x "]}))
    monkeypatch.setattr(openml, "DIGEST", openml.digest(cells))
    return cells


def test_a_fetched_table_is_kept_and_not_fetched_again(cells: pd.DataFrame, tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    assert openml.load(lambda: cells, environ).equals(cells)
    assert openml.load(lambda: pytest.fail("fetched again"), environ).equals(cells)


def test_a_table_with_another_digest_is_not_used(cells: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="not the pinned"):
        openml.load(lambda: cells.assign(a="9"), {"XDG_CACHE_HOME": str(tmp_path)})
    assert not (tmp_path / "affiant" / "credit-g.csv").exists()


def test_a_spoilt_cache_is_thrown_away(cells: pd.DataFrame, tmp_path: Path) -> None:
    spoilt = tmp_path / "affiant" / "credit-g.csv"
    spoilt.parent.mkdir()
    spoilt.write_text("a,b\n9,z\n")
    assert openml.load(lambda: cells, {"XDG_CACHE_HOME": str(tmp_path)}).equals(cells)


def test_a_network_that_is_not_there_is_told_in_words(cells: pd.DataFrame, tmp_path: Path) -> None:
    def fail() -> pd.DataFrame:
        raise OSError("no route to host")

    with pytest.raises(Problem, match="no route to host"):
        openml.load(fail, {"XDG_CACHE_HOME": str(tmp_path)})


def test_a_network_that_is_silent_is_not_waited_for(cells: pd.DataFrame, tmp_path: Path) -> None:
    silence = threading.Event()

    def hang() -> pd.DataFrame:
        silence.wait(30)
        return cells

    with pytest.raises(Problem, match="did not answer within"):
        openml.load(hang, {"XDG_CACHE_HOME": str(tmp_path)}, seconds=0.05)
    silence.set()


def test_the_digest_does_not_depend_on_who_parsed_the_file() -> None:
    parsed = pd.DataFrame({"a": [6.0], "b": ["'no checking'"], "c": pd.Categorical(["good"])})
    other = pd.DataFrame({"a": ["6"], "b": ["no checking"], "c": ["good"]})
    assert openml.digest(openml.canonical(parsed)) == openml.digest(openml.canonical(other))
