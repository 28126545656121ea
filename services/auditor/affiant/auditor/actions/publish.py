"""The log as files that everybody can keep and check: tiles, bundles of leaves, bundles of payloads.

Nothing is held against what was sworn here, unlike everywhere else: whoever verifies wants to see what there is.
"""

from __future__ import annotations

from functools import partial

from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.sworn import leaf_of
from affiant.auditor.log import resources
from affiant.auditor.log.hashing import HASH_BYTES
from affiant.auditor.log.resources import Place, read_place
from affiant.auditor.store import entries, facts
from affiant.auditor.store.database import Connection
from affiant.common.errors import NotFound

MOST_LEVELS = 64


class Shelf:
    """Reads the log's resources. Each raises `NotFound` for what the log does not have (yet)."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def tile(self, level: int, path: str) -> bytes:
        """The hashes of a tile."""
        place = _place(path)
        if not 0 <= level < MOST_LEVELS:
            raise NotFound(f"the log has no tiles of level {level}")
        return await self._lookup.ask(partial(_tile, level=level, place=place))

    async def leaves(self, path: str) -> tuple[bytes, bool]:
        """A bundle of leaves, and whether every one of them is there."""
        place = _place(path)
        return await self._lookup.ask(partial(_leaves, place=place))

    async def payloads(self, path: str, low: int, high: int) -> tuple[bytes, int, int]:
        """A bundle of payloads, those of entries below `low` or from `high` on withheld; and the first entry that is
        shown, and the one after the last."""
        place = _place(path)
        bundle = await self._lookup.ask(partial(_payloads, place=place, low=low, high=high))
        return bundle, max(low, place.first), min(high, place.first + place.width)


def _place(path: str) -> Place:
    try:
        return read_place(path)
    except ValueError as error:
        raise NotFound(str(error), hint="see https://c2sp.org/tlog-tiles: 1234067 is x001/x234/067") from error


def _tile(connection: Connection, level: int, place: Place) -> bytes:
    try:
        hashes = entries.tile(connection, level, place.number)[: place.width * HASH_BYTES]
    except LookupError as error:
        raise NotFound(str(error)) from error
    if len(hashes) != place.width * HASH_BYTES:
        raise NotFound(f"the log has no tile {level}/{place.number} of width {place.width} yet")
    return hashes


def _held(connection: Connection, place: Place) -> list[entries.Entry | None]:
    """The entries of a bundle, None for one that is gone."""
    last = place.first + place.width
    if last > facts.number(connection, facts.SIZE):
        raise NotFound(f"the log does not have {last} entries yet")
    found = {entry.idx: entry for entry in entries.between(connection, place.first, last)}
    return [found.get(index) for index in range(place.first, last)]


def _leaves(connection: Connection, place: Place) -> tuple[bytes, bool]:
    held = _held(connection, place)
    return resources.entry_bundle(leaf_of(one) if one else b"" for one in held), None not in held


def _payloads(connection: Connection, place: Place, low: int, high: int) -> bytes:
    return b"".join(
        resources.payload_record(one and one.salt, one and one.body) if low <= index < high else resources.WITHHELD
        for index, one in enumerate(_held(connection, place), place.first)
    )
