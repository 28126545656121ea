"""Halves of requests that another system logs in two messages, until both are here."""

from __future__ import annotations

from affiant.auditor.domain.kserve import Half
from affiant.auditor.store.database import Connection

_COLUMNS = ("key", "side", "service", "namespace", "endpoint", "source", "event_id", "at", "body", "arrived_at")


def add(connection: Connection, half: Half, now: str) -> bool:
    """Keep a half. False where it was here already, paired or not."""
    known = connection.execute("SELECT 1 FROM halves WHERE key = ? AND side = ?", (half.key, half.side)).fetchone()
    if known:
        return False
    connection.insert_rows("halves", _COLUMNS, [(*half, now)])
    return True


def of(connection: Connection, key: str) -> dict[str, Half]:
    """The halves of one request that wait, by side."""
    rows = connection.execute(
        "SELECT key, side, service, namespace, endpoint, source, event_id, at, body FROM halves "
        "WHERE key = ? AND done = 0",
        (key,),
    )
    return {row[1]: Half(*row) for row in rows}


def lone(connection: Connection, before: str, limit: int) -> list[str]:
    """The requests of which one half came before `before` and the other has not."""
    rows = connection.execute(
        "SELECT key FROM halves WHERE done = 0 AND arrived_at < ? ORDER BY arrived_at LIMIT ?", (before, limit)
    )
    return [row[0] for row in rows]


def settle(connection: Connection, key: str, sides: tuple[str, ...]) -> None:
    """A record was made of these: their bodies go, that they came stays known for a while."""
    for side in sides:
        connection.execute("UPDATE halves SET done = 1, body = ? WHERE key = ? AND side = ?", (b"", key, side))


def forget(connection: Connection, before: str) -> None:
    """Nothing is known any more of what was settled and came before `before`."""
    connection.execute("DELETE FROM halves WHERE done = 1 AND arrived_at < ?", (before,))
