"""The whole system with real processes, started once for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from affiant.cli.system import System
from tests.e2e.people import People


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    home: Path = tmp_path_factory.mktemp("system") / "home"
    system = System(home, settings={"AFFIANT_AUDITOR_CHECKPOINT_INTERVAL_SECONDS": "0.5"})
    system.start()
    yield system
    system.stop()


@pytest.fixture
async def people(system: System) -> AsyncIterator[People]:
    people = People(system)
    yield people
    await people.http.aclose()
