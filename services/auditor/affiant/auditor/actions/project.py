"""Projections: what new entries mean for look-ups, counts, specs and sequences; in the same transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from affiant.auditor.domain.arrival import Statement
from affiant.auditor.domain.completeness import Ending
from affiant.auditor.domain.rows import UNKNOWN_VERSION, Prediction, Protection, decisions, protected_values, protection
from affiant.auditor.domain.sequences import merged
from affiant.auditor.domain.testimony import word
from affiant.auditor.store import entries, numbering, projections, reads, restated, testimony
from affiant.auditor.store.database import Connection
from affiant.common import bus, wire
from affiant.common.events import (
    OUTSIDE,
    DecisionOverridden,
    ExplanationFailed,
    ModelExplained,
    ModelPromoted,
    ModelRegistered,
    ModelSpec,
    OutcomeRecorded,
    PayloadsRead,
    PredictionExplained,
    PredictionLogged,
    ReplicaEnded,
)

Placed = tuple[int, Statement]

_LIFECYCLE = tuple(pattern.removesuffix(">") for pattern in bus.AUDITOR_MODELS.filters)


def project(connection: Connection, size: int, statements: Sequence[Statement], now: str) -> None:
    """Write what the entries from place `size` on mean. Specs go first: predictions beside them need them."""
    project_placed(connection, list(enumerate(statements, start=size)), now)


def project_placed(connection: Connection, placed: Sequence[Placed], now: str) -> None:
    """The same for entries at any places. Split as one likes, in order, with the same `now`, it comes to the same."""
    _lifecycle(connection, placed)
    _predictions(connection, placed)
    _explanations(connection, placed)
    _testimony(connection, placed)
    _reads(connection, placed)
    _endings(connection, placed, now)
    _sequences(connection, [_numbered(one) for _, one in placed], now)


def project_again(connection: Connection, made: Sequence[tuple[Prediction, bool]], now: str) -> None:
    """Count predictions whose payload was erased, from what their look-up rows say; the flag: an outside system's."""
    projections.add_counts(connection, _counts([prediction for prediction, _ in made]))
    _sequences(connection, made, now)


def fill_protected(connection: Connection, limit: int) -> int:
    """Predictions may come before their model's registration: two streams have no common order. Write the protected
    values that the spec tells to look for into up to `limit` such predictions; returns how many there were.
    """
    waiting = entries.of(connection, projections.awaiting_spec(connection, limit))
    for entry in waiting:
        event = decode(entry)
        values = []
        if isinstance(event, PredictionLogged):
            spec = projections.spec(connection, event.model, event.version or 0)
            values = protected_values(event, protection(spec))
        projections.put_protected(connection, entry.idx, values)
    restated.add(connection, [entry.idx for entry in waiting])
    return len(waiting)


def decode(entry: entries.Entry) -> object:
    """The event of an entry; None where its type is unknown or its payload was erased."""
    if entry.body is None:
        return None
    headers = {"content-type": wire.CONTENT_TYPE}
    if entry.headers is not None:
        headers = msgspec.json.decode(entry.headers, type=dict[str, str])
    return wire.decode(entry.subject, entry.body, headers).event


def _lifecycle(connection: Connection, placed: Sequence[Placed]) -> None:
    of_models = [
        (idx, one)
        for idx, one in placed
        if one.arrival.subject.startswith(_LIFECYCLE) or isinstance(one.envelope.event, ModelExplained)
    ]
    known = [one.envelope.event for _, one in of_models]
    projections.add_lifecycle(
        connection, [(idx, str(getattr(one.envelope.event, "model", ""))) for idx, one in of_models]
    )
    projections.add_specs(
        connection, [event.spec for event in known if isinstance(event, ModelRegistered | ModelPromoted)]
    )


def _predictions(connection: Connection, placed: Sequence[Placed]) -> None:
    specs: dict[tuple[str, int], ModelSpec | None] = {}
    protects: dict[tuple[str, int], Protection] = {}
    made, decided = [], []
    for idx, statement in placed:
        prediction, event = statement.prediction, statement.envelope.event
        if prediction is None or not isinstance(event, PredictionLogged):
            continue
        key = (prediction.model, prediction.version)
        if key not in specs:
            specs[key] = projections.spec(connection, *key)
            protects[key] = protection(specs[key])
        awaits_spec = specs[key] is None and bool(event.adverse) and prediction.version != UNKNOWN_VERSION
        made.append((idx, prediction, awaits_spec))
        if event.adverse:
            decided.append((idx, prediction, decisions(event), protected_values(event, protects[key])))
    projections.add_predictions(connection, made)
    projections.add_decisions(connection, decided)
    projections.add_counts(connection, _counts([prediction for _, prediction, _ in made]))


def _counts(predictions: Sequence[Prediction]) -> list[projections.Count]:
    groups: dict[tuple[str, int], list[Prediction]] = defaultdict(list)
    for made in predictions:
        groups[made.model, made.version].append(made)
    return [
        projections.Count(
            *key,
            answered=sum(made.status == "answered" for made in group),
            failed=sum(made.status == "failed" for made in group),
            rows=sum(made.rows for made in group),
            adverse_rows=sum(made.adverse_rows or 0 for made in group),
        )
        for key, group in groups.items()
    ]


def _explanations(connection: Connection, placed: Sequence[Placed]) -> None:
    rows = []
    for idx, statement in placed:
        event = statement.envelope.event
        if isinstance(event, PredictionExplained):
            rows.append(projections.Explanation(idx, event.prediction_id, event.row, event.model, "explained"))
        elif isinstance(event, ExplanationFailed):
            rows.append(projections.Explanation(idx, event.prediction_id, event.row, event.model, event.state))
    projections.add_explanations(connection, rows)


def _testimony(connection: Connection, placed: Sequence[Placed]) -> None:
    told = [(idx, one.envelope.event) for idx, one in placed]
    testimony.add(
        connection, "outcomes", [(idx, word(event)) for idx, event in told if isinstance(event, OutcomeRecorded)]
    )
    testimony.add(
        connection, "overrides", [(idx, word(event)) for idx, event in told if isinstance(event, DecisionOverridden)]
    )


def _endings(connection: Connection, placed: Sequence[Placed], now: str) -> None:
    said = [one.envelope.event for _, one in placed if isinstance(one.envelope.event, ReplicaEnded)]
    numbering.add_endings(
        connection, [((one.model, one.replica, one.epoch), Ending(one.last_sequence, now)) for one in said]
    )


def _numbered(statement: Statement) -> tuple[Prediction | None, bool]:
    return statement.prediction, statement.envelope.type.startswith(f"affiant.{OUTSIDE}.")


def _reads(connection: Connection, placed: Sequence[Placed]) -> None:
    told = [(idx, one.envelope.event) for idx, one in placed]
    rows = [
        (idx, place, read.prediction_id)
        for idx, event in told
        if isinstance(event, PayloadsRead)
        for place, read in enumerate(event.reads)
    ]
    if rows:
        reads.add(connection, rows)


def _sequences(connection: Connection, arrivals: Sequence[tuple[Prediction | None, bool]], now: str) -> None:
    arrived: dict[projections.Replica, list[int]] = defaultdict(list)
    for made, outside in arrivals:
        if made is not None and made.replica and made.sequence > 0:
            # An outside system cannot fill the gaps of our model servers: its replicas have names of their own.
            replica = f"{OUTSIDE}:{made.replica}" if outside else made.replica
            arrived[made.model, replica, made.epoch].append(made.sequence)
    for replica_, numbers in arrived.items():
        before = projections.runs(connection, replica_)
        projections.put_runs(connection, replica_, before, merged(before, numbers, now))
