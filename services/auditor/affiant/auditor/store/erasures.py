"""What was erased, by which entry of the log, and the erasing itself."""

from __future__ import annotations

from collections.abc import Sequence

from affiant.auditor.domain.erasure import Kept
from affiant.auditor.store.database import Connection
from affiant.common.events import OUTSIDE

_KEPT = (
    "SELECT p.idx, e.event_id, p.model, p.version, p.subject_ref, p.received_at, p.replica, p.epoch, p.sequence, "
    "e.outside FROM predictions AS p JOIN entries AS e ON e.idx = p.idx LEFT JOIN erased AS x ON x.idx = p.idx "
    "WHERE x.idx IS NULL"
)
_SAID_AFTERWARDS = ("explanations", "outcomes", "overrides")


def of_subject(connection: Connection, subject: str) -> list[Kept]:
    """Every prediction about a subject whose payload is there."""
    return _kept(connection, "AND p.subject_ref = ? AND p.subject_ref <> '' ORDER BY p.idx", (subject,))


def of_prediction(connection: Connection, prediction_id: str) -> list[Kept]:
    """The prediction with this id; two, should an outside system have used the same."""
    return _kept(connection, "AND e.event_id = ? ORDER BY p.idx", (prediction_id,))


def older(
    connection: Connection, model: str, version: int, before: str, after: tuple[str, int], limit: int
) -> list[Kept]:
    """Predictions of a version that were received before `before`, by time; `after` is where the last page ended."""
    return _kept(
        connection,
        "AND p.model = ? AND p.version = ? AND p.received_at < ? AND (p.received_at, p.idx) > (?, ?) "
        "ORDER BY p.received_at, p.idx LIMIT ?",
        (model, version, before, *after, limit),
    )


def at(connection: Connection, indexes: Sequence[int]) -> list[Kept]:
    """Of the predictions at these places those whose payload is there."""
    condition, value = connection.among("p.idx", indexes)
    return _kept(connection, f"AND {condition} ORDER BY p.idx", (value,))


def _kept(connection: Connection, condition: str, values: tuple[object, ...]) -> list[Kept]:
    rows = connection.execute(f"{_KEPT} {condition}", values)
    return [Kept(*row[:9])._replace(replica=_named(row[6], row[9])) for row in rows]


def _named(replica: str, outside: int) -> str:
    """As its runs of numbers are called."""
    return f"{OUTSIDE}:{replica}" if outside and replica else replica


def said_of(connection: Connection, prediction_ids: Sequence[str]) -> list[int]:
    """Entries that speak of these predictions: explanations, outcomes, overrides; those that are not erased yet."""
    condition, value = connection.among("t.prediction_id", prediction_ids)
    found: list[int] = []
    for table in _SAID_AFTERWARDS:
        rows = connection.execute(
            f"SELECT t.idx FROM {table} AS t LEFT JOIN erased AS x ON x.idx = t.idx "
            f"WHERE x.idx IS NULL AND {condition}",
            (value,),
        )
        found += [row[0] for row in rows]
    return sorted(found)


def orphans(connection: Connection, limit: int) -> list[int]:
    """What was said of predictions after they were erased: explanations that were under way then, late outcomes."""
    found: list[int] = []
    for table in _SAID_AFTERWARDS:
        rows = connection.execute(
            f"SELECT t.idx FROM erased AS gone JOIN entries AS e ON e.idx = gone.idx "
            f"JOIN {table} AS t ON t.prediction_id = e.event_id LEFT JOIN erased AS x ON x.idx = t.idx "
            "WHERE x.idx IS NULL ORDER BY t.idx LIMIT ?",
            (limit,),
        )
        found += [row[0] for row in rows]
    return sorted(set(found))[:limit]


def erase(connection: Connection, predictions: Sequence[Kept], indexes: Sequence[int], statement: int) -> None:
    """Take away salt, payload and headers of the entries at `indexes`, and what look-up rows and quarantine hold of
    `predictions`. `statement` is the entry that says so.
    """
    condition, value = connection.among("idx", indexes)
    connection.execute(f"UPDATE entries SET salt = NULL, body = NULL, headers = NULL WHERE {condition}", (value,))
    condition, value = connection.among("idx", [one.idx for one in predictions])
    connection.execute(
        f"UPDATE predictions SET subject_ref = '', request_id = '', error = '' WHERE {condition}", (value,)
    )
    connection.execute(f"UPDATE decisions SET protected = '{{}}' WHERE {condition}", (value,))
    condition, value = connection.among("event_id", [one.prediction_id for one in predictions])
    connection.execute(f"UPDATE quarantine SET body = ?, headers = NULL WHERE {condition}", (b"", value))
    connection.insert_rows("erased", ("idx", "statement"), [(index, statement) for index in indexes])


def statement_of(connection: Connection, index: int) -> int | None:
    """The entry that says that this one was erased."""
    row = connection.execute("SELECT statement FROM erased WHERE idx = ?", (index,)).fetchone()
    return int(row[0]) if row else None


def between(connection: Connection, low: int, high: int) -> dict[int, int]:
    """Of the entries from `low` to below `high` those that were erased, with the entry that says so."""
    rows = connection.execute("SELECT idx, statement FROM erased WHERE idx >= ? AND idx < ?", (low, high))
    return {row[0]: row[1] for row in rows}


def statements(connection: Connection, low: int, high: int) -> list[int]:
    """The entries that say of any entry from `low` to below `high` that it was erased."""
    rows = connection.execute(
        "SELECT DISTINCT statement FROM erased WHERE idx >= ? AND idx < ? ORDER BY statement", (low, high)
    )
    return [row[0] for row in rows]


def latest(connection: Connection, limit: int) -> list[int]:
    """The newest entries that say that something was erased, newest first."""
    rows = connection.execute("SELECT DISTINCT statement FROM erased ORDER BY statement DESC LIMIT ?", (limit,))
    return [row[0] for row in rows]
