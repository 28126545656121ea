"""Checking the auditor's word without its code: an inclusion proof (RFC 6962) against a signed checkpoint (C2SP)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Note:
    """What a signed checkpoint says: this log held `size` entries with this root. `signature` in base64."""

    origin: str
    size: int
    root: bytes
    signature: str


def read_note(text: str) -> Note:
    """The checkpoint in `text`. Raises `ValueError` when it is none; the signature is not checked here."""
    body, _, signatures = text.partition("\n\n")
    origin, size, root = body.split("\n")[:3]
    return Note(origin, int(size), b64decode(root, validate=True), signatures.split()[-1])


def includes(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from the leaf at `index` to the root of the tree of `size` leaves (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, reached = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            reached = _node(sibling, reached)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            reached = _node(reached, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and reached == root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
