"""The questions that the record answers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from affiant.auditor.domain.conditions import Condition
from affiant.auditor.domain.fairness import Count
from affiant.auditor.domain.rows import UNKNOWN_VERSION
from affiant.auditor.domain.views import PredictionLine, QuarantinedLine
from affiant.auditor.store import numbering
from affiant.auditor.store.database import Connection


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
    digest: str | None = None
    request_id: str | None = None
    subject_ref: str | None = None
    label: str | None = None
    where: tuple[Condition, ...] = ()

    @property
    def needs_columns(self) -> bool:
        """Whether only the columns can tell: no index of the row store has these."""
        return bool(self.label is not None or self.where or self.digest is not None)


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
SELECT event_id, entries.idx, source, audited_at, model, version, digest, alias, status, received_at, rows,
  adverse_rows,
  (SELECT count(DISTINCT x.row) FROM explanations AS x WHERE x.prediction_id = event_id AND outcome = 'explained'),
  request_id, subject_ref, duration_us, replica, epoch, sequence, error
FROM predictions JOIN entries ON entries.idx = predictions.idx
"""
Decided = dict[int, tuple[list[Any], list[float | None]]]
"""Place in the log → the labels and the scores of its decided rows, in their order."""


def predictions(connection: Connection, wanted: Filter, limit: int) -> list[PredictionLine]:
    """The predictions that `wanted` lets through, newest first."""
    conditions, values = _conditions(wanted)
    rows = connection.execute(
        f"{_LINE} WHERE {conditions} ORDER BY received_at DESC, predictions.idx DESC LIMIT ?", (*values, limit)
    ).fetchall()
    decided = _decided(connection, [row[1] for row in rows])
    return [_line(row, decided) for row in rows]


def places(
    connection: Connection, wanted: Filter, size: int, after: tuple[str, int] | None, limit: int
) -> list[tuple[str, int]]:
    """(received_at, entry) of the predictions among the first `size` entries, oldest first, behind `after`."""
    conditions, values = _conditions(wanted)
    behind, more = ("AND (received_at, predictions.idx) > (?, ?)", after) if after else ("", ())
    rows = connection.execute(
        f"SELECT received_at, predictions.idx FROM predictions WHERE {conditions} AND predictions.idx < ? {behind} "
        "ORDER BY received_at, predictions.idx LIMIT ?",
        (*values, size, *more, limit),
    )
    return [(row[0], row[1]) for row in rows]


def number_of(connection: Connection, wanted: Filter, size: int) -> int:
    """How many that is."""
    conditions, values = _conditions(wanted)
    (number,) = connection.execute(
        f"SELECT count(*) FROM predictions WHERE {conditions} AND predictions.idx < ?", (*values, size)
    ).fetchone()
    return int(number)


def _decided(connection: Connection, indexes: Sequence[int]) -> Decided:
    found: Decided = defaultdict(lambda: ([], []))
    condition, value = connection.among("idx", indexes)
    for idx, label, score in connection.execute(
        f"SELECT idx, label, score FROM decisions WHERE {condition} ORDER BY idx, row", (value,)
    ):
        found[idx][0].append(json.loads(label))
        found[idx][1].append(score)
    return found


def predictions_at(connection: Connection, indexes: Sequence[int]) -> list[PredictionLine]:
    """The predictions that are these entries, newest first."""
    if not indexes:
        return []
    condition, value = connection.among("predictions.idx", indexes)
    order = "ORDER BY received_at DESC, predictions.idx DESC"
    rows = connection.execute(f"{_LINE} WHERE {condition} {order}", (value,)).fetchall()
    decided = _decided(connection, indexes)
    return [_line(row, decided) for row in rows]


def _conditions(wanted: Filter) -> tuple[str, list[Any]]:
    tests: list[tuple[str, list[Any]]] = [("1 = 1", [])]
    for clause, value in (
        ("model = ?", wanted.model),
        ("version = ?", wanted.version),
        ("status = ?", wanted.status),
        ("received_at >= ?", wanted.since),
        ("received_at < ?", wanted.until),
        # The second half tells the planner that the partial index has every such row.
        ("request_id = ? AND request_id <> ''", wanted.request_id),
        ("subject_ref = ? AND subject_ref <> ''", wanted.subject_ref),
    ):
        if value is not None:
            tests.append((clause, [value]))
    if wanted.adverse is not None:
        tests.append(("adverse_rows > 0" if wanted.adverse else "adverse_rows = 0", []))
    if wanted.before is not None:
        tests.append(("(received_at, predictions.idx) < (?, ?)", list(wanted.before)))
    return " AND ".join(clause for clause, _ in tests), [value for _, values in tests for value in values]


def _line(row: tuple[Any, ...], decided: Decided) -> PredictionLine:
    labels, scores = decided[row[1]]
    values: list[Any] = [*row[:5], _version(row[5]), *row[6:13], labels, scores, *row[13:]]
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
    condition, values = _of(model)
    return [row[0] for row in connection.execute(f"SELECT idx FROM lifecycle WHERE {condition} ORDER BY idx", values)]


def _of(model: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition that asks for one model, or for all."""
    return ("1 = 1", ()) if model is None else ("model = ?", (model,))


def versions(connection: Connection) -> list[tuple[str, int]]:
    """Every version that predictions are kept of; 0 for those that named none."""
    return [(row[0], row[1]) for row in connection.execute("SELECT model, version FROM counts ORDER BY model, version")]


def models(connection: Connection) -> list[str]:
    """Every model that predictions are kept of."""
    return [row[0] for row in connection.execute("SELECT DISTINCT model FROM counts ORDER BY model")]


def decided_rows(connection: Connection, model: str) -> int:
    """How many rows were decided or answered of a model, by its counts."""
    (rows,) = connection.execute("SELECT coalesce(sum(rows), 0) FROM counts WHERE model = ?", (model,)).fetchone()
    return int(rows)


def totals(connection: Connection, model: str | None) -> Totals:
    """The counts of one model, or of all."""
    condition, values = _of(model)
    answered, failed, rows, adverse = connection.execute(
        "SELECT coalesce(sum(answered), 0), coalesce(sum(failed), 0), coalesce(sum(rows), 0), "
        f"coalesce(sum(adverse_rows), 0) FROM counts WHERE {condition}",
        values,
    ).fetchone()
    versions = connection.execute(
        f"SELECT version, sum(answered + failed) FROM counts WHERE {condition} GROUP BY version ORDER BY version",
        values,
    )
    (quarantined,) = connection.execute("SELECT count(*) FROM quarantine").fetchone()
    explained, without = _explained(connection, model)
    named = {str(_version(version) or "unknown"): count for version, count in versions}
    missing = numbering.missing(connection, model)
    return Totals(answered, failed, rows, adverse, explained, without, missing, quarantined, named)


def _explained(connection: Connection, model: str | None) -> tuple[int, int]:
    """Rows with an explanation, and rows for which there are only failures."""
    condition, values = _of(model)
    row = connection.execute(
        "SELECT coalesce(sum(done), 0), count(*) - coalesce(sum(done), 0) FROM "
        "(SELECT max(CASE WHEN outcome = 'explained' THEN 1 ELSE 0 END) AS done FROM explanations "
        f"WHERE {condition} GROUP BY prediction_id, row) AS explained",
        values,
    ).fetchone()
    return row[0], row[1]


def group_counts(
    connection: Connection, model: str, column: str, since: str | None, until: str | None, version: int | None = None
) -> list[Count]:
    """Rows and favourable decisions by value of a protected column."""
    wanted = Filter(model=model, version=version, since=since, until=until)
    conditions, values = _conditions(wanted)
    return _by_value(connection, column, f"decisions WHERE {conditions}", values)


def latest_group_counts(connection: Connection, model: str, column: str, rows: int) -> list[Count]:
    """The same over the latest `rows` decided rows of a model."""
    latest = "SELECT protected, adverse FROM decisions WHERE model = ? ORDER BY received_at DESC LIMIT ?"
    return _by_value(connection, column, f"({latest}) AS latest", [model, rows])


def _by_value(connection: Connection, column: str, source: str, values: list[Any]) -> list[Count]:
    """Counted by what stands in `protected` as a whole, of which there are few, and then by the one column in it."""
    found = connection.execute(
        "SELECT protected, count(*), sum(CASE WHEN adverse = 0 THEN 1 ELSE 0 END) "
        f"FROM {source} GROUP BY protected ORDER BY protected",
        values,
    )
    rows: Counter[tuple[bool, Any]] = Counter()
    favourable: Counter[tuple[bool, Any]] = Counter()
    for protected, count, good in found:
        held = json.loads(protected)
        if column in held:
            # True is not 1 here, though it is to Python.
            key = isinstance(held[column], bool), held[column]
            rows[key] += count
            favourable[key] += good
    return [Count(key[1], rows[key], favourable[key]) for key in rows]


def protected_columns(connection: Connection, model: str, latest: int = 1_000) -> list[str]:
    """The columns whose values were kept with the latest decisions of a model."""
    rows = connection.execute(
        "SELECT DISTINCT protected FROM (SELECT protected FROM decisions WHERE model = ? "
        "ORDER BY received_at DESC LIMIT ?) AS latest",
        (model, latest),
    )
    return sorted({name for (protected,) in rows for name in json.loads(protected)})


def quarantined(connection: Connection, limit: int) -> list[QuarantinedLine]:
    """The newest quarantined messages, newest first."""
    rows = connection.execute(
        "SELECT number, at, kind, reason, event_id, durable, stream, sequence, subject, body FROM quarantine "
        "ORDER BY number DESC LIMIT ?",
        (limit,),
    )
    found: list[list[Any]] = [[*row[:9], row[9].decode(errors="replace")] for row in rows]
    return [QuarantinedLine(*line) for line in found]
