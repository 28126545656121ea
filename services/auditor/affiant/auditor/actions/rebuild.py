"""Rebuilding the look-up tables from the entries of the log, to the same state.

One transaction: whoever reads sees the old tables until the new ones are whole, and a rebuild that is broken off has
changed nothing. Recording waits meanwhile; the bus holds what comes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import msgspec
import structlog

from affiant.auditor.actions import sworn
from affiant.auditor.actions.checkpoints import reader
from affiant.auditor.actions.project import fill_protected, project_again, project_placed
from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain.arrival import Arrival, Statement, understand
from affiant.auditor.domain.views import Rebuilt
from affiant.auditor.store import entries, facts, restoring
from affiant.auditor.store.database import Connection
from affiant.auditor.store.entries import Entry
from affiant.common import wire
from affiant.common.errors import Problem

log = structlog.get_logger(__name__)

AT_ONCE = 2_000


class Rebuilder:
    """Rebuilds through the one writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def rebuild(self) -> Rebuilt:
        """Wipe the look-up tables and fill them from the entries. Raises the `Problem` of `sworn.altered` where an
        entry is not what was sworn to: nothing is changed then.
        """
        done = await self._writer.write(rebuild)
        log.info("the look-up tables were rebuilt", entries=done.entries, same=done.same, seconds=done.seconds)
        return done


def rebuild(connection: Connection) -> Rebuilt:
    """The whole of it, in the transaction of `connection`."""
    begun = time.monotonic()
    _fill(connection)
    before = restoring.digest(connection)
    restoring.wipe(connection)
    size, erased = facts.number(connection, facts.SIZE), 0
    for group in _batches(_sworn_to(connection, size)):
        alive = [entry for entry in group if entry.body is not None]
        project_placed(connection, [(entry.idx, _statement(entry)) for entry in alive], group[0].audited_at)
        gone = [restoring.left(connection, entry.idx) for entry in group if entry.body is None]
        project_again(connection, [one for one in gone if one is not None], group[0].audited_at)
        erased += len(gone)
    _fill(connection)
    after = restoring.digest(connection)
    return Rebuilt(size, erased, before, after, before == after, round(time.monotonic() - begun, 3))


def _fill(connection: Connection) -> None:
    while fill_protected(connection, AT_ONCE):
        pass


def _sworn_to(connection: Connection, size: int) -> Iterator[Entry]:
    """Every entry in order, held against the tree."""
    node = reader(connection)
    for low in range(0, size, AT_ONCE):
        high = min(low + AT_ONCE, size)
        found = {entry.idx: entry for entry in entries.between(connection, low, high)}
        erased = sworn.erased(connection, low, high)
        for index in range(low, high):
            if index not in found:
                raise sworn.altered(index, sworn.REMOVED)
            if why := sworn.objection(found[index], node(0, index), is_erased=index in erased):
                raise sworn.altered(index, why)
            yield found[index]


def _batches(found: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries that were written together, as when a gap was first seen is told by the batch that showed it."""
    for _, group in groupby(found, key=lambda entry: entry.audited_at):
        yield list(group)


def _statement(entry: Entry) -> Statement:
    headers = {"content-type": wire.CONTENT_TYPE}
    if entry.headers is not None:
        headers = msgspec.json.decode(entry.headers, type=dict[str, str])
    statements, faults = understand([Arrival(entry.subject, entry.body or b"", headers, "", "", entry.idx)])
    if faults:
        raise Problem(f"entry {entry.idx} cannot be read by this version: {faults[0].reason}", status=500)
    return statements[0]
