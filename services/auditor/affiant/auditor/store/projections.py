"""What is read out of the entries when they are written: predictions, decisions, explanations, specs, counts, runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from affiant.auditor.domain.rows import Decision, Prediction, Values
from affiant.auditor.domain.sequences import Run
from affiant.auditor.store.database import Connection
from affiant.common.events import ModelSpec

Replica = tuple[str, str, int]
"""(model, replica, epoch)"""

_PREDICTION = ("idx", *Prediction._fields, "awaits_spec")
_DECISION = ("idx", "row", "model", "version", "received_at", "label", "adverse", "score", "protected")
_decode_spec = msgspec.json.Decoder(ModelSpec).decode
_encode = msgspec.json.Encoder().encode


class Count(NamedTuple):
    """What a batch adds to the counts of one model and version."""

    model: str
    version: int
    answered: int
    failed: int
    rows: int
    adverse_rows: int


class Explanation(NamedTuple):
    """Which row of which prediction an entry explains; `outcome` is `explained`, `failed` or `expired`."""

    idx: int
    prediction_id: str
    row: int
    model: str
    outcome: str


def add_predictions(connection: Connection, rows: Iterable[tuple[int, Prediction, bool]]) -> None:
    """Each row: place in the log, the prediction, whether its model's spec is not known yet."""
    connection.insert_rows("predictions", _PREDICTION, [(idx, *prediction, awaits) for idx, prediction, awaits in rows])


def made_by(connection: Connection, idx: int) -> tuple[str, int] | None:
    """Model and version of the prediction at this place; version 0 for one that named none."""
    row = connection.execute("SELECT model, version FROM predictions WHERE idx = ?", (idx,)).fetchone()
    return (str(row[0]), int(row[1])) if row else None


def add_decisions(
    connection: Connection, rows: Iterable[tuple[int, Prediction, Sequence[Decision], Sequence[Values]]]
) -> None:
    """Each row: place in the log, the prediction, its decisions and, beside each, the protected values."""
    connection.insert_rows(
        "decisions",
        _DECISION,
        [
            (idx, made.row, of.model, of.version, of.received_at, _label(made), made.adverse, made.score, _json(values))
            for idx, of, decisions, protected in rows
            for made, values in zip(decisions, protected, strict=True)
        ],
    )


def add_explanations(connection: Connection, rows: Sequence[Explanation]) -> None:
    connection.insert_rows("explanations", Explanation._fields, rows)


def add_lifecycle(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Each row: place in the log, the model."""
    connection.insert_rows("lifecycle", ("idx", "model"), rows)


def add_specs(connection: Connection, specs: Iterable[ModelSpec]) -> None:
    """Versions are immutable: the first word on a version stays."""
    connection.executemany(
        "INSERT INTO specs VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(spec.model, spec.version, _encode(spec).decode()) for spec in specs],
    )


def spec(connection: Connection, model: str, version: int) -> ModelSpec | None:
    """What was registered as this version, if the auditor has heard of it."""
    row = connection.execute("SELECT spec FROM specs WHERE model = ? AND version = ?", (model, version)).fetchone()
    return _decode_spec(row[0]) if row else None


def specs_of(connection: Connection, model: str) -> list[ModelSpec]:
    """Every version of a model that the auditor has heard of, oldest first."""
    rows = connection.execute("SELECT spec FROM specs WHERE model = ? ORDER BY version", (model,))
    return [_decode_spec(row[0]) for row in rows]


def add_counts(connection: Connection, counts: Iterable[Count]) -> None:
    connection.executemany(
        "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model, version) DO UPDATE SET "
        "answered = counts.answered + excluded.answered, failed = counts.failed + excluded.failed, "
        "rows = counts.rows + excluded.rows, adverse_rows = counts.adverse_rows + excluded.adverse_rows",
        counts,
    )


def awaiting_spec(connection: Connection, limit: int) -> list[int]:
    """Predictions that came before their model's registration, which has come by now."""
    rows = connection.execute(
        "SELECT predictions.idx FROM specs JOIN predictions USING (model, version) WHERE awaits_spec = 1 LIMIT ?",
        (limit,),
    )
    return [row[0] for row in rows]


def put_protected(connection: Connection, idx: int, protected: Sequence[Values]) -> None:
    """Write the protected values of every decided row of a prediction, now that its spec is known."""
    connection.executemany(
        "UPDATE decisions SET protected = ? WHERE idx = ? AND row = ?",
        [(_json(values), idx, row) for row, values in enumerate(protected)],
    )
    connection.execute("UPDATE predictions SET awaits_spec = 0 WHERE idx = ?", (idx,))


def runs(connection: Connection, replica: Replica) -> list[Run]:
    """The runs of one replica's epoch, in order."""
    rows = connection.execute(
        "SELECT first, last, since FROM runs WHERE model = ? AND replica = ? AND epoch = ? ORDER BY first", replica
    )
    return [Run(*row) for row in rows]


def put_runs(connection: Connection, replica: Replica, before: Sequence[Run], after: Sequence[Run]) -> None:
    """Replace the runs `before` by `after`; what is the same in both is not touched."""
    gone, new = set(before) - set(after), set(after) - set(before)
    connection.executemany(
        "DELETE FROM runs WHERE model = ? AND replica = ? AND epoch = ? AND first = ?",
        [(*replica, run.first) for run in gone],
    )
    connection.insert_rows(
        "runs",
        ("model", "replica", "epoch", "first", "last", "since"),
        [(*replica, run.first, run.last, run.since) for run in new],
    )


def _label(decision: Decision) -> str:
    return _encode(decision.label).decode()


def _json(values: Values) -> str:
    return _encode(values).decode()
