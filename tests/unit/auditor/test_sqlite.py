"""What is so of the embedded store alone: its file, its lock, its versions, its disk."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from affiant.auditor.actions.compaction import compact
from affiant.auditor.actions.record import Outcome, Recorder
from affiant.auditor.store import schema
from affiant.auditor.store.database import Standby, StoreAway
from affiant.auditor.store.sqlite import SqliteDatabase
from affiant.common import ids
from affiant.common.errors import Problem, Unavailable
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import opened
from tests.unit.auditor.test_record import _STRUCTURED, rows

STORED = Path(__file__).with_name("stored")
"""Stores as earlier versions made them."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = fresh(tmp_path / "auditor")
    yield database
    database.close()


@pytest.fixture
def recorder(database: SqliteDatabase) -> Recorder:
    return Recorder(database)


def test_a_store_of_version_2_is_upgraded_and_gone_on_with(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "audit.db")
    old.executescript((STORED / "version_2.sql").read_text())
    bodies = old.execute("SELECT body FROM entries ORDER BY idx").fetchall()
    old.close()
    database = SqliteDatabase(tmp_path / "audit.db")
    database.open()
    assert database.version() == schema.version()
    assert rows(database, "SELECT body FROM entries ORDER BY idx") == bodies
    again = examples.raw("affiant.modelserver.prediction_logged.v1.loans", bodies[0][0], _STRUCTURED)
    assert Recorder(database).record([again, examples.arrival(examples.prediction())]) == Outcome(kept=1, doubled=1)
    assert stored_tables(database) == stored_tables(fresh(tmp_path / "fresh"))
    database.close()


def fresh(folder: Path) -> SqliteDatabase:
    database = SqliteDatabase(folder / "audit.db")
    database.open()
    return database


def stored_tables(database: SqliteDatabase) -> dict[str, list[tuple[object, ...]]]:
    """Each table's columns: what queries can rely on."""
    tables = [name for (name,) in rows(database, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {str(name): rows(database, f"PRAGMA table_xinfo({name})") for name in tables}


def test_a_store_of_version_1_is_upgraded(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "audit.db")
    old.executescript((STORED / "version_2.sql").read_text())
    old.executescript(
        "DROP INDEX entries_by_event; ALTER TABLE entries DROP COLUMN outside;"
        "CREATE UNIQUE INDEX entries_by_event ON entries (event_id); PRAGMA user_version = 1;"
    )
    old.close()
    database = SqliteDatabase(tmp_path / "audit.db")
    database.open()
    assert Recorder(database).record([examples.arrival(examples.prediction())]) == Outcome(kept=1)
    database.close()


def test_a_store_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    database = fresh(tmp_path)
    with database.transaction() as connection:
        connection.execute(f"PRAGMA user_version = {schema.version() + 1}")
    database.close()
    with pytest.raises(Problem, match=f"of version {schema.version() + 1}"):
        database.open()


def test_a_full_disk_keeps_nothing_of_the_batch_and_passes(database: SqliteDatabase, recorder: Recorder) -> None:
    recorder.record([examples.arrival(examples.prediction()) for _ in range(10)])
    batch = [examples.arrival(examples.prediction()) for _ in range(2_000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(StoreAway, match=r"full|I/O"):
                recorder.record(batch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert rows(database, "SELECT count(*) FROM entries") == [(10,)]
    assert recorder.record(batch) == Outcome(kept=2_000)


def test_a_locked_store_is_away_until_the_lock_is_gone(
    database: SqliteDatabase, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affiant.auditor.store.sqlite.LOCK_WAIT_SECONDS", 0.01)
    database.close()
    database.open()
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreAway, match="locked"):
        recorder.record([examples.arrival(examples.prediction())])
    other.close()
    assert recorder.record([examples.arrival(examples.prediction())]).kept == 1


def test_one_process_leads_and_another_reads(database: SqliteDatabase, recorder: Recorder) -> None:
    other = SqliteDatabase(database.path)
    with pytest.raises(Standby, match="another auditor"):
        other.open()
    with pytest.raises(Standby), other.transaction():
        pass
    recorder.record([examples.arrival(examples.prediction())])
    assert rows(other, "SELECT count(*) FROM entries") == [(1,)]
    database.close()
    other.open()
    assert Recorder(other).record([examples.arrival(examples.prediction())]).kept == 1
    other.close()


def test_only_its_owner_can_read_the_store(database: SqliteDatabase, recorder: Recorder) -> None:
    recorder.record([examples.arrival(examples.prediction(received_at=ids.now()))])
    assert {path.stat().st_mode & 0o777 for path in database.path.parent.iterdir()} == {0o600}


@pytest.mark.anyio
async def test_a_store_that_was_rolled_back_signs_nothing(tmp_path: Path) -> None:
    auditor = await opened(tmp_path)
    await auditor.keep(examples.prediction())
    await auditor.signing.sign()
    saved = {path: path.read_bytes() for path in (tmp_path / "auditor").glob("audit.db*")}
    event = examples.prediction()
    await auditor.keep(event)
    await auditor.signing.sign()
    auditor.writer.close()
    for path in (tmp_path / "auditor").glob("audit.db*"):
        path.unlink()
    for path, content in saved.items():
        path.write_bytes(content)
    rolled_back = await opened(tmp_path)
    assert "rolled back" in rolled_back.signing.fault
    another = examples.prediction()
    await rolled_back.keep(another)
    with pytest.raises(Unavailable, match="no checkpoint can be signed"):
        await rolled_back.prover.proof(another.prediction_id)
    rolled_back.writer.close()


@pytest.mark.anyio
async def test_what_was_erased_gives_its_room_back_while_the_store_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affiant.auditor.actions.compaction.PAUSE_SECONDS", 0.0)
    auditor = await opened(tmp_path)
    await auditor.keep(*[examples.prediction(number, parameters={"text": "x" * 200_000}) for number in range(1, 101)])
    await auditor.writer.write(lambda connection: connection.execute("UPDATE entries SET body = NULL"))
    before = auditor.database.bytes()
    compacting = asyncio.create_task(compact(auditor.writer))
    while not compacting.done():
        await auditor.keep(examples.prediction())
    assert await compacting > 10_000_000
    assert auditor.database.bytes() < before - 10_000_000
    assert (await auditor.lookup.summary(None)).size > 100
    auditor.writer.close()
