"""Bounds on a precision from samples, by the Kullback-Leibler divergence of Bernoulli distributions.

The bisections are those of alibi 0.9.4 (`AnchorBaseBeam.dup_bernoulli`, `dlow_bernoulli`): the same 16 steps, so that a
search that uses them takes the same turns. For one arm Python's own floats are forty times as fast as arrays of
length one; for many arms, only those that can still be the largest are bisected.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

STEPS = 16
_LEAST, _MOST = 0.0000001, 0.9999999999999999


def upper(p: float, level: float) -> float:
    """The largest precision that `p` observed does not speak against, at `level` = beta / samples."""
    m = min(max(p, _LEAST), _MOST)
    rest, log = 1.0 - m, math.log
    low, high = p, min(p + math.sqrt(level / 2.0), 1.0)
    for _ in range(STEPS):
        middle = (high + low) / 2.0
        n = _LEAST if middle < _LEAST else min(middle, _MOST)
        if m * log(m / n) + rest * log(rest / (1.0 - n)) > level:
            high = middle
        else:
            low = middle
    return high


def lower(p: float, level: float) -> float:
    """The smallest precision that `p` observed does not speak against, at `level` = beta / samples."""
    m = min(max(p, _LEAST), _MOST)
    rest, log = 1.0 - m, math.log
    low, high = min(max(p - math.sqrt(level / 2.0), 0.0), 1.0), p
    for _ in range(STEPS):
        middle = (high + low) / 2.0
        n = _LEAST if middle < _LEAST else min(middle, _MOST)
        if m * log(m / n) + rest * log(rest / (1.0 - n)) > level:
            low = middle
        else:
            high = middle
    return low


def highest(p: Vector, level: Vector) -> tuple[int, float]:
    """The first position whose `upper` bound is the largest, and that bound: `argmax` without bisecting every arm."""
    if len(p) == 1:
        return 0, upper(float(p[0]), float(level[0]))
    ceiling = np.minimum(p + np.sqrt(level / 2.0), 1.0)
    # Any arm would do to begin with; a good guess leaves fewer to bisect.
    best = int(np.argmax(np.minimum(ceiling, p + np.sqrt(2.0 * p * (1.0 - p) * level) + level)))
    bound = upper(float(p[best]), float(level[best]))
    for arm in _rivals(p, level, ceiling, bound).tolist():
        if arm == best:
            continue
        found = upper(float(p[arm]), float(level[arm]))
        if found > bound or (found == bound and arm < best):
            best, bound = arm, found
    return best, bound


def _rivals(p: Vector, level: Vector, ceiling: Vector, bound: float) -> npt.NDArray[np.int64]:
    """The arms whose bound may reach `bound`.

    A bisection ends at most one last step above the point where the divergence reaches the level. An arm whose
    divergence is beyond its level two such steps below `bound` therefore ends below it.
    """
    point = bound - 2.0 * (ceiling - p) / 2**STEPS
    m = np.clip(p, _LEAST, _MOST)
    n = np.clip(point, _LEAST, _MOST)
    beyond = m * np.log(m / n) + (1.0 - m) * np.log((1.0 - m) / (1.0 - n)) > level
    return cast("npt.NDArray[np.int64]", np.flatnonzero((ceiling >= bound) & ~((point > p) & beyond)))


def beta(arms: int, turn: int, delta: float) -> float:
    """The exploration rate of KL-LUCB (Kaufmann, Kalyanakrishnan 2013, theorem 1) with alibi's constants."""
    rate = float(np.log(405.5 * arms * (turn**1.1) / delta))
    return rate + float(np.log(rate))


def interval(precision: float, samples: float, confidence: float) -> tuple[float, float]:
    """The Chernoff interval of a precision: each end is passed with probability (1 - confidence) / 2 at most."""
    level = math.log(2.0 / (1.0 - confidence)) / samples
    return lower(precision, level), upper(precision, level)
