"""The questions that the record answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

from affiant.auditor.domain.fairness import Count
from affiant.auditor.domain.rows import UNKNOWN_VERSION
from affiant.auditor.domain.views import PredictionLine, QuarantinedLine
from affiant.auditor.store.projections import Replica
from affiant.common.events import OUTSIDE


@dataclass(frozen=True)
class Filter:
    """Which predictions; None asks for any. Times in UTC as stored; `before` is where the last page ended."""

    model: str | None = None
    version: int | None = None
    status: str | None = None
    adverse: bool | None = None
    since: str | None = None
    until: str | None = None
    before: tuple[str, int] | None = None


@dataclass(frozen=True)
class Totals:
    """What the counts and the explanations add up to."""

    answered: int
    failed: int
    rows: int
    adverse_rows: int
    explained: int
    explanation_failed: int
    missing: int
    quarantined: int
    versions: dict[str, int]


_LINE = """
SELECT event_id, idx, source, audited_at, model, version, digest, alias, status, received_at, rows, adverse_rows,
  (SELECT count(DISTINCT row) FROM explanations AS x WHERE x.prediction_id = event_id AND outcome = 'explained'),
  (SELECT json_group_array(json_array(json(label), score)) FROM decisions AS d WHERE d.idx = predictions.idx),
  request_id, subject_ref, duration_us, replica, epoch, sequence, error
FROM predictions JOIN entries USING (idx)
"""


def predictions(connection: Connection, wanted: Filter, limit: int) -> list[PredictionLine]:
    """The predictions that `wanted` lets through, newest first."""
    conditions, values = _conditions(wanted)
    rows = connection.execute(
        f"{_LINE} WHERE {conditions} ORDER BY received_at DESC, predictions.idx DESC LIMIT ?", (*values, limit)
    )
    return [_line(row) for row in rows]


def _conditions(wanted: Filter) -> tuple[str, list[Any]]:
    tests: list[tuple[str, list[Any]]] = [("1", [])]
    for clause, value in (
        ("model = ?", wanted.model),
        ("version = ?", wanted.version),
        ("status = ?", wanted.status),
        ("received_at >= ?", wanted.since),
        ("received_at < ?", wanted.until),
    ):
        if value is not None:
            tests.append((clause, [value]))
    if wanted.adverse is not None:
        tests.append(("adverse_rows > 0" if wanted.adverse else "adverse_rows = 0", []))
    if wanted.before is not None:
        tests.append(("(received_at, predictions.idx) < (?, ?)", list(wanted.before)))
    return " AND ".join(clause for clause, _ in tests), [value for _, values in tests for value in values]


def _line(row: tuple[Any, ...]) -> PredictionLine:
    decided = json.loads(row[13])
    labels, scores = [pair[0] for pair in decided], [pair[1] for pair in decided]
    values: list[Any] = [*row[:5], _version(row[5]), *row[6:13], labels, scores, *row[14:]]
    return PredictionLine(*values)


def _version(stored: int) -> int | None:
    return None if stored == UNKNOWN_VERSION else stored


def explanations(connection: Connection, prediction_id: str) -> list[int]:
    """The entries that explain a prediction, by row and order of arrival."""
    rows = connection.execute(
        "SELECT idx FROM explanations WHERE prediction_id = ? ORDER BY row, idx", (prediction_id,)
    )
    return [row[0] for row in rows]


def lifecycle(connection: Connection, model: str | None) -> list[int]:
    """The entries of registry and deployer, of one model or all, in the order of the log."""
    rows = connection.execute("SELECT idx FROM lifecycle WHERE ?1 IS NULL OR model = ?1 ORDER BY idx", (model,))
    return [row[0] for row in rows]


def models(connection: Connection) -> list[str]:
    """Every model that predictions are kept of."""
    return [row[0] for row in connection.execute("SELECT DISTINCT model FROM counts ORDER BY model")]


def totals(connection: Connection, model: str | None) -> Totals:
    """The counts of one model, or of all."""
    answered, failed, rows, adverse = connection.execute(
        "SELECT coalesce(sum(answered), 0), coalesce(sum(failed), 0), coalesce(sum(rows), 0), "
        "coalesce(sum(adverse_rows), 0) FROM counts WHERE ?1 IS NULL OR model = ?1",
        (model,),
    ).fetchone()
    versions = connection.execute(
        "SELECT version, sum(answered + failed) FROM counts WHERE ?1 IS NULL OR model = ?1 GROUP BY version", (model,)
    )
    (quarantined,) = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    explained, without = _explained(connection, model)
    named = {str(_version(version) or "unknown"): count for version, count in versions}
    missing = _missing(connection, model)
    return Totals(answered, failed, rows, adverse, explained, without, missing, quarantined, named)


def _explained(connection: Connection, model: str | None) -> tuple[int, int]:
    """Rows with an explanation, and rows for which there are only failures."""
    row = connection.execute(
        "SELECT coalesce(sum(done), 0), count(*) - coalesce(sum(done), 0) FROM "
        "(SELECT max(outcome = 'explained') AS done FROM explanations WHERE ?1 IS NULL OR model = ?1 "
        "GROUP BY prediction_id, row)",
        (model,),
    ).fetchone()
    return row[0], row[1]


def _missing(connection: Connection, model: str | None) -> int:
    """Numbers of our model servers that have not come. How outside systems number is no statement of ours; the
    completeness report shows their gaps under their own names."""
    rows = connection.execute(
        "SELECT max(last) - sum(last - first + 1) AS missing FROM runs WHERE (?1 IS NULL OR model = ?1) "
        "AND replica NOT LIKE ?2 GROUP BY model, replica, epoch HAVING missing > 0",
        (model, f"{OUTSIDE}:%"),
    )
    # Added up here: SQLite's sum fails beyond 64 bits.
    return sum(row[0] for row in rows)


def replicas(connection: Connection, model: str | None, *, broken: bool = False) -> list[Replica]:
    """Every (model, replica, epoch) that numbered requests; with `broken` only those that have a gap."""
    rows = connection.execute(
        "SELECT model, replica, epoch FROM runs WHERE ?1 IS NULL OR model = ?1 GROUP BY model, replica, epoch "
        "HAVING NOT ?2 OR count(*) > 1 OR min(first) > 1 ORDER BY model, replica, epoch",
        (model, broken),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def group_counts(
    connection: Connection, model: str, column: str, since: str | None, until: str | None, version: int | None = None
) -> list[Count]:
    """Rows and favourable decisions by value of a protected column."""
    rows = connection.execute(
        f"{_GROUPS} FROM decisions, json_each(decisions.protected) AS held WHERE model = ?1 AND held.key = ?2 "
        "AND (?3 IS NULL OR received_at >= ?3) AND (?4 IS NULL OR received_at < ?4) "
        "AND (?5 IS NULL OR version = ?5) GROUP BY held.value, held.type IN ('true', 'false')",
        (model, column, since, until, version),
    )
    return [_count(row) for row in rows]


def latest_group_counts(connection: Connection, model: str, column: str, rows: int) -> list[Count]:
    """The same over the latest `rows` decided rows of a model."""
    latest = "SELECT protected, adverse FROM decisions WHERE model = ?1 ORDER BY received_at DESC LIMIT ?3"
    found = connection.execute(
        f"{_GROUPS} FROM ({latest}) AS latest, json_each(latest.protected) AS held WHERE held.key = ?2 "
        "GROUP BY held.value, held.type IN ('true', 'false')",
        (model, column, rows),
    )
    return [_count(row) for row in found]


_GROUPS = "SELECT held.value, held.type IN ('true', 'false'), count(*), sum(NOT adverse)"


def _count(row: tuple[Any, ...]) -> Count:
    value, is_boolean, rows, favourable = row
    return Count(bool(value) if is_boolean else value, rows, favourable)


def protected_columns(connection: Connection, model: str, latest: int = 1_000) -> list[str]:
    """The columns whose values were kept with the latest decisions of a model."""
    rows = connection.execute(
        "SELECT DISTINCT held.key FROM (SELECT protected FROM decisions WHERE model = ? ORDER BY received_at DESC "
        "LIMIT ?) AS latest, json_each(latest.protected) AS held ORDER BY 1",
        (model, latest),
    )
    return [row[0] for row in rows]


def quarantined(connection: Connection, limit: int) -> list[QuarantinedLine]:
    """The newest quarantined messages, newest first."""
    rows = connection.execute(
        "SELECT number, at, kind, reason, event_id, durable, stream, sequence, subject, body FROM quarantine "
        "ORDER BY number DESC LIMIT ?",
        (limit,),
    )
    found: list[list[Any]] = [[*row[:9], row[9].decode(errors="replace")] for row in rows]
    return [QuarantinedLine(*line) for line in found]
