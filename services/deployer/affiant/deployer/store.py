"""What the deployer must not forget: wishes, what it announced, what failed, and which port belongs to which slot.

SQLite, one file in the data directory, or PostgreSQL, where several deployers share what they know (one of them
acts, but each may be the one that an event comes to). One row for each slot. Every change that is also an event
writes it into the outbox in the same transaction. All methods are synchronous and safe to call from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from affiant.common import alone, outbox, wire
from affiant.deployer.domain.situation import Serving, Situation, Slot, Trouble, Wish

_LOCK_KEY = 0x41464644  # any number of our own

_metadata = MetaData()

outbox_rows = outbox.outbox_table(_metadata)

_slots = Table(
    "slots",
    _metadata,
    Column("model", String(63), primary_key=True),
    Column("alias", String(32), primary_key=True),
    # When the registry last decided about this slot: events that come again, or late, are older.
    Column("decided_at", String(32), nullable=False),
    Column("wish", LargeBinary),
    Column("serving", LargeBinary),
    Column("troubles", LargeBinary),
)
_archived = Table(
    "archived",
    _metadata,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("archived_at", String(32), nullable=False),
)
_ports = Table(
    "ports",
    _metadata,
    Column("model", String(63), primary_key=True),
    Column("alias", String(32), primary_key=True),
    Column("port", Integer, nullable=False),
)


class Store:
    """The deployer's memory, in a folder of its own; nothing is touched before `open`."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._lock: int | None = None
        self._shared = bool(url)
        self.engine = _shared_engine(url) if url else _make_engine(folder / "deployer.db")

    def open(self) -> None:
        """Make what is missing. Raises `Conflict` where another deployer has the folder (a database is shared)."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._shared:
            self._lock = alone.hold(self._folder, "deployer")
        _metadata.create_all(self.engine)

    def close(self) -> None:
        """Close the file and let another deployer have the folder."""
        self.engine.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wish(self, slot: Slot, wish: Wish, message: wire.Message | None = None) -> bool:
        """Note what was promoted; false where something later was noted already, or the same.

        `message`, where there is one, is to be published if it is news.
        """
        with self.engine.begin() as connection:
            row = _row(connection, slot)
            if row is not None and wish.promoted_at <= row.decided_at:
                return False
            if wish.promoted_at <= _archived_at(connection, slot.model, wish.spec.version):
                return False
            values = {"decided_at": wish.promoted_at, "wish": msgspec.json.encode(wish)}
            insertion = _upsert(connection, _slots).values(model=slot.model, alias=slot.alias, **values)
            connection.execute(insertion.on_conflict_do_update(index_elements=["model", "alias"], set_=values))
            if message is not None:
                outbox.put(connection, outbox_rows, message)
            return True

    def archive(self, model: str, version: int, aliases: Sequence[str], archived_at: str) -> None:
        """Note that a version must not be served any more, and that these aliases point nowhere."""
        with self.engine.begin() as connection:
            values = {"archived_at": archived_at}
            insertion = _upsert(connection, _archived).values(model=model, version=version, **values)
            connection.execute(insertion.on_conflict_do_update(index_elements=["model", "version"], set_=values))
            for alias in aliases:
                row = _row(connection, Slot(model, alias))
                if row is not None and row.decided_at <= archived_at:
                    _change(connection, Slot(model, alias), decided_at=archived_at, wish=None)

    def situations(self) -> list[Situation]:
        """Every slot that the registry ever decided about, without what the back end knows."""
        with self.engine.begin() as connection:
            archived: dict[str, set[int]] = {}
            for model, version in connection.execute(select(_archived.c.model, _archived.c.version)):
                archived.setdefault(model, set()).add(version)
            rows = connection.execute(select(_slots).order_by(_slots.c.model, _slots.c.alias)).all()
        return [_situation(row, frozenset(archived.get(row.model, ()))) for row in rows]

    def announce(self, slot: Slot, serving: Serving | None, message: wire.Message) -> None:
        """Note what is deployed now (`None`: nothing) and that it is to be published."""
        with self.engine.begin() as connection:
            encoded = None if serving is None else msgspec.json.encode(serving)
            _change(connection, slot, serving=encoded)
            outbox.put(connection, outbox_rows, message)

    def fail(self, slot: Slot, version: int, trouble: Trouble, message: wire.Message | None) -> None:
        """Note how a version failed and, where there is a message, that it is to be published."""
        with self.engine.begin() as connection:
            row = _row(connection, slot)
            if row is None:
                return
            troubles = {**_troubles(row), version: trouble}
            _change(connection, slot, troubles=msgspec.json.encode(troubles))
            if message is not None:
                outbox.put(connection, outbox_rows, message)

    def port(self, slot: Slot) -> int | None:
        """The port that belongs to this slot for ever, once one was chosen."""
        query = select(_ports.c.port).where(_ports.c.model == slot.model, _ports.c.alias == slot.alias)
        with self.engine.begin() as connection:
            port: int | None = connection.execute(query).scalar_one_or_none()
            return port

    def taken_ports(self) -> frozenset[int]:
        """Every port that belongs to a slot, also one that nobody listens on at the moment."""
        with self.engine.begin() as connection:
            return frozenset(connection.execute(select(_ports.c.port)).scalars())

    def keep_port(self, slot: Slot, port: int) -> None:
        """Give this port to a slot. Raises `IntegrityError` where the slot has one."""
        with self.engine.begin() as connection:
            connection.execute(insert(_ports).values(model=slot.model, alias=slot.alias, port=port))


def _make_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def configure(connection, _record) -> None:  # type: ignore[no-untyped-def] # SQLAlchemy types neither
        # Without this, sqlite3 begins a transaction by itself, and only at the first write.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The writer's lock at once: a read that becomes a write could otherwise meet another writer in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _shared_engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # As SQLite's writer's lock: what is read before it is changed must not be changed by another deployer.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})

    return engine


def _upsert(connection: Connection, table: Table) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def _row(connection: Connection, slot: Slot) -> Row | None:  # type: ignore[type-arg] # columns differ by query
    query = select(_slots).where(_slots.c.model == slot.model, _slots.c.alias == slot.alias)
    return connection.execute(query).one_or_none()


def _change(connection: Connection, slot: Slot, **values: object) -> None:
    where = (_slots.c.model == slot.model) & (_slots.c.alias == slot.alias)
    connection.execute(update(_slots).where(where).values(**values))


def _archived_at(connection: Connection, model: str, version: int) -> str:
    query = select(_archived.c.archived_at).where(_archived.c.model == model, _archived.c.version == version)
    return connection.execute(query).scalar_one_or_none() or ""


def _situation(row: Row, archived: frozenset[int]) -> Situation:  # type: ignore[type-arg]
    return Situation(
        slot=Slot(row.model, row.alias),
        wish=None if row.wish is None else msgspec.json.decode(row.wish, type=Wish),
        serving=None if row.serving is None else msgspec.json.decode(row.serving, type=Serving),
        troubles=_troubles(row),
        archived=archived,
    )


def _troubles(row: Row) -> dict[int, Trouble]:  # type: ignore[type-arg]
    return {} if row.troubles is None else msgspec.json.decode(row.troubles, type=dict[int, Trouble])
