"""The German credit table (OpenML `credit-g`, version 1), fetched once, held against a pinned digest, cached.

The digest was taken from the same 1,000 applications as Weka distributes them (`credit-g.arff`, from which OpenML's
copy was made), after they agreed, row by row, with the coded original of the UCI repository (Hofmann 1994).
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from affiant.common.errors import Problem

DIGEST = "sha256:f25bf75d90982669e331e83cdaf3567669c1ba1ba6a30da7758bb20b3a843924"
SECONDS = 12.0
"""How long the whole fetch may take before the demonstration goes on without it."""


def load(
    fetch: Callable[[], pd.DataFrame] | None = None, environ: Mapping[str, str] = os.environ, seconds: float = SECONDS
) -> pd.DataFrame:
    """The table as text cells, from the cache or from OpenML. Raises `Problem` saying why it cannot be had."""
    cached = cache_folder(environ) / "credit-g.csv"
    if cached.is_file():
        cells = pd.read_csv(cached, dtype=str, keep_default_na=False)
        if digest(cells) == DIGEST:
            return cells
        cached.unlink()
    cells = _within(seconds, fetch or from_openml)
    if (found := digest(cells)) != DIGEST:
        raise Problem(f"OpenML's table has the digest {found[:19]}…, not the pinned {DIGEST[:19]}…: it is not used")
    cached.parent.mkdir(parents=True, exist_ok=True)
    cells.to_csv(cached, index=False)
    return cells


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where fetched tables are kept: `$XDG_CACHE_HOME/affiant`, or `~/.cache/affiant`."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affiant"


def from_openml() -> pd.DataFrame:
    """Ask OpenML. scikit-learn is imported here: it takes a second, and the cache needs none of it."""
    from sklearn.datasets import fetch_openml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each retry; the reason is told once, at the end
        bunch = fetch_openml(
            "credit-g", version=1, as_frame=True, parser="liac-arff", cache=False, n_retries=1, delay=0.1
        )
    return canonical(bunch.frame)


def canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """Text cells that do not depend on who parsed the file: no quotes around, whole numbers without a point."""
    return frame.astype(object).map(_cell)


def digest(cells: pd.DataFrame) -> str:
    """`sha256:…` over the header and the rows, tab-separated, one line each."""
    lines = ["\t".join(row) for row in [list(cells.columns), *cells.to_numpy().tolist()]]
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value).strip().strip("'\"")


def _within(seconds: float, fetch: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Run `fetch`, but wait no longer: name look-ups and slow servers heed no socket time-out."""
    got: list[pd.DataFrame] = []
    failed: list[Exception] = []

    def attempt() -> None:
        try:
            got.append(fetch())
        except Exception as error:  # handed to the caller's thread below, as the reason why there is no table
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise Problem(f"the table could not be fetched from OpenML: {_short(failed[0])}") from failed[0]
    if not got:
        raise Problem(f"OpenML did not answer within {seconds:g} seconds")
    return got[0]


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return f"{type(error).__name__}: {reason}"[:120]
