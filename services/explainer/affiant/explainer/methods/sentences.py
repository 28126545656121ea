"""An anchor in words: its clauses read off the bins, and one sentence with no more precision than it has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affiant.common.events import Change, Scalar
from affiant.explainer.methods.table import MISSING, Coding, Matrix, number_text


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


def counterfactual_sentence(changes: Sequence[Change], label: str | int, score: float) -> str:
    """“With income 43 instead of 30.5, the decision would be “granted” (score 0.610).”; the score is rounded down."""
    told = " and ".join(
        f"{one.column} {_value_text(one.after)} instead of {_value_text(one.before)}" for one in changes
    )
    return f"With {told}, the decision would be “{label}” (score {math.floor(score * 1000) / 1000:.3f})."


def _value_text(value: Scalar) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"“{value}”"
    return number_text(float(value)) if isinstance(value, float) else _category_text(value)


def percent(share: float) -> str:
    """A share as a whole percentage, rounded down; “under 1 %” where that would be 0 and is not."""
    # The small addition keeps 0.29 * 100 = 28.999999999999996 from becoming 28.
    whole = math.floor(share * 100 + 1e-9)
    return "under 1 %" if whole == 0 and share > 0 else f"{whole} %"


def clause(coding: Coding, code: float, edges: Matrix | None, allowed: set[int] | None) -> str:
    """A clause in words: a category, or the interval that the allowed bins make up, missing values included."""
    name = coding.column.name
    if edges is None or allowed is None:
        value = coding.value(code)
        return f"{name} is missing" if value is None else f"{name} = {_category_text(value)}"
    low, high = min(allowed), max(allowed)
    above = edges[low - 1] if low > 0 else None
    upto = edges[high] if high < len(edges) else None
    if upto is not None and upto <= MISSING:
        return f"{name} is missing"
    with_missing = bool(above is None and edges[0] <= MISSING)
    if above is not None and above <= MISSING:
        above = None
    return _interval(name, above, upto) + (" or missing" if with_missing else "")


def _interval(name: str, above: float | None, upto: float | None) -> str:
    if above is None and upto is None:
        return f"{name} is given"
    if above is None:
        return f"{name} ≤ {number_text(float(upto or 0.0))}"
    if upto is None:
        return f"{name} > {number_text(above)}"
    return f"{number_text(above)} < {name} ≤ {number_text(upto)}"


def _category_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
