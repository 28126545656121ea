"""Entries whose columns must be read again: their payload was erased, or their protected values became known later.

Written in the transaction that changes them; each replica's segments follow. Never trimmed: one row for each change.
"""

from __future__ import annotations

from collections.abc import Iterable

from affiant.auditor.store.database import Connection


def add(connection: Connection, indexes: Iterable[int]) -> None:
    """Have the columns of these entries read again, by every replica."""
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM restated").fetchone()
    connection.executemany(
        "INSERT INTO restated (number, idx) VALUES (?, ?)",
        [(last + number, idx) for number, idx in enumerate(indexes, start=1)],
    )


def after(connection: Connection, number: int, limit: int) -> list[tuple[int, int]]:
    """(number, entry) of the changes after `number`, in order."""
    rows = connection.execute(
        "SELECT number, idx FROM restated WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
    )
    return [(row[0], row[1]) for row in rows]


def last(connection: Connection) -> int:
    """The number of the newest change; 0 where there is none."""
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM restated").fetchone()[0])
