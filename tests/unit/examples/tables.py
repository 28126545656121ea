"""Small tables in files, made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def loans(rows: int = 400) -> pd.DataFrame:
    """Text cells of a table with everything that is awkward: numbers, texts, gaps, an age, a row number."""
    rng = np.random.default_rng(3)
    income, debt = rng.normal(50, 15, rows).round(1), rng.random(rows).round(3)
    denied = debt - income / 100 + rng.normal(0, 0.1, rows) > 0.15
    table = pd.DataFrame(
        {
            "id": [str(n) for n in range(1, rows + 1)],
            "income": income.astype(str),
            "debt ratio": debt.astype(str),
            "job": rng.choice(["fixed", "part time", "ünïcode <b>&"], rows),
            "flag": rng.choice(["0", "1"], rows),
            "age": rng.integers(19, 80, rows).astype(str),
            "sex": rng.choice(["f", "m"], rows),
            "constant": ["x"] * rows,
            "default": np.where(denied, "yes", "no"),
        }
    )
    table.loc[rng.random(rows) < 0.1, "income"] = "NA"
    table.loc[rng.random(rows) < 0.1, "job"] = ""
    return table


def written(folder: Path, name: str = "loans.csv", separator: str = ",") -> Path:
    """That table as a file."""
    path = folder / name
    loans().to_csv(path, sep=separator, index=False)
    return path
