"""Checking the auditor's word without its code: payload → leaf → root → signature.

RFC 6962 hashing, RFC 9162 inclusion proofs, C2SP signed notes (https://c2sp.org/signed-note) with Ed25519.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_ID_BYTES = 4


@dataclass(frozen=True)
class Note:
    """What a signed checkpoint says: this log held `size` entries with this root. `signature` in base64."""

    origin: str
    size: int
    root: bytes
    signature: str
    signed_text: str


def read_note(text: str) -> Note:
    """The checkpoint in `text`. Raises `ValueError` when it is none; the signature is not checked here."""
    body, _, signatures = text.partition("\n\n")
    origin, size, root = body.split("\n")[:3]
    return Note(origin, int(size), b64decode(root, validate=True), signatures.split()[-1], body + "\n")


def objection(proof: dict[str, Any], prediction_id: str, key: str) -> str:
    """Why `proof` does not show that this prediction is in the log that `key` signs for; empty where it does.

    `key`: `<origin>+<key id>+<base64 of a type byte and the public key>`, got on another way than the proof.
    """
    payload, leaf = b64decode(proof["payload"]), proof["leaf"].encode()
    note = read_note(proof["checkpoint"])
    if msgspec.json.decode(payload).get("id") != prediction_id:
        return "the payload is another one"
    if msgspec.json.decode(leaf)["payload"] != sha256(bytes.fromhex(proof["salt"]) + payload).hexdigest():
        return "the leaf does not commit to the payload"
    path = [bytes.fromhex(sibling) for sibling in proof["path"]]
    if not includes(sha256(b"\x00" + leaf).digest(), proof["index"], note.size, path, note.root):
        return "the path does not lead to the root"
    return "" if _is_signed(note, key) else "the root is not signed by the log's key"


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


def _is_signed(note: Note, key: str) -> bool:
    origin, _, encoded = key.strip().split("+", 2)
    signature = b64decode(note.signature)[KEY_ID_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(b64decode(encoded)[1:]).verify(signature, note.signed_text.encode())
    except InvalidSignature:
        return False
    return origin == note.origin


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
