"""Legal holds and retention classes, as they are now; how they came to be is in the log."""

from __future__ import annotations

from typing import Any

from affiant.auditor.domain.erasure import Hold, Rule
from affiant.auditor.store.database import Connection

_HOLD = ", ".join(Hold._fields)
_RULE = ", ".join(Rule._fields)


def add(connection: Connection, hold: Hold) -> None:
    """Set a hold."""
    connection.insert_rows("holds", Hold._fields, [hold])


def holds(connection: Connection) -> list[Hold]:
    """Those that were not lifted, oldest first."""
    return [Hold(*row) for row in connection.execute(f"SELECT {_HOLD} FROM holds ORDER BY set_at, hold_id")]


def lift(connection: Connection, hold_id: str) -> Hold | None:
    """Take a hold away, and with it the name of the subject; returns it, None where there is none."""
    row: Any = connection.execute(f"SELECT {_HOLD} FROM holds WHERE hold_id = ?", (hold_id,)).fetchone()
    connection.execute("DELETE FROM holds WHERE hold_id = ?", (hold_id,))
    return Hold(*row) if row else None


def rules(connection: Connection) -> list[Rule]:
    """Every retention class."""
    return [Rule(*row) for row in connection.execute(f"SELECT {_RULE} FROM retention ORDER BY kind, value")]


def put_rule(connection: Connection, rule: Rule) -> None:
    """Set a class, over the one of the same name."""
    drop_rule(connection, rule.kind, rule.value)
    connection.insert_rows("retention", Rule._fields, [rule])


def drop_rule(connection: Connection, kind: str, value: str) -> bool:
    """Remove a class; whether there was one."""
    return bool(connection.execute("DELETE FROM retention WHERE kind = ? AND value = ?", (kind, value)).rowcount)
