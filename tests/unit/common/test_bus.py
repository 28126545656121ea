"""The declaration of the bus: how large and how old its streams may become."""

from __future__ import annotations

import pytest

from affiant.common import bus
from affiant.common.errors import Problem


def test_streams_have_the_declared_limits_where_nothing_else_is_said() -> None:
    assert bus.sized(bus.STREAMS, {}) == list(bus.STREAMS)


def test_an_installation_gives_a_stream_its_own_limits() -> None:
    given = {"AFFIANT_STREAM_PREDICTIONS_MAX_GIB": "200", "AFFIANT_STREAM_PREDICTIONS_MAX_DAYS": "7.5"}
    streams = {stream.name: stream for stream in bus.sized(bus.STREAMS, given)}
    assert streams["PREDICTIONS"].max_bytes == 200 * bus.GIB
    assert streams["PREDICTIONS"].max_age_seconds == 7.5 * bus.DAY
    assert streams["EXPLANATIONS"] == bus.EXPLANATIONS


@pytest.mark.parametrize("given", ["0", "-1", "much", "nan", "inf"])
def test_what_is_no_limit_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(Problem, match="AFFIANT_STREAM_PREDICTIONS_MAX_GIB"):
        bus.sized(bus.STREAMS, {"AFFIANT_STREAM_PREDICTIONS_MAX_GIB": given})
