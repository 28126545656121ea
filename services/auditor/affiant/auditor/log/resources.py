"""The log as static resources (C2SP tlog-tiles): names of tiles and bundles, and how entries lie in a bundle.

`tile/<L>/<N>[.p/<W>]` are hashes, `tile/entries/<N>[.p/<W>]` the leaves, each after its length in two bytes. Beside
them, of our own and under the same numbers, `payload/<N>[.p/<W>]`: what the leaves commit to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from affiant.auditor.log.tiles import TILE_WIDTH

MOST_LEAF_BYTES = 2**16 - 1
ERASED, PRESENT, WITHHELD = b"\x00", b"\x01", b"\x02"
"""How a record of a payload bundle begins. `PRESENT` goes on: length in four bytes, salt, payload; the others end."""

_NUMBER = re.compile(r"((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class Place(NamedTuple):
    """Bundle or tile `number` of its level, with its first `width` entries or hashes."""

    number: int
    width: int

    @property
    def first(self) -> int:
        """The first entry of a bundle."""
        return int(self.number * TILE_WIDTH)


def read_place(path: str) -> Place:
    """`x001/x234/067.p/5` → (1234067, 5). Raises `ValueError` for anything that tlog-tiles does not write."""
    found = _NUMBER.fullmatch(path)
    if found is None:
        raise ValueError(f"{path!r} names no tile")
    number = int(found[1].replace("x", "").replace("/", "") + found[2])
    width = int(found[3] or TILE_WIDTH)
    # One name for each tile: no leading x000, and a full one has no width.
    if width > TILE_WIDTH - bool(found[3]) or found[1].startswith("x000"):
        raise ValueError(f"{path!r} names no tile")
    return Place(number, width)


def entry_bundle(leaves: Iterable[bytes]) -> bytes:
    """Leaves side by side. What is gone from the store is an empty one: then the others can still be verified."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def payload_record(salt: bytes | None, body: bytes | None) -> bytes:
    """One record of a payload bundle: what the leaf commits to, or that it was erased."""
    if salt is None or body is None:
        return ERASED
    return b"".join((PRESENT, len(body).to_bytes(4, "big"), salt, body))
