"""What was numbered: who said where a sequence ended, and what of the sequences is here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from affiant.auditor.domain.completeness import Ending, Span
from affiant.auditor.domain.sequences import Run, merged
from affiant.auditor.store import facts, holes
from affiant.auditor.store.database import Connection
from affiant.auditor.store.projections import Replica
from affiant.common.events import OUTSIDE

_NUMBERED = "p.sequence > 0 AND p.replica <> ''"


def add_endings(connection: Connection, said: Iterable[tuple[Replica, Ending]]) -> None:
    """The first word of a process on its end stays."""
    connection.executemany(
        "INSERT INTO endings (model, replica, epoch, last, since) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (model, replica, epoch) DO NOTHING",
        [(*replica, ending.last, ending.since) for replica, ending in said],
    )


def endings(connection: Connection, model: str | None) -> dict[Replica, Ending]:
    """Where the processes said that their sequences ended."""
    condition, values = _of(model)
    rows = connection.execute(f"SELECT model, replica, epoch, last, since FROM endings WHERE {condition}", values)
    return {(row[0], row[1], row[2]): Ending(row[3], row[4]) for row in rows}


def arrived(connection: Connection, model: str | None) -> dict[Replica, tuple[int, int]]:
    """For each replica the highest number that arrived, and how many did."""
    condition, values = _of(model)
    rows = connection.execute(
        "SELECT model, replica, epoch, max(last), sum(last - first + 1) FROM runs "
        f"WHERE {condition} GROUP BY model, replica, epoch",
        values,
    )
    return {(row[0], row[1], row[2]): (int(row[3]), int(row[4])) for row in rows}


def missing(connection: Connection, model: str | None) -> int:
    """Numbers of our model servers that have not come. How outside systems number is no statement of ours; the
    completeness report shows their gaps under their own names."""
    said, here = endings(connection, model), arrived(connection, model)
    ours = [replica for replica in said.keys() | here.keys() if not replica[1].startswith(f"{OUTSIDE}:")]
    # Added up here: SQLite's sum fails beyond 64 bits.
    return sum(
        max(here.get(replica, (0, 0))[0], said[replica].last if replica in said else 0) - here.get(replica, (0, 0))[1]
        for replica in ours
    )


def broken(connection: Connection) -> list[Replica]:
    """The replicas of which something never arrived."""
    said, here = endings(connection, None), arrived(connection, None)
    return sorted(
        replica
        for replica in said.keys() | here.keys()
        if max(here.get(replica, (0, 0))[0], said[replica].last if replica in said else 0)
        > here.get(replica, (0, 0))[1]
    )


def damaged(connection: Connection, model: str | None) -> bool:
    """Whether rows are gone that were counted when they were written. Counts by indexes alone."""
    condition, values = _of(model)
    if holes.first_missing(connection, facts.number(connection, facts.SIZE)) is not None:
        return True
    (counted,) = connection.execute(
        f"SELECT coalesce(sum(answered + failed), 0) FROM counts WHERE {condition}", values
    ).fetchone()
    (here,) = connection.execute(f"SELECT count(*) FROM predictions WHERE {condition}", values).fetchone()
    return int(counted) != int(here)


def present(connection: Connection, model: str | None) -> dict[Replica, list[Run]]:
    """What is here, row by row with its entry: reads the whole look-up table."""
    condition, values = _of(model, "p.")
    rows = connection.execute(
        "SELECT p.model, p.replica, p.epoch, p.sequence, e.outside FROM predictions AS p "
        f"JOIN entries AS e ON e.idx = p.idx WHERE {condition} AND {_NUMBERED}",
        values,
    )
    numbers: dict[Replica, list[int]] = defaultdict(list)
    for row in rows:
        numbers[_replica(row[0], row[1], row[2], row[4])].append(row[3])
    return {replica: _runs(found) for replica, found in numbers.items()}


def _runs(numbers: list[int]) -> list[Run]:
    """The numbers as runs, the way `merged` has them."""
    return merged([], numbers, "")


def spans(connection: Connection, model: str | None, since: str, until: str) -> dict[Replica, Span]:
    """What is here of requests that were received from `since` to before `until`."""
    condition, values = _of(model, "p.")
    rows = connection.execute(
        "SELECT p.model, p.replica, p.epoch, e.outside, min(p.sequence), max(p.sequence), count(DISTINCT p.sequence) "
        f"FROM predictions AS p JOIN entries AS e ON e.idx = p.idx WHERE {condition} "
        f"AND p.received_at >= ? AND p.received_at < ? AND {_NUMBERED} GROUP BY p.model, p.replica, p.epoch, e.outside",
        (*values, since, until),
    )
    return {_replica(row[0], row[1], row[2], row[3]): Span(row[4], row[5], row[6]) for row in rows}


def _replica(model: str, replica: str, epoch: int, outside: Any) -> Replica:
    return model, f"{OUTSIDE}:{replica}" if outside else replica, epoch


def _of(model: str | None, prefix: str = "") -> tuple[str, tuple[str, ...]]:
    return ("1 = 1", ()) if model is None else (f"{prefix}model = ?", (model,))
