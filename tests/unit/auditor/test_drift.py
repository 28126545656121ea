"""Drift: figures known from elsewhere, and windows over what is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from affiant.auditor.domain import drift
from affiant.common.errors import NotFound
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened
from tests.unit.auditor.test_columns import made

pytestmark = pytest.mark.anyio
SINCE = "2026-11-20T00:00:00Z"


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.columns.close()
    auditor.writer.close()


async def test_the_figures_of_one_sample_beside_itself_say_no_change() -> None:
    sample = np.random.default_rng(7).normal(size=500)
    found = drift.compared(sample, sample)
    assert (found.kolmogorov_smirnov, found.p_value) == (0.0, 1.0)
    assert (found.jensen_shannon_distance, found.population_stability_index) == (0.0, 0.0)


async def test_samples_that_share_nothing_are_as_far_apart_as_can_be() -> None:
    found = drift.compared(np.arange(100.0) + 1_000, np.arange(100.0))
    assert found.kolmogorov_smirnov == 1.0
    assert found.p_value is not None and found.p_value < 1e-12
    words = drift.compared(np.array(["a"] * 5, object), np.array(["b"] * 5, object))
    assert words.jensen_shannon_distance == pytest.approx(1.0)
    assert words.kolmogorov_smirnov is None


async def test_the_kolmogorov_smirnov_figures_are_those_of_a_worked_example() -> None:
    one, other = np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])
    assert drift.kolmogorov_smirnov(one, other) == 0.5
    # The Kolmogorov distribution at 1.36 is 0.0495: the 5 % point of every table.
    root = np.sqrt(500)
    assert drift.p_value(1.36 / (root + 0.12 + 0.11 / root), 1_000, 1_000) == pytest.approx(0.0495, abs=2e-4)


async def test_the_population_stability_index_is_that_of_a_worked_example() -> None:
    now, reference = np.array(["a"] * 3 + ["b"] * 7, object), np.array(["a"] * 5 + ["b"] * 5, object)
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert drift.compared(now, reference).population_stability_index == pytest.approx(expected)


async def test_a_window_is_compared_with_what_came_before_it(auditor: Auditor) -> None:
    early, late = "2026-11-19T12:00:00Z", "2026-11-20T12:00:00Z"
    events = [
        made(number, received_at=early if number < 20 else late, age=30.0 if number < 20 else 60.0)
        for number in range(40)
    ]
    await auditor.keep(*events[:20])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*events[20:])
    found = await auditor.measure.drift(examples.MODEL, None, (SINCE, None), (None, SINCE))
    by_column = {line.column: line for line in found.columns}
    assert set(by_column) == {"score", "age"}
    age = by_column["age"]
    assert (age.rows, age.reference_rows, age.missing) == (20, 20, 0)
    assert age.comparison is not None and age.comparison.kolmogorov_smirnov == 1.0


async def test_a_model_without_records_is_said_to_have_none(auditor: Auditor) -> None:
    with pytest.raises(NotFound, match="no prediction of rent"):
        await auditor.measure.drift("rent", None, (SINCE, None), (None, SINCE))
