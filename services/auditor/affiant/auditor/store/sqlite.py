"""The embedded back end: one SQLite file (WAL, `synchronous=FULL`), one process that writes it."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from affiant.auditor.store import schema
from affiant.auditor.store.database import Dialect, Row, Standby, StoreAway
from affiant.common import alone
from affiant.common.errors import Conflict

PAGE_BYTES = 8192
LOCK_WAIT_SECONDS = 2.0
WRITER_CACHE_KIB = 65_536
READER_CACHE_KIB = 8_192
COPIED_PAGES = 4_096
SPARE_PAGES = 256
"""So many free pages are kept for what is recorded next."""
"""There is one writer, and a reader for each thread that answers."""
ROWS_AT_ONCE = 200
"""SQLite takes 32,766 values in one statement; the widest table here has under 20 columns."""


class SqliteConnection(sqlite3.Connection):
    """What `sqlite3` gives, and what the seam adds to it."""

    dialect: Dialect = "sqlite"

    def insert_rows(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        # The driver lets go of the interpreter for each statement that it runs, and must queue up for it again behind
        # whoever reads the bus. So one statement inserts many rows.
        waiting, names = iter(rows), tuple(columns)
        while len(some := list(islice(waiting, ROWS_AT_ONCE))) == ROWS_AT_ONCE:
            self.execute(_insertion(table, names, ROWS_AT_ONCE), tuple(chain.from_iterable(some)))
        self.executemany(_insertion(table, names), some)

    def among(self, column: str, values: Sequence[str] | Sequence[int]) -> tuple[str, Any]:
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values))


@lru_cache(maxsize=64)
def _insertion(table: str, columns: tuple[str, ...], rows: int = 1) -> str:
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * rows)}"


class SqliteDatabase:
    """The SQLite file at `path`. `transaction` is for one thread at a time; `reading` for any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_commit: Callable[[float], None] = _told_nobody
        self._writer: SqliteConnection | None = None
        self._readers = threading.local()
        self._open: list[SqliteConnection] = []
        self._lock: int | None = None

    @property
    def place(self) -> str:
        return str(self.path)

    def open(self) -> None:
        self.lead()
        # What people applied for is in here: for its owner's eyes. SQLite gives its journal the same mode.
        self.path.touch(mode=0o600)
        with self.transaction() as connection:
            version = _version(connection)
        for statements, next_version in schema.steps(version, "sqlite", self.place):
            with self.transaction() as connection:
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {next_version}")

    def lead(self) -> None:
        if self._lock is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = alone.hold(self.path.parent, "auditor")
            except Conflict as error:
                raise Standby(error.message) from error
            except OSError as error:
                raise StoreAway(f"{error.strerror} ({self.path.parent})") from error

    def close(self) -> None:
        self._drop_writer()
        while self._open:
            self._open.pop().close()
        # Threads that read before would find a closed connection of theirs.
        self._readers = threading.local()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[SqliteConnection]:
        if self._lock is None:
            raise Standby(f"this process does not write {self.path}")
        try:
            connection = self._writer = self._writer or self._connect(WRITER_CACHE_KIB)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            begun = time.perf_counter()
            connection.execute("COMMIT")
            self.on_commit(time.perf_counter() - begun)
        except sqlite3.Error as error:
            # After an error on the disk the connection may be of no use any more; the next transaction opens another.
            self._drop_writer()
            if _is_about_data(error):
                raise
            raise StoreAway(f"{error} ({self.path})") from error
        except BaseException:
            self._drop_writer()
            raise

    @contextmanager
    def reading(self) -> Iterator[SqliteConnection]:
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreAway(f"{error} ({self.path})") from error

    def version(self) -> int:
        if not self.path.exists():
            return 0
        with self.reading() as connection:
            return _version(connection)

    def bytes(self) -> int:
        with self.reading() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (width,) = connection.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(width)

    def scrub(self) -> bool:
        """The pages were overwritten with zeros (`secure_delete`); the journal still has them as they were before."""
        try:
            connection = self._writer = self._writer or self._connect(WRITER_CACHE_KIB)
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._drop_writer()
            raise StoreAway(f"{error} ({self.path})") from error
        return not busy

    def compact(self, most: int) -> int:
        with self.transaction() as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            if free <= SPARE_PAGES:
                return 0
            connection.execute(f"PRAGMA incremental_vacuum({min(free - SPARE_PAGES, most // PAGE_BYTES)})").fetchall()
            (left,) = connection.execute("PRAGMA freelist_count").fetchone()
        return int(free - left) * PAGE_BYTES

    def _reader(self) -> SqliteConnection:
        connection: SqliteConnection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._connect(READER_CACHE_KIB)
            connection.execute("PRAGMA query_only = ON")
            self._open.append(connection)
        return connection

    def _connect(self, cache_kib: int) -> SqliteConnection:
        connection = sqlite3.connect(
            self.path,
            timeout=LOCK_WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=SqliteConnection,
        )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        # Of effect before the first table only; a store that was made without it keeps its free pages for itself.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # With NORMAL a commit is not on the disk yet: rows that were acked to the bus were lost with the power.
        connection.execute("PRAGMA synchronous = FULL")
        # What is erased must not stay readable in free pages.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        # Behind a long question, or a back-up, the journal grows; afterwards it need not stay so large.
        connection.execute("PRAGMA journal_size_limit = 134217728")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        return connection

    def _drop_writer(self) -> None:
        if self._writer is not None:
            # Closing rolls back what is open. On a disk that fails even that may fail; the journal undoes it then.
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None


def copy(source: Path, target: Path, told: Callable[[int, int], None]) -> None:
    """A consistent copy of a store, which may be written meanwhile; on the disk when this returns.

    `told` hears how many pages are done, and of how many. Raises `StoreAway`.
    """
    target.touch(mode=0o600)
    try:
        with closing(_read_only(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
            (pages,) = old.execute("PRAGMA page_count").fetchone()
            told(0, pages)
            # One view of the store for the whole copy: without it a step begins anew when something is recorded.
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
            old.backup(new, pages=COPIED_PAGES, progress=lambda _, left, of: told(of - left, of), sleep=0)
            (said,) = new.execute("PRAGMA quick_check(1)").fetchone()
            # One file, without a journal beside it.
            new.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StoreAway(f"{error} ({source} → {target})") from error
    if said != "ok":
        raise StoreAway(f"the copy {target} is damaged: {said}")
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT_SECONDS, isolation_level=None
    )


def _told_nobody(_: float) -> None:
    pass


def _version(connection: SqliteConnection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _is_about_data(error: sqlite3.Error) -> bool:
    """Is it these rows that cannot be stored, or any? Trying again helps only in the second case."""
    return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError)
