"""Holding what is stored against what was sworn: payload → leaf → tree → signed root."""

from __future__ import annotations

import structlog

from affiant.auditor.actions.checkpoints import reader
from affiant.auditor.actions.project import decode
from affiant.auditor.domain.leaf import Leaf, canonical, payload_hash
from affiant.auditor.log import proofs, tiles
from affiant.auditor.log.hashing import leaf_hash
from affiant.auditor.store import checkpoints, entries, erasures
from affiant.auditor.store.database import Connection
from affiant.auditor.store.entries import Entry
from affiant.common.errors import Problem
from affiant.common.events import PayloadErased

log = structlog.get_logger(__name__)

ADVICE = "keep the store as evidence, restore from a back-up, compare with the witness's checkpoints"
REMOVED = "it was removed"


def altered(index: int, why: str) -> Problem:
    """The error that is answered instead of an entry which is not what was sworn to; it is logged too."""
    log.error("an entry of the log was altered", index=index, reason=why)
    return Problem(f"entry {index} of the log was altered: {why}", status=500, hint=ADVICE, details={"index": index})


def leaf_of(entry: Entry) -> bytes:
    """The canonical leaf of a stored entry."""
    return canonical(
        Leaf(
            audited_at=entry.audited_at,
            event_id=entry.event_id,
            payload=entry.payload_hash.hex(),
            source=entry.source,
            subject=entry.subject,
            time=entry.time,
            type=entry.type,
        )
    )


def objection(entry: Entry, sworn: bytes, *, is_erased: bool = False) -> str:
    """Why the entry is not the one whose leaf hash is `sworn`; empty where it is."""
    if entry.body is None or entry.salt is None:
        if not is_erased:
            return "its payload was removed, and no entry of the log says that it was erased"
    elif payload_hash(entry.salt, entry.body) != entry.payload_hash:
        return "the stored payload is not the one that was sworn to"
    if leaf_hash(leaf_of(entry)) != sworn:
        return "its leaf is not the one in the tree"
    return ""


def erased(connection: Connection, low: int, high: int) -> set[int]:
    """The entries from `low` to below `high` that were erased, by the word of entries that are what they should be."""
    by_statement: dict[int, set[int]] = {}
    for index, statement in erasures.between(connection, low, high).items():
        by_statement.setdefault(statement, set()).add(index)
    found: set[int] = set()
    node = reader(connection)
    for entry in entries.of(connection, sorted(by_statement)):
        event = None if objection(entry, node(0, entry.idx)) else decode(entry)
        if isinstance(event, PayloadErased):
            found |= by_statement[entry.idx] & {line.index for line in event.entries}
    return found


def leads(node: tiles.ReadNode, index: int, signed: checkpoints.Signed) -> bool:
    """Whether the stored tree leads from the leaf at `index` to the root that was signed over it."""
    path = proofs.inclusion(index, signed.size, node)
    return proofs.climb(index, signed.size, node(0, index), path) == signed.root


def check(connection: Connection, entry: Entry) -> None:
    """Raises the `Problem` of `altered` where the entry is not what the newest checkpoint was signed over.

    An entry that is not under a checkpoint yet is held against the tree alone.
    """
    node, signed = reader(connection), checkpoints.last(connection)
    try:
        is_erased = entry.body is None and entry.idx in erased(connection, entry.idx, entry.idx + 1)
        why = objection(entry, node(0, entry.idx), is_erased=is_erased)
        if not why and signed is not None and entry.idx < signed.size and not leads(node, entry.idx, signed):
            why = f"the tree does not lead from it to the root signed over {signed.size} entries"
    except (LookupError, tiles.Torn) as error:
        why = f"the tree was altered: {error}"
    if why:
        raise altered(entry.idx, why)
