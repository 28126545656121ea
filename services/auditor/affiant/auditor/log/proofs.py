"""Roots, inclusion proofs and consistency proofs (RFC 6962 sections 2.1.1 and 2.1.2).

Each function is given a reader of full subtrees (`tiles.nodes`) and reads O(log n) of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from affiant.auditor.log.hashing import EMPTY_ROOT, node_hash
from affiant.auditor.log.tiles import ReadNode


def root(size: int, node: ReadNode) -> bytes:
    """The root of the first `size` entries."""
    return _root(0, size, node) if size else EMPTY_ROOT


def inclusion(index: int, size: int, node: ReadNode) -> list[bytes]:
    """The audit path of entry `index` (from 0) in the log of `size` entries, from the leaf's sibling upwards.

    Raises `ValueError` when the log of that size has no such entry.
    """
    if not 0 <= index < size:
        raise ValueError(f"a log of {size} entries has no entry {index}")
    return _inclusion(index, 0, size, node)


def consistency(first: int, second: int, node: ReadNode) -> list[bytes]:
    """The proof that the log of `first` entries is the beginning of the log of `second` entries.

    Empty where the sizes are equal. Raises `ValueError` unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ValueError(f"a log of {first} entries cannot be the beginning of one of {second}")
    return _consistency(first, 0, second, node, whole=True)


def _root(low: int, high: int, node: ReadNode) -> bytes:
    width = high - low
    if width & (width - 1) == 0:
        return node(width.bit_length() - 1, low // width)
    middle = low + _split(width)
    return node_hash(_root(low, middle, node), _root(middle, high, node))


def _inclusion(index: int, low: int, high: int, node: ReadNode) -> list[bytes]:
    if high - low == 1:
        return []
    middle = low + _split(high - low)
    if index < middle:
        return [*_inclusion(index, low, middle, node), _root(middle, high, node)]
    return [*_inclusion(index, middle, high, node), _root(low, middle, node)]


def _consistency(first: int, low: int, high: int, node: ReadNode, *, whole: bool) -> list[bytes]:
    """RFC 6962's SUBPROOF; `whole` is its flag b: the verifier knows the root of this subtree already."""
    if first == high:
        return [] if whole else [_root(low, high, node)]
    middle = low + _split(high - low)
    if first <= middle:
        return [*_consistency(first, low, middle, node, whole=whole), _root(middle, high, node)]
    return [*_consistency(first, middle, high, node, whole=False), _root(low, middle, node)]


def _split(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def climb(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from the leaf hash of entry `index`; `path` as long as `inclusion` made it."""
    if size == 1:
        return leaf
    middle, sibling = _split(size), path[-1]
    if index < middle:
        return node_hash(climb(index, middle, leaf, path[:-1]), sibling)
    return node_hash(sibling, climb(index - middle, size - middle, leaf, path[:-1]))
