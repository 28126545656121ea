"""The back end for a cluster: a PostgreSQL database, shared by any number of auditors of which one writes.

Who writes holds a session's advisory lock on the very connection that it writes with, and takes the same lock anew in
every transaction. So a process that was paused, cut off or replaced cannot write: its session is gone, or is not the
one that has the lock. A session that is silent for `SILENCE_SECONDS` is ended by the server; the next one leads then.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict

from affiant.auditor.store import schema
from affiant.auditor.store.database import Dialect, Result, Row, Standby, StoreAway
from affiant.common.errors import Problem

LOCK = 0x41464649_4C4F47
"""Any number of our own: whoever has this advisory lock writes the log of the database."""
SILENCE_SECONDS = 30
CONNECT_SECONDS = 5
FEW = 64
OLDEST = 140_000
"""PostgreSQL 14: the first that ends silent sessions by itself."""


class PostgresConnection:
    """A psycopg connection with the marks, the truth values and the numbers of the seam."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.raw = connection

    def execute(self, sql: str, parameters: Row = (), /) -> Result:
        return self.raw.execute(_translated(sql), tuple(parameters))

    def executemany(self, sql: str, rows: Iterable[Row], /) -> None:
        with self.raw.cursor() as cursor:
            cursor.executemany(_translated(sql), rows)

    def insert_rows(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        given = list(rows)
        if len(given) <= FEW and table != "entries":
            # PostgreSQL keeps no NUL in a text. Of a batch that fails for it, the event with it comes again alone.
            given = [tuple(map(_storable, row)) for row in given]
        if given:
            with self.raw.cursor() as cursor, cursor.copy(_copy(table, tuple(columns))) as copy:
                for row in given:
                    copy.write_row(row)

    def among(self, column: str, values: Sequence[str] | Sequence[int]) -> tuple[str, Any]:
        return f"{column} = ANY(?)", list(values)


def _storable(value: Any) -> Any:
    """What a look-up table shows of a text with NULs; the entry's payload has it as it was sent."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


_TOKENS = re.compile(r"'(?:[^']|'')*'|\?|%")


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    """`?` marks as psycopg wants them; those inside of texts stay."""

    def token(found: re.Match[str]) -> str:
        text = found.group()
        return "%s" if text == "?" else text.replace("%", "%%")

    return _TOKENS.sub(token, sql)


@lru_cache(maxsize=64)
def _copy(table: str, columns: tuple[str, ...]) -> str:
    return f"COPY {table} ({', '.join(columns)}) FROM STDIN"


class _AsNumber(Dumper):
    """A truth value as SQLite keeps it."""

    oid = psycopg.adapters.types["int2"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _Numeric(Loader):
    """What `sum` makes of whole numbers is whole again."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdecimal() else float(text)


class PostgresDatabase:
    """The database at `url`. `transaction` is for one thread at a time; `reading` for any."""

    def __init__(self, url: str, password: str = "") -> None:
        try:
            parts = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise Problem(
                "the database's URL is malformed", hint="for example postgresql://affiant@db:5432/audit"
            ) from error
        self.place = f"postgresql://{parts.get('host', 'localhost')}/{parts.get('dbname', '')}"
        self._url = url
        self._password = password
        self._leads = False
        self.on_commit: Callable[[float], None] = _told_nobody
        self._writer: PostgresConnection | None = None
        self._readers = threading.local()
        self._open: set[psycopg.Connection[tuple[Any, ...]]] = set()

    def open(self) -> None:
        self.lead()
        with self.transaction() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
            version = _version(connection)
        for statements, next_version in schema.steps(version, "postgresql", self.place):
            with self.transaction() as connection:
                for statement in statements:
                    connection.execute(statement)
                connection.execute("DELETE FROM schema_version")
                connection.execute("INSERT INTO schema_version VALUES (?)", (next_version,))

    def lead(self) -> None:
        try:
            if self._writer is not None:
                self._writer.execute("SELECT 1")
                return
            connection = self._connect()
            (got,) = connection.execute("SELECT pg_try_advisory_lock(?)", (LOCK,)).fetchone()
            if not got:
                self._leads = False
                self._forget(connection)
                raise Standby(f"another auditor writes {self.place}")
            for kind in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(f"SET {kind} = '{SILENCE_SECONDS}s'")
            self._leads, self._writer = True, connection
        except psycopg.Error as error:
            self._drop_writer()
            raise StoreAway(f"{_said(error)} ({self.place})") from error

    def close(self) -> None:
        self._leads = False
        self._drop_writer()
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._readers = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[PostgresConnection]:
        try:
            connection = self._leading()
            connection.execute("BEGIN")
            (got,) = connection.execute("SELECT pg_try_advisory_xact_lock(?)", (LOCK,)).fetchone()
            if not got:
                # Reached where a pooler hands out another session than the one that has the lock.
                raise Standby(f"this session does not write {self.place}; use no pooler between the auditor and it")
            yield connection
            begun = time.perf_counter()
            connection.execute("COMMIT")
            self.on_commit(time.perf_counter() - begun)
        except psycopg.Error as error:
            if _is_about_data(error):
                self._roll_back()
                raise
            self._drop_writer()
            raise StoreAway(f"{_said(error)} ({self.place})") from error
        except BaseException:
            self._roll_back()
            raise

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        try:
            connection = self._reader()
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except psycopg.OperationalError as error:
            raise StoreAway(f"{_said(error)} ({self.place})") from error

    def version(self) -> int:
        try:
            with self.reading() as connection:
                return _version(connection)
        except errors.UndefinedTable:
            return 0

    def bytes(self) -> int:
        with self.reading() as connection:
            (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(size)

    def scrub(self) -> bool:
        """Old versions of rows are freed; the server overwrites them when it needs the room, and its own journal (WAL)
        ages by its settings."""
        try:
            self._leading().execute("VACUUM entries, predictions, decisions, quarantine")
        except psycopg.Error as error:
            self._drop_writer()
            raise StoreAway(f"{_said(error)} ({self.place})") from error
        return True

    def compact(self, most: int) -> int:  # noqa: ARG002 - PostgreSQL's own autovacuum does it
        return 0

    def _leading(self) -> PostgresConnection:
        """The writing connection. Where it was lost, this process leads again if nobody else does by now."""
        if self._leads and self._writer is None:
            self.lead()
        if self._writer is None:
            raise Standby(f"this process does not write {self.place}")
        return self._writer

    def _reader(self) -> PostgresConnection:
        """This thread's reading connection, in a transaction. One that the server has closed is opened anew."""
        connection: PostgresConnection | None = getattr(self._readers, "connection", None)
        if connection is not None:
            try:
                _begin_reading(connection)
            except psycopg.OperationalError:
                self._forget(connection)
            else:
                return connection
        connection = self._readers.connection = self._connect()
        _begin_reading(connection)
        return connection

    def _connect(self) -> PostgresConnection:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            application_name="affiant-auditor",
            connect_timeout=CONNECT_SECONDS,
            # A host that is gone is noticed, and not waited for until TCP gives up.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
            password=self._password or None,
        )
        if connection.info.server_version < OLDEST:
            connection.close()
            raise Problem(
                f"{self.place} runs PostgreSQL {connection.info.server_version // 10_000}", hint="use 14 or later"
            )
        self._open.add(connection)
        connection.adapters.register_dumper(bool, _AsNumber)
        connection.adapters.register_loader("numeric", _Numeric)
        # A database, or a role, may have other defaults; what is acked to the bus must be on its disk.
        connection.execute("SET synchronous_commit = on")
        connection.execute("SET client_min_messages = warning")
        return PostgresConnection(connection)

    def _roll_back(self) -> None:
        """Undo what is open, and go on with the same session: it has the lock."""
        try:
            if self._writer is not None:
                self._writer.execute("ROLLBACK")
        except psycopg.Error:
            self._drop_writer()

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._forget(self._writer)
            self._writer = None

    def _forget(self, connection: PostgresConnection) -> None:
        self._open.discard(connection.raw)
        with suppress(psycopg.Error):
            connection.raw.close()


def _begin_reading(connection: PostgresConnection) -> None:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _told_nobody(_: float) -> None:
    pass


def _version(connection: PostgresConnection) -> int:
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row else 0


def _said(error: psycopg.Error) -> str:
    """The error in one line; libpq's own errors have no secrets in them."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_about_data(error: psycopg.Error) -> bool:
    """Is it these rows that cannot be stored, or any? Trying again helps only in the second case."""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | errors.ProgramLimitExceeded)
