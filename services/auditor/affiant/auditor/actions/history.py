"""Answering what stood at a moment, from the entries of the log alone."""

from __future__ import annotations

from collections import defaultdict

from affiant.auditor.actions import sworn
from affiant.auditor.actions.project import decode
from affiant.auditor.domain.history import Standing, Told, as_of
from affiant.auditor.domain.views import History
from affiant.auditor.store import entries, queries
from affiant.auditor.store.database import Connection
from affiant.common import ids
from affiant.common.errors import NotFound
from affiant.common.events import Event


def standings(connection: Connection, model: str | None, at: str | None) -> dict[str, Standing]:
    """What stood of each model at `at`; what stands now where it is None. Unknown types change nothing."""
    told: dict[str, list[Told]] = defaultdict(list)
    for entry in entries.of(connection, queries.lifecycle(connection, model)):
        event = decode(entry)
        if isinstance(event, Event):
            told[str(getattr(event, "model", ""))].append(Told(entry.idx, event))
    return {name: as_of(events, at) for name, events in told.items()}


def history(connection: Connection, model: str, at: str | None) -> History:
    """What stood of `model` at `at`, each entry that is answered from held against the log first.

    Raises `NotFound` for a model that the log knows nothing of, `Problem` where an entry was altered.
    """
    indexes = queries.lifecycle(connection, model)
    if not indexes:
        raise NotFound(f"the log knows no model {model}", hint="affiant models lists those that are registered")
    found = {entry.idx: entry for entry in entries.of(connection, indexes)}
    for index in indexes:
        if index not in found:
            raise sworn.altered(index, sworn.REMOVED)
        sworn.check(connection, found[index])
    standing = standings(connection, model, at).get(model, Standing())
    return History(
        model=model,
        at=at or ids.now(),
        aliases=sorted(standing.aliases.values(), key=lambda one: one.alias),
        deployments=sorted(standing.deployments.values(), key=lambda one: one.alias),
        versions=sorted(standing.versions.values(), key=lambda one: one.version),
    )
