"""An anchor as a sentence that a person reads, with no more precision than it has."""

from __future__ import annotations

import math
from collections.abc import Sequence


def anchor_sentence(
    clauses: Sequence[str], precision: float, coverage: float, threshold: float, success: bool, label: str | int
) -> str:
    """“While chist > 2 and insurance = yes, 97 % of similar cases are decided “deny” (covers 4 % of the background).”

    Precision and coverage are shares (0-1); percentages are rounded down, so that nothing sounds surer than it is.
    """
    if not clauses:
        return f"Whatever the values are, {percent(precision)} of cases are decided “{label}”: no condition is needed."
    conditions = " and ".join(clauses)
    held = f"While {conditions}, {percent(precision)} of similar cases are decided “{label}”"
    covers = f"(covers {percent(coverage)} of the background)"
    if success:
        return f"{held} {covers}."
    return f"{held} {covers}; no set of conditions that reaches {percent(threshold)} was found."


def percent(share: float) -> str:
    """A share as a whole percentage, rounded down; “under 1 %” where that would be 0 and is not."""
    # The small addition keeps 0.29 * 100 = 28.999999999999996 from becoming 28.
    whole = math.floor(share * 100 + 1e-9)
    return "under 1 %" if whole == 0 and share > 0 else f"{whole} %"
