"""Checking the whole store: is what it holds what the checkpoints were signed over?

Small pieces (a tile of 256 entries), each with a view of the store of its own, so that the writer is never held up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import structlog

from affiant.auditor.actions import sworn
from affiant.auditor.actions.checkpoints import Checkpoints, reader
from affiant.auditor.actions.look import Lookup
from affiant.auditor.domain.views import Damage, Integrity
from affiant.auditor.log import tiles
from affiant.auditor.log.hashing import HASH_BYTES
from affiant.auditor.store import checkpoints, entries, facts, holes
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common.errors import Unavailable
from affiant.common.events import BY_TYPE, ExplanationFailed, PredictionExplained, PredictionLogged

log = structlog.get_logger(__name__)

MOST_ENTRIES = 200_000
MOST_TOLD = 20
_PREDICTIONS = {kind for kind, event in BY_TYPE.items() if event is PredictionLogged}
_EXPLANATIONS = {kind for kind, event in BY_TYPE.items() if event in (PredictionExplained, ExplanationFailed)}


class _Frame(NamedTuple):
    size: int
    signed: checkpoints.Signed | None
    damage: list[Damage]


class Inspector:
    """Looks at everything up to `most` entries; beyond that at the newest half of them and a random sample."""

    def __init__(self, lookup: Lookup, signing: Checkpoints, most: int = MOST_ENTRIES) -> None:
        self._lookup = lookup
        self._signing = signing
        self._most = most

    async def look(self) -> Integrity:
        """What was found. Raises `Unavailable` when the store cannot be read or written."""
        fault = await self._fault()
        size, signed, damage = await self._lookup.ask(_frame)
        if signed is not None and not self._signing.vouches(signed):
            damage.append(Damage(None, f"the checkpoint over {signed.size} entries is not the one that was signed"))
        checked = 0
        for position in self._positions(size):
            low, high = position * tiles.TILE_WIDTH, min((position + 1) * tiles.TILE_WIDTH, size)
            damage += await self._lookup.ask(partial(_tile, low=low, high=high, signed=signed))
            checked += high - low
        damage = _told([*([Damage(None, fault)] if fault else []), *damage])
        if damage:
            log.error("the store is not what was sworn to", damaged=len(damage), first=damage[0].said)
        over, root = (signed.size, signed.root.hex()) if signed else (0, "")
        return Integrity(not damage, size, checked, over, root, sworn.ADVICE if damage else "", damage[:MOST_TOLD])

    async def _fault(self) -> str:
        try:
            # Signed first, so that the newest entries are under a checkpoint too.
            await self._signing.sign()
            return await self._signing.hold()
        except StoreAway as error:
            raise Unavailable(f"the store cannot be checked now: {error}", hint="try again in a moment") from error

    def _positions(self, size: int) -> Iterator[int]:
        every, most = -(-size // tiles.TILE_WIDTH), max(self._most // tiles.TILE_WIDTH, 2)
        if every <= most:
            yield from range(every)
            return
        newest = most // 2
        yield from sorted(random.sample(range(every - newest), most - newest))
        yield from range(every - newest, every)


def _told(damage: list[Damage]) -> list[Damage]:
    """Each once; what concerns the whole log first, then by place."""
    return sorted(set(damage), key=lambda one: (one.index is not None, one.index or 0, one.said))


def _frame(connection: Connection) -> _Frame:
    size, damage = facts.number(connection, facts.SIZE), []
    missing, beyond = holes.first_missing(connection, size), holes.surplus(connection, size)
    if missing is not None:
        damage.append(_of(missing, sworn.REMOVED))
    if beyond is not None:
        damage.append(_of(beyond, f"it was put into a log of {size}"))
    return _Frame(size, checkpoints.last(connection), damage)


def _of(index: int, why: str) -> Damage:
    return Damage(index, f"entry {index} of the log was altered: {why}")


def _tile(connection: Connection, low: int, high: int, signed: checkpoints.Signed | None) -> list[Damage]:
    stored = {entry.idx: entry for entry in entries.between(connection, low, high)}
    try:
        hashes = entries.tile(connection, 0, low // tiles.TILE_WIDTH)
        damage = _of_entries(stored, hashes, low, high, sworn.erased(connection, low, high))
        if signed is not None and low < signed.size and not sworn.leads(reader(connection), low, signed):
            why = f"do not lead to the root signed over {signed.size} entries"
            damage.append(Damage(low, f"the hashes of entries {low} to {high - 1} {why}"))
    except (LookupError, tiles.Torn) as error:
        damage = [Damage(low, f"the tree was altered: {error}")]
    return [*damage, *_of_tables(connection, stored, low, high)]


def _of_entries(stored: dict[int, entries.Entry], hashes: bytes, low: int, high: int, erased: set[int]) -> list[Damage]:
    damage = []
    for index in range(low, high):
        expected = hashes[(index - low) * HASH_BYTES :][:HASH_BYTES]
        entry = stored.get(index)
        why = sworn.objection(entry, expected, is_erased=index in erased) if entry else sworn.REMOVED
        if why:
            damage.append(_of(index, why))
    return damage


def _of_tables(connection: Connection, stored: dict[int, entries.Entry], low: int, high: int) -> list[Damage]:
    """Look-up rows that were removed, or belong to no such entry; an entry that is gone is told by itself."""
    damage = []
    for table, kinds in (("predictions", _PREDICTIONS), ("explanations", _EXPLANATIONS)):
        wanted = {index for index, entry in stored.items() if entry.type in kinds}
        found = holes.projected(connection, table, low, high) & stored.keys()  # type: ignore[arg-type]
        damage += [_of(index, f"its row in the table of {table} was removed") for index in wanted - found]
        damage += [_of(index, f"the table of {table} has a row for it") for index in found - wanted]
    return damage
