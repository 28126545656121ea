"""What the auditor records, answers and proves is the same on a real PostgreSQL: the tests of `tests/unit/auditor`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres
from tests.unit.auditor import stores
from tests.unit.auditor.test_answers import *  # noqa: F403
from tests.unit.auditor.test_dossier import *  # noqa: F403
from tests.unit.auditor.test_erasure import *  # noqa: F403
from tests.unit.auditor.test_integrity import *  # noqa: F403
from tests.unit.auditor.test_reads import *  # noqa: F403
from tests.unit.auditor.test_record import *  # noqa: F403
from tests.unit.auditor.test_sink import *  # noqa: F403
from tests.unit.auditor.test_story import *  # noqa: F403
from tests.unit.auditor.test_testimony import *  # noqa: F403


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def on_postgresql(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a database of its own, and keeps it when it opens its store again."""
    monkeypatch.setattr(stores, "url", server.new_database())
