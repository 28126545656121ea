"""What is not where it should be: missing entries, entries beyond the log, look-up rows without an entry."""

from __future__ import annotations

from typing import Literal

from affiant.auditor.store.database import Connection


def first_missing(connection: Connection, size: int) -> int | None:
    """The first place below `size` without an entry. Counts by an index, without reading payloads."""
    # The plus keeps SQLite from walking the table itself, which holds the payloads.
    place = "+idx" if connection.dialect == "sqlite" else "idx"
    (there,) = connection.execute(
        f"SELECT count(*) FROM entries WHERE {place} >= 0 AND {place} < ?", (size,)
    ).fetchone()
    if there == size:
        return None
    row = connection.execute(
        "SELECT min(place) FROM (SELECT 0 AS place UNION ALL SELECT idx + 1 FROM entries WHERE idx >= 0) AS next "
        "WHERE place < ? AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.idx = next.place)",
        (size,),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def surplus(connection: Connection, size: int) -> int | None:
    """An entry at a place that the log does not have."""
    low, high = connection.execute("SELECT (SELECT min(idx) FROM entries), (SELECT max(idx) FROM entries)").fetchone()
    if low is not None and low < 0:
        return int(low)
    return int(high) if high is not None and high >= size else None


def projected(connection: Connection, table: Literal["predictions", "explanations"], low: int, high: int) -> set[int]:
    """The places from `low` to below `high` that a look-up table has a row for."""
    return {row[0] for row in connection.execute(f"SELECT idx FROM {table} WHERE idx >= ? AND idx < ?", (low, high))}
