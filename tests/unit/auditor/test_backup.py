"""Back-ups: made while the store is written, checked, and never put over a store or under a wrong history."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from affiant.auditor.actions.backup import backup, continue_as, restore
from affiant.auditor.actions.record import Recorder
from affiant.auditor.store import checkpoints, entries, facts
from affiant.auditor.store.sqlite import SqliteDatabase
from affiant.common.errors import Conflict, NotFound, Problem
from tests.unit.auditor import examples, verifier
from tests.unit.auditor.test_answers import Auditor, make, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    """With 300 entries, all under a checkpoint."""
    auditor = await opened(tmp_path)
    await auditor.keep(*[examples.prediction(number) for number in range(1, 301)])
    await auditor.signing.sign()
    yield auditor
    auditor.writer.close()


async def grow(auditor: Auditor, first: int, last: int) -> None:
    await auditor.keep(*[examples.prediction(number) for number in range(first, last + 1)])
    await auditor.signing.sign()


def bodies(path: Path) -> list[bytes | None]:
    database = SqliteDatabase(path)
    try:
        with database.reading() as connection:
            return [one.body for one in entries.between(connection, 0, 10_000)]
    finally:
        database.close()


async def test_a_backup_holds_every_entry_and_what_proves_it(auditor: Auditor, tmp_path: Path) -> None:
    made = backup(tmp_path / "auditor", tmp_path / "copy")
    assert (made["size"], made["origin"]) == (300, auditor.signing.verifier_key.partition("+")[0])
    assert bodies(tmp_path / "copy" / "audit.db") == bodies(tmp_path / "auditor" / "audit.db")
    note = (tmp_path / "copy" / "checkpoint").read_text()
    assert verifier.opened(note, (tmp_path / "copy" / "log.vkey").read_text().strip())[1] == 300
    assert not (tmp_path / "copy" / "log.key").exists()
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "copy").iterdir()} == {0}


def test_a_backup_is_consistent_while_the_store_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affiant.auditor.store.sqlite.COPIED_PAGES", 4)
    database = SqliteDatabase(tmp_path / "auditor" / "audit.db")
    database.open()
    recorder = Recorder(database)
    recorder.record([examples.arrival(examples.prediction()) for _ in range(500)])
    (tmp_path / "auditor" / "log.vkey").write_text("none yet\n")
    copied, written, steps = threading.Event(), threading.Event(), []

    def write() -> None:
        while not copied.is_set():
            recorder.record([examples.arrival(examples.prediction()) for _ in range(20)])
            written.set()

    def told(done: int, of: int) -> None:
        steps.append(done)
        written.clear()
        written.wait(5)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        made = backup(tmp_path / "auditor", tmp_path / "copy", told)
    finally:
        copied.set()
        writing.join()
    assert made["size"] >= 500
    assert steps == sorted(steps)
    assert len(steps) > 10
    assert len(bodies(tmp_path / "copy" / "audit.db")) == made["size"] < len(bodies(database.path))
    database.close()


async def test_a_backup_of_a_store_that_was_altered_is_refused(auditor: Auditor, tmp_path: Path) -> None:
    await auditor.writer.write(lambda connection: connection.execute("DELETE FROM entries WHERE idx = 7"))
    with pytest.raises(Problem, match="entry 7 is missing"):
        backup(tmp_path / "auditor", tmp_path / "copy")


async def test_a_backup_goes_into_a_new_folder_only(auditor: Auditor, tmp_path: Path) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    with pytest.raises(Conflict, match="not empty"):
        backup(tmp_path / "auditor", tmp_path / "copy")
    with pytest.raises(NotFound):
        backup(tmp_path / "nowhere", tmp_path / "other")


async def test_a_restored_store_goes_on_where_it_was(auditor: Auditor, tmp_path: Path) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    auditor.writer.close()
    lose(tmp_path)
    restored = restore(tmp_path / "copy", tmp_path / "auditor", tmp_path / "witness")
    assert (restored["size"], restored["behind"]) == (300, 0)
    again = await opened(tmp_path)
    await grow(again, 301, 310)
    assert again.signing.fault == ""
    assert (await again.lookup.summary(None)).size == 310
    again.writer.close()


def lose(folder: Path) -> None:
    """The disk with the store is gone; the signing key was kept apart."""
    for path in (folder / "auditor").glob("audit.db*"):
        path.unlink()


async def test_a_restore_puts_nothing_over_a_store_nor_under_a_running_auditor(
    auditor: Auditor, tmp_path: Path
) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    with pytest.raises(Conflict, match="a store already"):
        restore(tmp_path / "copy", tmp_path / "auditor")
    lose(tmp_path)
    with pytest.raises(Conflict, match="another auditor"):
        restore(tmp_path / "copy", tmp_path / "auditor")


async def test_a_backup_that_was_changed_is_not_restored(auditor: Auditor, tmp_path: Path) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    changed = sqlite3.connect(tmp_path / "copy" / "audit.db")
    changed.execute("UPDATE predictions SET model = 'another' WHERE idx = 7")
    changed.commit()
    # Whether the change is in a journal still, or in the file itself.
    with pytest.raises(Problem, match="not the file that was backed up"):
        restore(tmp_path / "copy", tmp_path / "elsewhere")
    changed.close()
    with pytest.raises(Problem, match="not the file that was backed up"):
        restore(tmp_path / "copy", tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").glob("audit.db*")) == []
    about = json.loads((tmp_path / "copy" / "backup.json").read_text())
    (tmp_path / "copy" / "backup.json").write_text(json.dumps({"made_at": about["made_at"]}))
    with pytest.raises(Problem, match="is no back-up"):
        restore(tmp_path / "copy", tmp_path / "elsewhere")


async def test_a_backup_behind_the_witness_goes_on_under_another_name_only(auditor: Auditor, tmp_path: Path) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    await grow(auditor, 301, 320)
    sworn = (tmp_path / "witness" / "checkpoint").read_text()
    auditor.writer.close()
    lose(tmp_path)
    with pytest.raises(Problem, match="20 more were sworn to") as problem:
        restore(tmp_path / "copy", tmp_path / "auditor", tmp_path / "witness")
    assert "--new-name" in problem.value.hint
    assert not (tmp_path / "auditor" / "audit.db").exists()
    restored = restore(tmp_path / "copy", tmp_path / "auditor", tmp_path / "witness", "example.org/log-2")
    assert (restored["origin"], restored["behind"]) == ("example.org/log-2", 20)
    again = await opened(tmp_path)
    await grow(again, 301, 330)
    assert again.signing.fault == ""
    assert verifier.opened(await again.prover.checkpoint(), again.signing.verifier_key)[:2] == (
        "example.org/log-2",
        330,
    )
    before = await again.lookup.ask(lambda connection: facts.text(connection, "continued_from"))
    assert verifier.opened(before, auditor.signing.verifier_key)[1] == 300
    assert [path.read_text() for path in (tmp_path / "witness").glob("checkpoint-affiant.local_*")] == [sworn]
    again.writer.close()


async def test_a_backup_of_another_history_is_refused(auditor: Auditor, tmp_path: Path) -> None:
    backup(tmp_path / "auditor", tmp_path / "copy")
    signer = auditor.signing._signer
    (tmp_path / "witness" / "checkpoint").write_text(signer.sign(300, bytes(32)))
    with pytest.raises(Problem, match="another history"):
        restore(tmp_path / "copy", tmp_path / "elsewhere", tmp_path / "witness", "example.org/log-2")


async def test_a_running_auditors_log_keeps_its_name(auditor: Auditor, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="another auditor"):
        continue_as("", tmp_path / "auditor", "example.org/log-2")
    auditor.writer.close()
    continue_as("", tmp_path / "auditor", "example.org/log-2")
    again = make(tmp_path)
    await again.writer.open()
    await again.signing.open()
    assert await again.lookup.ask(checkpoints.last) is None
    assert again.signing.verifier_key.startswith("example.org/log-2+")
    again.writer.close()
