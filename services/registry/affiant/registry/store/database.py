"""Opening the database, and transactions on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

from affiant.common.errors import Unavailable
from affiant.registry.store import tables
from affiant.registry.store.records import Records

T = TypeVar("T")

READ_ONLY = "affiant_read_only"
LOCK_KEY = 0x41464649  # any number of our own: one registry at a time creates the tables


def open_engine(url: str) -> Engine:
    """The engine for a SQLAlchemy URL; connects nothing yet."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # sqlite3 would begin by itself, and too late
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A plain BEGIN takes the write lock at the first write; two transactions that have read before then both
    # fail instead of waiting. So whoever may write takes it at once.
    reading = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class Store:
    """Runs work in transactions, in a thread: state, history and outbox are committed together or not at all."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.on_commit: Callable[[], None] = lambda: None
        """Called in the event loop after each commit; the relay of the outbox is woken by it."""

    async def open(self) -> None:
        """Create what is missing; safe to repeat, and from several registries at once."""
        await asyncio.to_thread(self._create)

    def _create(self) -> None:
        url = make_url(self.engine.url)
        if self.engine.dialect.name == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            tables.METADATA.create_all(connection)

    async def transact(self, work: Callable[[Records], T]) -> T:
        """What `work` answers, once it is committed. Raises `Unavailable` while the database is away."""
        result = await asyncio.to_thread(self._run, self.engine, work)
        self.on_commit()
        return result

    async def query(self, work: Callable[[Records], T]) -> T:
        """What `work` answers; it may only read. Raises `Unavailable` while the database is away."""
        return await asyncio.to_thread(self._run, self.engine.execution_options(**{READ_ONLY: True}), work)

    @staticmethod
    def _run(engine: Engine, work: Callable[[Records], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(Records(connection))
        except OperationalError as error:
            raise Unavailable(
                f"the registry's database does not answer: {error.orig}", hint="Try again in a moment."
            ) from error

    async def problem(self) -> str:
        """Why the database cannot be used now, in words; empty when it can."""
        try:
            await self.query(lambda records: records.ping())
        except Unavailable as error:
            return error.message
        return ""

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
