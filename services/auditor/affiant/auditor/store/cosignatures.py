"""What others swear of our checkpoints."""

from __future__ import annotations

from affiant.auditor.store.checkpoints import Signed
from affiant.auditor.store.database import Connection


def add(connection: Connection, size: int, name: str, line: str, verifier_key: str, at: str) -> None:
    """Keep a cosignature of the checkpoint over `size` entries; a later one of the same cosigner replaces it."""
    connection.execute(
        "INSERT INTO cosignatures (size, name, line, verifier_key, at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (size, name) DO UPDATE SET line = excluded.line, verifier_key = excluded.verifier_key, "
        "at = excluded.at",
        (size, name, line, verifier_key, at),
    )


def of(connection: Connection, size: int) -> list[str]:
    """The lines that stand below the checkpoint over `size` entries."""
    rows = connection.execute("SELECT line FROM cosignatures WHERE size = ? ORDER BY name", (size,))
    return [row[0] for row in rows]


def newest(connection: Connection) -> Signed | None:
    """The checkpoint over the most entries that somebody cosigned."""
    row = connection.execute(
        "SELECT size, root, note, signed_at FROM checkpoints WHERE size = (SELECT max(size) FROM cosignatures)"
    ).fetchone()
    return Signed(*row) if row else None


def newest_of(connection: Connection, name: str) -> int:
    """Over how many entries the newest checkpoint is that this one cosigned; 0 for none."""
    row = connection.execute("SELECT coalesce(max(size), 0) FROM cosignatures WHERE name = ?", (name,)).fetchone()
    return int(row[0])
