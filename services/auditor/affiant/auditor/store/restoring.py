"""The tables that are read out of the entries, as a whole: emptied, and digested to compare them."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from affiant.auditor.domain.rows import Prediction
from affiant.auditor.store.database import Connection

BY_ENTRY = {
    "predictions": "idx",
    "decisions": "idx, row",
    "explanations": "idx",
    "outcomes": "idx",
    "overrides": "idx",
    "lifecycle": "idx",
}
"""Tables whose rows belong to one entry each, and what they are ordered by."""
ADDED_UP = {
    "specs": "model, version",
    "counts": "model, version",
    "runs": "model, replica, epoch, first",
    "endings": "model, replica, epoch",
}
"""Tables whose rows belong to many entries."""

_ERASED = "SELECT idx FROM entries WHERE body IS NULL"
_encode = msgspec.json.Encoder().encode


def digest(connection: Connection) -> str:
    """SHA-256 over every row of every such table, in their order, in hex; the same on both back ends."""
    hashed = sha256()
    for table, order in (BY_ENTRY | ADDED_UP).items():
        hashed.update(f"{table}\n".encode())
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}"):
            hashed.update(_encode(tuple(row)) + b"\n")
    return hashed.hexdigest()


def wipe(connection: Connection) -> None:
    """Empty the tables, but for the rows of entries whose payload was erased: nothing else knows what these say."""
    for table in BY_ENTRY:
        connection.execute(f"DELETE FROM {table} WHERE idx NOT IN ({_ERASED})")
    for table in ADDED_UP:
        connection.execute(f"DELETE FROM {table}")


def left(connection: Connection, idx: int) -> tuple[Prediction, bool] | None:
    """The look-up row of an erased entry, and whether it was an outside system's; None where it was no prediction."""
    columns = ", ".join(f"p.{name}" for name in Prediction._fields)
    row = connection.execute(
        f"SELECT {columns}, e.outside FROM predictions AS p JOIN entries AS e ON e.idx = p.idx WHERE p.idx = ?", (idx,)
    ).fetchone()
    return (Prediction(*row[:-1]), bool(row[-1])) if row else None
