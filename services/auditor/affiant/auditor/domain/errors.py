"""How often decisions agree with what became of them: error rates, whole and by group.

Positive means favourable, both of decisions and of outcomes. The comparisons, by the names that AIF360 and fairlearn
use: equal opportunity difference, TPR(group) - TPR(reference) (Hardt, Price, Srebro 2016); average odds difference,
the mean of the differences of TPR and FPR; predictive parity difference, of PPV (Chouldechova 2017).

Outcomes are often known of favourable decisions alone (who was denied a loan never defaults on it). Rates whose
denominator mixes both kinds of decisions are then biased, and `coverage` shows it: the share of each kind whose
outcome is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Cell(NamedTuple):
    """`rows` rows of one group with this decision and this outcome; both are true where favourable."""

    group: str
    decided: bool
    became: bool
    rows: int


@dataclass(frozen=True)
class ErrorRates:
    """The confusion matrix of one group and its rates (0-1; None where the denominator is 0)."""

    value: str
    rows: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    accuracy: float | None
    true_positive_rate: float | None
    false_positive_rate: float | None
    false_negative_rate: float | None
    positive_predictive_value: float | None


@dataclass(frozen=True)
class ErrorComparison:
    """A group beside the reference group; None where a rate of one of them is not defined."""

    value: str
    equal_opportunity_difference: float | None
    average_odds_difference: float | None
    predictive_parity_difference: float | None


def rates(cells: Iterable[Cell]) -> list[ErrorRates]:
    """Each group's rates, most numerous first."""
    tables: dict[str, dict[tuple[bool, bool], int]] = {}
    for cell in cells:
        table = tables.setdefault(cell.group, {})
        table[cell.decided, cell.became] = table.get((cell.decided, cell.became), 0) + cell.rows
    found = [_rates(group, table) for group, table in tables.items()]
    return sorted(found, key=lambda one: (-one.rows, one.value))


def _rates(group: str, table: dict[tuple[bool, bool], int]) -> ErrorRates:
    tp, fp = table.get((True, True), 0), table.get((True, False), 0)
    fn, tn = table.get((False, True), 0), table.get((False, False), 0)
    rows = tp + fp + fn + tn
    return ErrorRates(
        value=group,
        rows=rows,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        true_negatives=tn,
        accuracy=_share(tp + tn, rows),
        true_positive_rate=_share(tp, tp + fn),
        false_positive_rate=_share(fp, fp + tn),
        false_negative_rate=_share(fn, tp + fn),
        positive_predictive_value=_share(tp, tp + fp),
    )


def comparisons(found: Iterable[ErrorRates], reference: str) -> list[ErrorComparison]:
    """Every other group beside `reference`; empty where no outcome of that group is known."""
    by_value = {one.value: one for one in found}
    base = by_value.get(reference)
    if base is None:
        return []
    return [
        ErrorComparison(
            value=one.value,
            equal_opportunity_difference=_minus(one.true_positive_rate, base.true_positive_rate),
            average_odds_difference=_mean(
                _minus(one.true_positive_rate, base.true_positive_rate),
                _minus(one.false_positive_rate, base.false_positive_rate),
            ),
            predictive_parity_difference=_minus(one.positive_predictive_value, base.positive_predictive_value),
        )
        for one in by_value.values()
        if one.value != reference
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def _mean(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else (left + right) / 2
