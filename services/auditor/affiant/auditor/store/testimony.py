"""What was said about decisions afterwards: outcomes and overrides. The latest entry for a row holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from affiant.auditor.domain.testimony import Word
from affiant.auditor.store.database import Connection

Kind = Literal["outcomes", "overrides"]
"""The tables; both have the same columns."""

_COLUMNS = ("idx", "prediction_id", "row", "model", "label", "at", "told_by")
_encode = msgspec.json.Encoder().encode


class About(NamedTuple):
    """What is on record of a prediction that something is said about."""

    model: str
    version: int
    rows: int


class Tally(NamedTuple):
    """Rows of one version with the same protected values, decision and outcome. `protected` and `label` are JSON."""

    version: int
    protected: str
    adverse: bool
    label: str
    rows: int


def add(connection: Connection, kind: Kind, words: Iterable[tuple[int, Word]]) -> None:
    """Each: place in the log, what was said."""
    rows = [(idx, *word[:3], _encode(word.label).decode(), *word[4:]) for idx, word in words]
    if rows:
        connection.insert_rows(kind, _COLUMNS, rows)


def of(connection: Connection, kind: Kind, prediction_id: str, model: str) -> list[int]:
    """The entries about a prediction, by row and in the order of the log: the last of each row holds."""
    rows = connection.execute(
        f"SELECT idx FROM {kind} WHERE prediction_id = ? AND model = ? ORDER BY row, idx", (prediction_id, model)
    )
    return [row[0] for row in rows]


def about(connection: Connection, prediction_id: str) -> About | None:
    """The prediction with this id; ours, should an outside system have used the same."""
    row = connection.execute(
        "SELECT p.model, p.version, p.rows FROM entries AS e JOIN predictions AS p ON p.idx = e.idx "
        "WHERE e.event_id = ? ORDER BY e.outside LIMIT 1",
        (prediction_id,),
    ).fetchone()
    return About(*row) if row else None


def count(connection: Connection, kind: Kind, model: str | None) -> int:
    """Of how many rows something of this kind is said."""
    condition, values = ("WHERE model = ?", (model,)) if model is not None else ("", ())
    row = connection.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT model, prediction_id, row FROM {kind} {condition}) AS told", values
    ).fetchone()
    return int(row[0])


def tallies(
    connection: Connection, model: str, since: str | None, until: str | None, version: int | None
) -> list[Tally]:
    """The decided rows whose outcome is known, counted by what was decided and what became of them."""
    conditions, values = _window(model, since, until, version)
    # SQLite joins in the order that CROSS JOIN writes: from the decisions of a time, else from the outcomes. Left to
    # itself it compared all of the ones with all of the others.
    tables = ["outcomes AS o", "entries AS e", "decisions AS d"]
    rows = connection.execute(
        "SELECT d.version, d.protected, d.adverse, o.label, count(*) FROM "
        + " CROSS JOIN ".join(tables if since is None else reversed(tables))
        + f" WHERE {conditions} AND o.model = ? AND e.event_id = o.prediction_id AND d.idx = e.idx AND d.row = o.row "
        "AND NOT EXISTS (SELECT 1 FROM outcomes AS later WHERE later.model = o.model "
        "AND later.prediction_id = o.prediction_id AND later.row = o.row AND later.idx > o.idx) "
        "GROUP BY d.version, d.protected, d.adverse, o.label",
        (*values, model),
    )
    return [Tally(row[0], row[1], bool(row[2]), row[3], row[4]) for row in rows]


def decided(
    connection: Connection, model: str, since: str | None, until: str | None, version: int | None
) -> dict[bool, int]:
    """How many rows were decided, by whether the decision was adverse; whatever is known of their outcomes."""
    conditions, values = _window(model, since, until, version)
    rows = connection.execute(
        f"SELECT d.adverse, count(*) FROM decisions AS d WHERE {conditions} GROUP BY d.adverse", values
    )
    return {bool(adverse): number for adverse, number in rows}


def favourable_labels(connection: Connection, model: str, version: int) -> set[str]:
    """The labels (JSON) of decisions of a version that were not adverse: for versions that were never registered."""
    rows = connection.execute(
        "SELECT DISTINCT label FROM decisions WHERE model = ? AND version = ? AND adverse = 0", (model, version)
    )
    return {row[0] for row in rows}


def _window(model: str, since: str | None, until: str | None, version: int | None) -> tuple[str, list[Any]]:
    tests: list[tuple[str, Any]] = [("d.model = ?", model)]
    tests += [("d.received_at >= ?", since)] if since is not None else []
    tests += [("d.received_at < ?", until)] if until is not None else []
    tests += [("d.version = ?", version)] if version is not None else []
    return " AND ".join(test for test, _ in tests), [value for _, value in tests]
