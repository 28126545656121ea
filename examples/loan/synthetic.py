"""A made table of loan decisions whose bias is known, so that fairness figures can be held against the truth.

The people: `ethnicity` (30 % minority) and `sex` (half and half). The rule of the invented bank looks at income, debt,
the loan, years in work and payment history — alike in both groups — and takes a fixed number of points off every
application from the district "east". 75 % of the minority live there and 15 % of the majority. So the rule never
looks at ethnicity and still denies the minority far more often; sex has no influence at all. Two decisions in a
hundred are made at random.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from examples.loan.table import Choices, Table, Truth, understand

ROWS = 3_000
SEED = 20_261_123
PENALTY = 1.5
CUT = -2.1

TRUE_PARITY_DIFFERENCE = {"ethnicity": -0.1947, "sex": 0.0}
"""P(approved | group) − P(approved | reference) under the rule, from 20 million draws (standard error 0.0001)."""

_HISTORY = ("clean", "one late payment", "several late payments", "default")
_PURPOSES = ("car", "education", "furniture", "home repair", "business")


def people(rows: int, seed: int) -> pd.DataFrame:
    """`rows` applications with their decision in `approved` ("yes", "no"); the same seed gives the same table."""
    rng = np.random.default_rng(seed)
    minority = rng.random(rows) < 0.3
    east = rng.random(rows) < np.where(minority, 0.75, 0.15)
    others = rng.choice(["north", "south", "west"], rows)
    history = rng.choice(4, rows, p=[0.62, 0.2, 0.12, 0.06])
    table = pd.DataFrame(
        {
            "income": np.round(np.exp(rng.normal(3.75, 0.4, rows)), 1),
            "debt_ratio": np.round(rng.beta(2.2, 4.5, rows), 3),
            "loan_to_value": np.round(np.clip(rng.normal(0.74, 0.16, rows), 0.1, 1.3), 3),
            "years_employed": np.round(rng.gamma(2.0, 4.0, rows), 0),
            "payment_history": np.array(_HISTORY, dtype=object)[history],
            "purpose": rng.choice(np.array(_PURPOSES, dtype=object), rows),
            "district": np.where(east, "east", others),
            "ethnicity": np.where(minority, "minority", "majority"),
            "sex": rng.choice(np.array(["female", "male"], dtype=object), rows),
        }
    )
    approved = _points(table, history) > CUT
    at_random = rng.random(rows) < 0.02
    approved = np.where(at_random, rng.random(rows) < 0.5, approved)
    table["years_employed"] = table["years_employed"].mask(rng.random(rows) < 0.04)
    return table.assign(approved=np.where(approved, "yes", "no"))


def _points(table: pd.DataFrame, history: NDArray[np.int64]) -> NDArray[np.float64]:
    points = (
        1.6 * (np.log(table["income"]) - 3.75)
        - 3.2 * (table["debt_ratio"] - 0.33)
        - 2.0 * (table["loan_to_value"] - 0.74)
        + 0.06 * (table["years_employed"].clip(upper=20) - 8)
        - np.array([0.0, 0.5, 1.1, 2.0])[history]
        - PENALTY * (table["district"] == "east")
    )
    return np.asarray(points, dtype=np.float64)


def parity_difference(table: pd.DataFrame, column: str, group: str, reference: str) -> float:
    """The difference of the approval rates of two groups in `table`."""
    approved = table["approved"] == "yes"
    return float(approved[table[column] == group].mean() - approved[table[column] == reference].mean())


def make(choices: Choices, source: str) -> Table:
    """The made table, with the truth about it."""
    known = Choices(
        target=choices.target or "approved",
        favourable=choices.favourable or "yes",
        protected=choices.protected if choices.protected is not None else ("ethnicity", "sex"),
        drop=choices.drop,
        feed_protected=choices.feed_protected,
    )
    truth = (
        Truth("ethnicity", "minority", "majority", TRUE_PARITY_DIFFERENCE["ethnicity"],
              "the rule takes points off for the district where most of the minority live"),
        Truth("sex", "female", "male", TRUE_PARITY_DIFFERENCE["sex"], "the rule does not depend on sex"),
    )  # fmt: skip
    cells = people(ROWS, SEED).astype(str)
    return understand(cells, "made-loans", source, known, truth)
