"""Do two samples of one column still look alike? The figures that the field compares them by.

Kolmogorov-Smirnov: D, the largest distance of the two empirical distribution functions, and the asymptotic p-value of
the two-sample test (Smirnov 1939; Stephens 1970 for the effective sample size). Jensen-Shannon: the square root of
the divergence to base 2, a distance from 0 to 1 (Lin 1991; Endres and Schindelin 2003). PSI, the population stability
index: sum of (p - q) ln(p / q); by a rule of thumb of credit scoring over 0.1 is worth a look, over 0.25 a change.

The last two compare shares of bins: the deciles of the reference for numbers, the values themselves for words.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

BINS = 10
MOST_WORDS = 100
"""Values of words beyond the most frequent ones of the reference are one bin."""
LEAST_SHARE = 1e-4
"""An empty bin counts as this share for the PSI, which has no value otherwise."""

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Comparison:
    """Two samples compared; the Kolmogorov-Smirnov figures are None for words."""

    kolmogorov_smirnov: float | None
    p_value: float | None
    jensen_shannon_distance: float
    population_stability_index: float


def compared(now: Values, reference: Values) -> Comparison:
    """`now` beside `reference`: numbers, or words (arrays of objects). Raises `ValueError` where one is empty."""
    if not len(now) or not len(reference):
        raise ValueError("both samples need values")
    numeric = now.dtype.kind in "iufb" and reference.dtype.kind in "iufb"
    p, q = _shares(now, reference) if numeric else _word_shares(now, reference)
    if not numeric:
        return Comparison(None, None, jensen_shannon(p, q), stability(p, q))
    distance = kolmogorov_smirnov(now, reference)
    return Comparison(distance, p_value(distance, len(now), len(reference)), jensen_shannon(p, q), stability(p, q))


def kolmogorov_smirnov(one: Values, other: Values) -> float:
    """The largest distance of the two empirical distribution functions."""
    one, other = np.sort(one), np.sort(other)
    places = np.concatenate([one, other])
    below_one = np.searchsorted(one, places, side="right") / len(one)
    below_other = np.searchsorted(other, places, side="right") / len(other)
    return float(np.max(np.abs(below_one - below_other)))


def p_value(distance: float, size: int, other: int) -> float:
    """The asymptotic probability of such a distance, or a larger one, between samples of one distribution."""
    root = math.sqrt(size * other / (size + other))
    at = (root + 0.12 + 0.11 / root) * distance
    if at < 0.2:
        # There the series converges too slowly to be summed, and its value is 1 to nine places.
        return 1.0
    terms: list[float] = [(-1.0) ** (k - 1) * math.exp(-2.0 * (k * at) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * sum(terms)))


def jensen_shannon(p: Values, q: Values) -> float:
    """The Jensen-Shannon distance of two distributions over the same bins."""
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_divergence(p, middle) + _divergence(q, middle)) / 2))


def stability(p: Values, q: Values) -> float:
    """The population stability index of shares `p` beside the reference's `q`."""
    p, q = np.maximum(p, LEAST_SHARE), np.maximum(q, LEAST_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))


def _divergence(p: Values, q: Values) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log2(p[held] / q[held])))


def _shares(now: Values, reference: Values) -> tuple[Values, Values]:
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    both = [np.bincount(np.searchsorted(edges, one, side="left"), minlength=len(edges) + 1) for one in (now, reference)]
    return both[0] / len(now), both[1] / len(reference)


def _word_shares(now: Values, reference: Values) -> tuple[Values, Values]:
    counted = [Counter(map(str, one.tolist())) for one in (now, reference)]
    known = [word for word, _ in counted[1].most_common(MOST_WORDS)]
    bins = [[one[word] for word in known] for one in counted]
    shares = [
        np.array([*found, sum(one.values()) - sum(found)], float) / sum(one.values())
        for one, found in zip(counted, bins, strict=True)
    ]
    return shares[0], shares[1]
