"""Backing up the embedded store while it runs, and restoring it; going on with a log that is behind what was sworn.

A back-up is a folder: `audit.db` (a consistent copy), `checkpoint` (the newest signed note in it), `log.vkey` (the
public key) and `backup.json` (what is in it, with the copy's SHA-256). The signing key is not in it: whoever has both
could swear to another history. A store in PostgreSQL is backed up with PostgreSQL's own tools (docs/operations.md).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from affiant.auditor.actions import witness
from affiant.auditor.actions.checkpoints import VERIFIER_KEY_FILE, head, root_at
from affiant.auditor.log import checkpoint, tiles
from affiant.auditor.store import checkpoints, facts, holes, schema
from affiant.auditor.store.database import Connection, Database, StoreAway
from affiant.auditor.store.location import FILE, locate
from affiant.auditor.store.sqlite import SqliteDatabase, copy
from affiant.common import alone, ids
from affiant.common.errors import Conflict, NotFound, Problem

ABOUT = "backup.json"
CONTINUED_FROM = "continued_from"
"""The fact that keeps the last checkpoint under the name that the log had before."""

COPIED_BYTES = 16 * 1024**2

Told = Callable[[int, int], None]


class Held(NamedTuple):
    """What a whole store holds. `note` is the newest checkpoint, empty before the first."""

    origin: str
    size: int
    root: str
    note: str


def nobody(done: int, of: int) -> None:
    """Tells nobody of the progress."""


def backup(data_dir: Path, out: Path, told: Told = nobody) -> dict[str, Any]:
    """A copy of the store in `data_dir` in the new folder `out`, checked; the auditor may run meanwhile.

    Raises `Problem`: no store there, something in the way, or a store that is not what was sworn to.
    """
    source = data_dir / FILE
    if not source.exists():
        raise NotFound(f"there is no {source}", hint="--data names the auditor's data folder; see docs/operations.md")
    if out.exists() and any(out.iterdir()):
        raise Conflict(f"{out} is not empty", hint="name a new folder")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    verifier_key = _key(data_dir)
    with _told_as_problem():
        copy(source, out / FILE, told)
        held = _checked(SqliteDatabase(out / FILE), verifier_key)
    about = {"made_at": ids.now(), **held._asdict(), "schema": schema.version(), "sha256": _digest(out / FILE)}
    _write(out / VERIFIER_KEY_FILE, verifier_key + "\n")
    _write(out / witness.NEWEST, held.note)
    _write(out / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return about


def restore(
    folder: Path, data_dir: Path, witness_dir: Path | None = None, new_name: str = "", told: Told = nobody
) -> dict[str, Any]:
    """The store of a back-up, put into a `data_dir` that has none. `behind` in the answer: so many entries that the
    back-up does not have were sworn to.

    Raises `Problem` where there is a store already, an auditor runs, the copy is not what it was, or the log is behind
    the witness's newest checkpoint and `new_name` does not say under which name it goes on.
    """
    about = _about(folder)
    data_dir.mkdir(parents=True, exist_ok=True)
    target = data_dir / FILE
    if target.exists():
        raise Conflict(f"there is a store already: {target}", hint="move it away, and keep it: it is evidence")
    lock = alone.hold(data_dir, "auditor")
    draft = data_dir / f"{FILE}.restoring"
    try:
        with _told_as_problem():
            _clear(draft)
            _copy_file(folder / FILE, draft, told)
            # A journal beside it would have been read as part of it by whoever opens it.
            if _digest(draft) != about["sha256"] or (folder / f"{FILE}-wal").exists():
                raise Problem(f"{folder / FILE} is not the file that was backed up", hint="use another back-up")
            held = _checked(SqliteDatabase(draft), _key(folder))
            database = SqliteDatabase(draft)
            behind = _behind(database, held, witness_dir, _key(folder))
            if behind and not new_name:
                raise _is_behind(held.size, behind)
            draft.rename(target)
    finally:
        _clear(draft)
        os.close(lock)
    if new_name:
        continue_as("", data_dir, new_name, witness_dir)
    return {"origin": new_name or held.origin, "size": held.size, "behind": behind, "data_dir": str(data_dir)}


def continue_as(
    url: str, data_dir: Path, new_name: str, witness_dir: Path | None = None, password_file: str = ""
) -> dict[str, Any]:
    """Let a log that is behind what was sworn go on under another name, from the entries that it has.

    Under the old name it may sign nothing any more: there are checkpoints over entries that it does not have. They stay
    true of the log that is lost. The witness folder's newest one is kept beside under the old name.
    """
    database = locate(url, data_dir, password_file)
    try:
        with _told_as_problem():
            database.open()
            with database.transaction() as connection:
                before = facts.text(connection, facts.ORIGIN)
                if before == new_name:
                    raise Problem(f"the log's name is {new_name} already", hint="give it another one")
                size = facts.number(connection, facts.SIZE)
                _rename(connection, new_name)
    finally:
        database.close()
    if witness_dir is not None and (witness_dir / witness.NEWEST).exists():
        (witness_dir / witness.NEWEST).rename(witness_dir / f"checkpoint-{before.replace('/', '_')}-{ids.now()}")
    return {"origin": new_name, "before": before, "size": size}


def _rename(connection: Connection, new_name: str) -> None:
    last = checkpoints.last(connection)
    facts.put(connection, CONTINUED_FROM, last.note if last else "")
    facts.put(connection, facts.ORIGIN, new_name)
    facts.put(connection, facts.VERIFIER_KEY, "")
    checkpoints.clear(connection)


def _checked(database: Database, verifier_key: str) -> Held:
    """What the store holds. Raises `Problem` where it is not what its own newest checkpoint was signed over."""
    try:
        with database.reading() as connection:
            return _held(connection, verifier_key)
    except (tiles.Torn, LookupError) as error:
        raise Problem(f"the store's tree is damaged: {error}", status=500) from error
    finally:
        database.close()


def _held(connection: Connection, verifier_key: str) -> Held:
    size, root = head(connection)
    missing, signed = holes.first_missing(connection, size), checkpoints.last(connection)
    if missing is not None:
        raise Problem(f"entry {missing} is missing in the store", status=500, hint="affiant doctor names what is wrong")
    if signed is not None and root_at(connection, signed.size) != signed.root:
        raise Problem(f"the store is not what was sworn to at {signed.size} entries", status=500)
    if signed is not None and not checkpoint.is_signed(signed.note, verifier_key):
        raise Problem(f"the checkpoint over {signed.size} entries is not signed by {verifier_key}", status=500)
    origin = facts.text(connection, facts.ORIGIN)
    return Held(origin, size, root.hex(), signed.note if signed else "")


def _behind(database: Database, held: Held, witness_dir: Path | None, verifier_key: str) -> int:
    """How many entries were sworn to beyond those held. Raises `Problem` where the two are different histories."""
    note = witness.newest(witness_dir) if witness_dir else ""
    if not note:
        return 0
    sworn = checkpoint.parse(note)
    if sworn.origin != held.origin:
        return 0
    if not checkpoint.is_signed(note, verifier_key):
        raise Problem(f"the newest checkpoint in {witness_dir} is not signed by the log's key", status=500)
    if sworn.size > held.size:
        return sworn.size - held.size
    try:
        with database.reading() as connection:
            if root_at(connection, sworn.size) != sworn.root:
                raise Problem(f"the back-up has another history than the witness at {sworn.size} entries", status=500)
    finally:
        database.close()
    return 0


def _is_behind(size: int, behind: int) -> Problem:
    return Problem(
        f"the back-up has {size} entries, and {behind} more were sworn to after it was made",
        status=409,
        hint="restore a newer one; or let the log go on under another name: --new-name example.org/log-2",
    )


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return {"sha256": about["sha256"]}
    except (OSError, ValueError, KeyError) as error:
        raise Problem(f"{folder} is no back-up: {error}", hint="affiant audit backup makes one") from error


def _key(folder: Path) -> str:
    try:
        return (folder / VERIFIER_KEY_FILE).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Problem(f"the log's public key {folder / VERIFIER_KEY_FILE} cannot be read: {error.strerror}") from error


@contextmanager
def _told_as_problem() -> Iterator[None]:
    try:
        yield
    except StoreAway as error:
        raise Problem(str(error), status=503) from error
    except OSError as error:
        raise Problem(f"{error.strerror}: {error.filename}", status=500) from error


def _clear(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


def _copy_file(source: Path, target: Path, told: Told) -> None:
    size, done = source.stat().st_size, 0
    with source.open("rb") as old, os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
        while block := old.read(COPIED_BYTES):
            new.write(block)
            done += len(block)
            told(done, size)
        new.flush()
        os.fsync(new.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
