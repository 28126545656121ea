"""The tree's hashes, cut into tiles (C2SP tlog-tiles).

A tile holds up to 256 hashes side by side: tile (level, position) those of the full subtrees of 256**level leaves
numbered position × 256 and up. The hashes between two tile levels are computed from the tile when they are needed,
so the store keeps one row for 256 entries and a proof reads a handful of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from affiant.auditor.log.hashing import HASH_BYTES, subtree_hash

TILE_HEIGHT = 8
TILE_WIDTH = 2**TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

Address = tuple[int, int]
ReadTile = Callable[[int, int], bytes]
"""(level, position) → the tile's hashes, concatenated; raises `LookupError` where there is none."""
ReadNode = Callable[[int, int], bytes]
"""(height, number) → the hash of the full subtree of 2**height leaves that starts at leaf number × 2**height."""


class Torn(Exception):
    """The tiles do not agree with the size of the log: something else wrote to the store."""


def append(size: int, leaf_hashes: Sequence[bytes], read: ReadTile) -> dict[Address, bytes]:
    """The tiles that change when `leaf_hashes` are appended to a log of `size` entries, by address.

    Reads at most one partial tile for each level. Raises `Torn` when a partial tile is not as wide as `size` says.
    """
    changed: dict[Address, bytes] = {}
    level, start, hashes = 0, size, b"".join(leaf_hashes)
    while hashes:
        position, filled = divmod(start, TILE_WIDTH)
        tail = _partial(read, level, position, filled) + hashes
        complete = []
        for number, at in enumerate(range(0, len(tail), TILE_BYTES)):
            tile = tail[at : at + TILE_BYTES]
            changed[level, position + number] = tile
            if len(tile) == TILE_BYTES:
                complete.append(subtree_hash(tile))
        level, start, hashes = level + 1, position, b"".join(complete)
    return changed


def _partial(read: ReadTile, level: int, position: int, filled: int) -> bytes:
    if not filled:
        return b""
    tile = read(level, position)
    if len(tile) != filled * HASH_BYTES:
        raise Torn(f"tile {level}/{position} holds {len(tile) // HASH_BYTES} hashes instead of {filled}")
    return tile


def nodes(read: ReadTile) -> ReadNode:
    """A reader of nodes over a reader of tiles. Raises `Torn` when a tile is too narrow for the node asked for."""

    def node(height: int, number: int) -> bytes:
        level, rest = divmod(height, TILE_HEIGHT)
        position, first = divmod(number << rest, TILE_WIDTH)
        hashes = read(level, position)[first * HASH_BYTES : (first + (1 << rest)) * HASH_BYTES]
        if len(hashes) != HASH_BYTES << rest:
            raise Torn(f"tile {level}/{position} ends before the subtree of height {height} at {number}")
        return subtree_hash(hashes)

    return node
