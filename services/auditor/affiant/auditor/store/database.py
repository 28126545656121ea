"""The open store: one connection that writes, one that reads for each thread."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from affiant.auditor.store import schema
from affiant.common.errors import Problem

PAGE_BYTES = 8192
LOCK_WAIT_SECONDS = 2.0
WRITER_CACHE_KIB = 65_536
READER_CACHE_KIB = 8_192
"""There is one writer, and a reader for each thread that answers."""


class StoreAway(Exception):
    """The store cannot be written or read at this moment: full disk, lock, input/output error. Try again."""


class Database:
    """The SQLite file at `path`. `transaction` is for one thread at a time; `reading` for any."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._readers = threading.local()
        self._open: list[sqlite3.Connection] = []

    def open(self) -> None:
        """Make the store where there is none, in the folder that is made too. Raises `Problem` for another version."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # What people applied for is in here: for its owner's eyes. SQLite gives its journal the same mode.
        self.path.touch(mode=0o600)
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                _run(connection, schema.TABLES)
            elif version in schema.UPGRADES:
                _run(connection, schema.UPGRADES[version])
            elif version != schema.VERSION:
                raise Problem(f"{self.path} is of version {version}, not {schema.VERSION}", status=500)

    def close(self) -> None:
        """Close every connection. Only when no thread uses one any more."""
        self._drop_writer()
        while self._open:
            self._open.pop().close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk when the block ends, or not there at all. Raises `StoreAway`."""
        try:
            connection = self._writer = self._writer or self._connect(WRITER_CACHE_KIB)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
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
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that can only read, with one view of the store until the block ends. Raises `StoreAway`."""
        try:
            connection = self._reader()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreAway(f"{error} ({self.path})") from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._connect(READER_CACHE_KIB)
            connection.execute("PRAGMA query_only = ON")
            self._open.append(connection)
        return connection

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # With NORMAL a commit is not on the disk yet: rows that were acked to the bus were lost with the power.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        return connection

    def _drop_writer(self) -> None:
        if self._writer is not None:
            # Closing rolls back what is open. On a disk that fails even that may fail; the journal undoes it then.
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")


def _is_about_data(error: sqlite3.Error) -> bool:
    """Is it these rows that cannot be stored, or any? Trying again helps only in the second case."""
    return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.InterfaceError)
