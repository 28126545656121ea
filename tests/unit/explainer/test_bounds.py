"""Bounds on precisions, and the arm with the highest one."""

from __future__ import annotations

import numpy as np
import pytest

from affiant.explainer.methods import bounds


def arms(seed: int, count: int) -> tuple[bounds.Vector, bounds.Vector]:
    random = np.random.default_rng(seed)
    samples = random.integers(1, 400, count).astype(float)
    positives = np.floor(samples * random.choice([0.0, 1.0, *random.random(6)], count))
    return positives / samples, bounds.beta(count, 1 + seed % 30, 0.1) / samples


@pytest.mark.parametrize("count", [1, 2, 5, 40, 300])
def test_the_arm_with_the_highest_bound_is_the_first_largest_one(count: int) -> None:
    for seed in range(40):
        means, levels = arms(seed, count)
        every = [bounds.upper(float(mean), float(level)) for mean, level in zip(means, levels, strict=True)]
        assert bounds.highest(means, levels) == (int(np.argmax(every)), max(every))


def test_a_bound_is_where_the_divergence_reaches_its_level() -> None:
    mean, level = 0.8, 0.02
    for bound in (bounds.lower(mean, level), bounds.upper(mean, level)):
        divergence = mean * np.log(mean / bound) + (1 - mean) * np.log((1 - mean) / (1 - bound))
        assert divergence == pytest.approx(level, rel=1e-3)


def test_bounds_stay_between_0_and_1_at_the_ends() -> None:
    assert bounds.upper(1.0, 0.5) == 1.0
    assert bounds.lower(0.0, 0.5) == 0.0
    assert 0.0 < bounds.upper(0.0, 0.01) < 0.1
    assert 0.9 < bounds.lower(1.0, 0.01) < 1.0


def test_more_samples_make_the_interval_narrower_and_more_confidence_makes_it_wider() -> None:
    few, many = bounds.interval(0.9, 100, 0.95), bounds.interval(0.9, 1000, 0.95)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]
    assert bounds.interval(0.9, 100, 0.99)[0] < few[0]
