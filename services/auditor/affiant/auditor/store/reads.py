"""Which entries say that a payload was read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from affiant.auditor.store.database import Connection


class Place(NamedTuple):
    """The read at `place` of those that the entry tells of."""

    entry: int
    place: int


def add(connection: Connection, rows: Iterable[tuple[int, int, str]]) -> None:
    """Each: entry, place in it, prediction (empty for an export of a range). Known ones change nothing."""
    connection.executemany(
        "INSERT INTO payload_reads (entry, place, prediction_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
    )


def of(connection: Connection, prediction_id: str, limit: int) -> list[Place]:
    """The newest reads of a prediction, and of ranges, which may hold it."""
    rows = connection.execute(
        "SELECT entry, place FROM payload_reads WHERE prediction_id IN (?, '') ORDER BY entry DESC, place DESC LIMIT ?",
        (prediction_id, limit),
    )
    return [Place(*row) for row in rows]
