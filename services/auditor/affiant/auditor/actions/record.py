"""Recording: a batch of arrivals becomes entries of the log, all in one durable transaction."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from affiant.auditor.actions.project import project
from affiant.auditor.domain.arrival import Arrival, Fault, Identity, Statement, kept_headers, understand
from affiant.auditor.domain.leaf import SALT_BYTES, Leaf, canonical, payload_hash
from affiant.auditor.log import tiles
from affiant.auditor.log.hashing import leaf_hash
from affiant.auditor.store import entries, facts, outbox
from affiant.auditor.store.database import Connection, Database, StoreAway
from affiant.common import bus, ids, wire
from affiant.common.events import Event

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a batch: entries added, events known already, and what could not enter the record."""

    kept: int = 0
    doubled: int = 0
    faults: list[Fault] = field(default_factory=list)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.kept + other.kept, self.doubled + other.doubled, self.faults + other.faults)


class Recorder:
    """Records batches. One thread at a time; the tree's state is read in each transaction, never remembered."""

    def __init__(self, database: Database, clock: Callable[[], str] = ids.now) -> None:
        self._database = database
        self._clock = clock

    def record(self, arrivals: Sequence[Arrival]) -> Outcome:
        """Keep every arrival: durable when this returns. Raises `StoreAway` when nothing was kept.

        An event that is known already changes nothing but a counter; what is undecodable, or contradicts an entry
        with the same id, is kept in quarantine with the reason.
        """
        statements, faults = understand(arrivals)
        return self._record(statements, faults)

    def _record(self, statements: Sequence[Statement], faults: list[Fault]) -> Outcome:
        try:
            with self._database.transaction() as connection:
                return _write(connection, statements, faults, self._clock())
        except StoreAway:
            raise
        except (tiles.Torn, LookupError) as error:
            raise StoreAway(f"the log is damaged: {error}") from error
        except Exception as error:
            if not statements:
                raise
            return self._without_the_culprit(statements, faults, error)

    def _without_the_culprit(self, statements: Sequence[Statement], faults: list[Fault], error: Exception) -> Outcome:
        """One event of a batch cannot be stored (a number or a text that SQLite refuses): find it by halving."""
        if len(statements) == 1:
            log.error("event cannot be stored", event_id=statements[0].envelope.id, exc_info=error)
            culprit = Fault(statements[0].arrival, "unstorable", f"{type(error).__name__}: {error}")
            return self._record([], [*faults, culprit])
        middle = len(statements) // 2
        return self._record(statements[:middle], faults) + self._record(statements[middle:], [])


def _write(connection: Connection, statements: Sequence[Statement], faults: list[Fault], now: str) -> Outcome:
    fresh, doubled, conflicts = _sort(connection, statements)
    size = facts.number(connection, facts.SIZE)
    rows, hashes = _seal(fresh, size, now)
    entries.insert(connection, rows)
    entries.put_tiles(connection, tiles.append(size, hashes, partial(entries.tile, connection)))
    project(connection, size, fresh, now)
    all_faults = [*faults, *conflicts]
    entries.quarantine(connection, all_faults, now)
    facts.put(connection, facts.SIZE, size + len(rows))
    if doubled:
        facts.put(connection, facts.DOUBLED, facts.number(connection, facts.DOUBLED) + doubled)
    return Outcome(len(rows), doubled, all_faults)


def state(connection: Connection, event: Event, now: str) -> int:
    """Make an event of the auditor's own an entry of the log, and have it published: in the transaction of what it
    tells of, so that there is never the one without the other. Returns its place.
    """
    message = wire.encode(event, owner="auditor", time=now)
    own = bus.AUDITOR_OWN
    statements, faults = understand([Arrival(message.subject, message.body, message.headers, own.name, own.stream, 0)])
    place = facts.number(connection, facts.SIZE)
    _write(connection, statements, faults, now)
    outbox.put(connection, message)
    return place


def _sort(connection: Connection, statements: Sequence[Statement]) -> tuple[list[Statement], int, list[Fault]]:
    """What is new, how many are known already, and which contradict an entry or one another."""
    known = entries.known(connection, {statement.envelope.id for statement in statements})
    fresh: dict[Identity, Statement] = {}
    doubled, conflicts = 0, []
    for statement in statements:
        event_id, identity = statement.envelope.id, statement.identity
        stored, before = known.get(identity), fresh.get(identity)
        if stored is None and before is None:
            fresh[identity] = statement
        elif (before is not None and statement.same_as(before)) or (stored and _is_same(statement, stored)):
            doubled += 1
        else:
            conflicts.append(
                Fault(statement.arrival, "conflict", f"another event has the id {event_id!r} already", event_id)
            )
    return list(fresh.values()), doubled, conflicts


def _is_same(statement: Statement, stored: entries.Known) -> bool:
    envelope = statement.envelope
    if (envelope.type, envelope.source) != (stored.type, stored.source):
        return False
    # Without its salt an erased payload cannot be compared any more; its id and type are what is left of it.
    return stored.salt is None or payload_hash(stored.salt, envelope.body) == stored.payload_hash


def _seal(statements: Sequence[Statement], size: int, now: str) -> tuple[list[entries.Entry], list[bytes]]:
    """The rows of new entries from place `size` on, and their leaf hashes."""
    random = os.urandom(SALT_BYTES * len(statements))
    rows, hashes = [], []
    for number, statement in enumerate(statements):
        envelope, arrival = statement.envelope, statement.arrival
        salt = random[number * SALT_BYTES : (number + 1) * SALT_BYTES]
        payload = payload_hash(salt, envelope.body)
        leaf = Leaf(now, envelope.id, payload.hex(), envelope.source, arrival.subject, envelope.time, envelope.type)
        headers = kept_headers(arrival.headers)
        rows.append(
            entries.Entry(
                size + number,
                leaf.event_id,
                leaf.type,
                leaf.source,
                leaf.subject,
                leaf.time,
                now,
                payload,
                salt,
                envelope.body,
                None if headers is None else json.dumps(headers),
            )
        )
        hashes.append(leaf_hash(canonical(leaf)))
    return rows, hashes
