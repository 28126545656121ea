"""The auditor's own events: written with the state that they tell of, published after.

The same behaviour as `affiant.common.outbox`, over the auditor's own connection: one transaction has to cover both.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from affiant.auditor.store.database import Connection
from affiant.common.wire import Message


class Waiting(NamedTuple):
    """A message that is not on the bus yet."""

    event_id: str
    subject: str
    headers: dict[str, str]
    body: bytes


def put(connection: Connection, message: Message) -> None:
    """Let `message` wait for the relay."""
    connection.execute(
        "INSERT INTO outbox (event_id, subject, headers, body) VALUES (?, ?, ?, ?)",
        (message.id, message.subject, json.dumps(message.headers), message.body),
    )


def waiting(connection: Connection, limit: int) -> list[Waiting]:
    """The messages that wait, oldest first."""
    rows = connection.execute("SELECT event_id, subject, headers, body FROM outbox ORDER BY number LIMIT ?", (limit,))
    return [Waiting(row[0], row[1], json.loads(row[2]), row[3]) for row in rows]


def remove(connection: Connection, event_ids: list[str]) -> None:
    """These are on the bus. Not by their numbers, which an emptied table gives out again."""
    connection.executemany("DELETE FROM outbox WHERE event_id = ?", [(event_id,) for event_id in event_ids])
