"""The record: entries of the log, the tiles of its tree, and what was set aside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from affiant.auditor.domain.arrival import Fault, Identity
from affiant.auditor.store.database import Connection

TileAddress = tuple[int, int]


class Entry(NamedTuple):
    """One entry as it is stored. `salt` and `body` are None once they were erased."""

    idx: int
    event_id: str
    type: str
    source: str
    subject: str
    time: str
    audited_at: str
    payload_hash: bytes
    salt: bytes | None
    body: bytes | None
    headers: str | None


class Known(NamedTuple):
    """What is needed to tell a doubled event from another one with the same id."""

    type: str
    source: str
    payload_hash: bytes
    salt: bytes | None


_COLUMNS = ", ".join(Entry._fields)


def known(connection: Connection, event_ids: Iterable[str]) -> dict[Identity, Known]:
    """The entries that have one of these ids, whoever published them."""
    condition, value = connection.among("event_id", list(event_ids))
    rows = connection.execute(
        f"SELECT event_id, outside, type, source, payload_hash, salt FROM entries WHERE {condition}", (value,)
    )
    return {(row[0], bool(row[1])): Known(*row[2:]) for row in rows}


def insert(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries at the end of the record."""
    connection.insert_rows("entries", Entry._fields, entries)


def by_event(connection: Connection, event_id: str) -> Entry | None:
    """The entry with this event id; ours, should an outside system have used the same."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE event_id = ? ORDER BY outside LIMIT 1"
    row = connection.execute(query, (event_id,)).fetchone()
    return Entry(*row) if row else None


def of(connection: Connection, indexes: Sequence[int]) -> list[Entry]:
    """The entries at these places, in the order of the log."""
    condition, value = connection.among("idx", indexes)
    rows = connection.execute(f"SELECT {_COLUMNS} FROM entries WHERE {condition} ORDER BY idx", (value,))
    return [Entry(*row) for row in rows]


def between(connection: Connection, low: int, high: int) -> list[Entry]:
    """The entries from place `low` to below `high` that are there, in the order of the log."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx"
    return [Entry(*row) for row in connection.execute(query, (low, high))]


def of_types(connection: Connection, types: Sequence[str], low: int, high: int) -> list[Entry]:
    """The entries of these types from place `low` to below `high`, in the order of the log."""
    marks = ", ".join("?" * len(types))
    query = f"SELECT {_COLUMNS} FROM entries WHERE idx >= ? AND idx < ? AND type IN ({marks}) ORDER BY idx"
    return [Entry(*row) for row in connection.execute(query, (low, high, *types))]


def tile(connection: Connection, level: int, position: int) -> bytes:
    """The hashes of a tile. Raises `LookupError` where there is none."""
    row = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND position = ?", (level, position)).fetchone()
    if row is None:
        raise LookupError(f"the log has no tile {level}/{position}")
    return bytes(row[0])


def put_tiles(connection: Connection, tiles: Mapping[TileAddress, bytes]) -> None:
    """Write tiles, over narrower ones at the same address."""
    connection.executemany(
        "INSERT INTO tiles (level, position, hashes) VALUES (?, ?, ?) "
        "ON CONFLICT (level, position) DO UPDATE SET hashes = excluded.hashes",
        [(*address, hashes) for address, hashes in tiles.items()],
    )


def quarantined(connection: Connection) -> int:
    """How many messages could not enter the record."""
    (count,) = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    return int(count)


def quarantine(connection: Connection, faults: Sequence[Fault], at: str) -> None:
    """Keep what could not enter the record; a message that is there already changes nothing."""
    connection.executemany(
        "INSERT INTO quarantine "
        "(stream, sequence, digest, durable, subject, headers, body, kind, reason, event_id, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [_quarantined(fault, at) for fault in faults],
    )


def _quarantined(fault: Fault, at: str) -> tuple[object, ...]:
    arrival = fault.arrival
    headers = json.dumps(dict(arrival.headers)) if arrival.headers else None
    digest = sha256(arrival.body).digest()
    where = (arrival.stream, arrival.sequence, digest, arrival.durable, _storable(arrival.subject))
    return (*where, headers, arrival.body, fault.kind, _storable(fault.reason), _storable(fault.event_id), at)


def _storable(text: str) -> str:
    """PostgreSQL keeps no NUL in a text, and what is set aside must find room in any case; the body has it still."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
