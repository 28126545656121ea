"""How often the same trouble is logged."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from affiant.common.health import BusHealth, Seldom

pytestmark = pytest.mark.anyio


def test_what_goes_on_is_said_after_twice_as_long_each_time_up_to_a_minute() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    said = []
    for second in range(300):
        now[0] = float(second)
        if seldom.due():
            said.append(second)
    assert said == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_what_comes_back_after_a_while_is_said_at_once() -> None:
    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert [seldom.due(), seldom.due()] == [True, False]
    now[0] = 1_000.0
    assert seldom.due()


async def test_a_bus_that_is_away_does_not_fill_the_log_and_another_error_is_news() -> None:
    now = [0.0]
    health = BusHealth("auditor", lambda: now[0])
    with capture_logs() as logged:
        for second in range(60):
            now[0] = float(second)
            await health.on_error(ConnectionRefusedError("connection refused"))
        await health.on_error(TimeoutError())
    reasons = [one["reason"] for one in logged]
    assert reasons == ["connection refused"] * 6 + ["TimeoutError()"]
