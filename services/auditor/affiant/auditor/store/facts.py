"""Single values: the log's size and origin, counters, and what was reported last."""

from __future__ import annotations

from affiant.auditor.store.database import Connection

SIZE = "size"
ORIGIN = "origin"
VERIFIER_KEY = "verifier_key"
DOUBLED = "doubled_ignored"


def number(connection: Connection, name: str) -> int:
    """A counter; 0 where nothing was counted yet."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def text(connection: Connection, name: str) -> str:
    """A text; empty where none was set."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def put(connection: Connection, name: str, value: int | str) -> None:
    """Set a value."""
    connection.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(value)),
    )


def reported(connection: Connection, name: str) -> str:
    """What was published last under `name`; empty for nothing."""
    row = connection.execute("SELECT value FROM reports WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def report(connection: Connection, name: str, value: str, at: str) -> None:
    """Remember that `value` was published under `name`."""
    connection.execute(
        "INSERT INTO reports (name, value, at) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at",
        (name, value, at),
    )


def open_reports(connection: Connection, prefix: str) -> list[str]:
    """The names under `prefix` whose last published value is not an empty list."""
    rows = connection.execute(
        "SELECT name FROM reports WHERE name LIKE ? AND value <> '[]' ORDER BY name", (f"{prefix}%",)
    )
    return [row[0] for row in rows]
