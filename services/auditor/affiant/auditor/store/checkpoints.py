"""The checkpoints that were signed."""

from __future__ import annotations

from typing import NamedTuple

from affiant.auditor.store.database import Connection


class Signed(NamedTuple):
    """A signed note; `root` has 32 bytes."""

    size: int
    root: bytes
    note: str
    signed_at: str


def last(connection: Connection) -> Signed | None:
    """The checkpoint over the most entries."""
    row = connection.execute(
        "SELECT size, root, note, signed_at FROM checkpoints ORDER BY size DESC LIMIT 1"
    ).fetchone()
    return Signed(*row) if row else None


def at(connection: Connection, size: int) -> Signed | None:
    """The checkpoint over just so many entries."""
    row = connection.execute("SELECT size, root, note, signed_at FROM checkpoints WHERE size = ?", (size,)).fetchone()
    return Signed(*row) if row else None


def add(connection: Connection, signed: Signed) -> None:
    connection.execute("INSERT INTO checkpoints (size, root, note, signed_at) VALUES (?, ?, ?, ?)", signed)


def clear(connection: Connection) -> None:
    """Forget every one: the log goes on under another name, under which none was signed."""
    connection.execute("DELETE FROM checkpoints")


def unwitnessed(connection: Connection, limit: int) -> list[Signed]:
    """Checkpoints that are not in the witness folder yet, oldest first."""
    rows = connection.execute(
        "SELECT size, root, note, signed_at FROM checkpoints WHERE witnessed = 0 ORDER BY size LIMIT ?", (limit,)
    )
    return [Signed(*row) for row in rows]


def mark_witnessed(connection: Connection, up_to: int) -> None:
    """Every checkpoint up to this size is in the witness folder."""
    connection.execute("UPDATE checkpoints SET witnessed = 1 WHERE witnessed = 0 AND size <= ?", (up_to,))
