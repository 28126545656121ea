"""Checking the auditor's word without its code: payload → leaf → root → signature.

RFC 6962 hashing, RFC 9162 inclusion proofs, C2SP signed notes (https://c2sp.org/signed-note) with Ed25519. Nothing of
the auditor, which makes the proofs, is used here.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from affiant.common.events import PredictionLogged

KEY_ID_BYTES = 4
WITHOUT_KEY = "the log's public key is not at hand"
WITHOUT_CRYPTOGRAPHY = "install cryptography"


@dataclass(frozen=True)
class Note:
    """What a signed checkpoint says: this log held `size` entries with this root. `signature` in base64."""

    origin: str
    size: int
    root: bytes
    signature: str
    signed_text: str


@dataclass(frozen=True)
class Verdict:
    """What became of the check. `objection`: why the proof does not verify; empty where it does.

    `signature`: "verified", or why it was not checked; empty where the check did not come that far.
    """

    verifies: bool
    objection: str = ""
    signature: str = ""


def read_note(text: str) -> Note:
    """The checkpoint in `text`. Raises `ValueError` when it is none; the signature is not checked here."""
    body, _, signatures = text.partition("\n\n")
    origin, size, root = body.split("\n")[:3]
    return Note(origin, int(size), b64decode(root, validate=True), signatures.split()[-1], body + "\n")


def verdict(found: dict[str, Any], prediction_id: str, key: str) -> Verdict:
    """Whether the auditor's answer about a prediction holds: the record it shows is the one that the proof is of.

    `key` as for `objection`; empty where it is not known.
    """
    try:
        said = objection(found["proof"], prediction_id) or _other_record(found)
        if said or not key:
            return Verdict(not said, said, "" if said else f"not checked: {WITHOUT_KEY}")
        signed = is_signed(read_note(found["proof"]["checkpoint"]), key)
    except ImportError:
        return Verdict(True, signature=f"not checked: {WITHOUT_CRYPTOGRAPHY}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return Verdict(False, f"the proof cannot be read: {type(error).__name__}: {error}")
    return Verdict(True, signature="verified") if signed else Verdict(False, "the root is not signed by the log's key")


def objection(proof: dict[str, Any], prediction_id: str, key: str = "") -> str:
    """Why `proof` does not show that this prediction is in the log that `key` signs for; empty where it does.

    `key`: `<origin>+<key id>+<base64 of a type byte and the public key>`, got on another way than the proof; without
    it the signature is not looked at. Raises `ValueError` and `LookupError` for what is no proof.
    """
    payload, leaf = b64decode(proof["payload"]), proof["leaf"].encode()
    note, sworn = read_note(proof["checkpoint"]), msgspec.json.decode(leaf)
    if sworn["event_id"] != prediction_id or _data(payload).get("prediction_id") != prediction_id:
        return "the payload is another one"
    if sworn["payload"] != sha256(bytes.fromhex(proof["salt"]) + payload).hexdigest():
        return "the leaf does not commit to the payload"
    path = [bytes.fromhex(sibling) for sibling in proof["path"]]
    if not includes(sha256(b"\x00" + leaf).digest(), proof["index"], note.size, path, note.root):
        return "the path does not lead to the root"
    return "the root is not signed by the log's key" if key and not is_signed(note, key) else ""


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


def is_signed(note: Note, key: str) -> bool:
    """Whether `key` signed the note. Raises `ImportError` where the `cryptography` package is not installed."""
    # Only the auditor's extra brings it; everything up to the root is checked without.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    origin, _, encoded = key.strip().split("+", 2)
    signature = b64decode(note.signature)[KEY_ID_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(b64decode(encoded)[1:]).verify(signature, note.signed_text.encode())
    except InvalidSignature:
        return False
    return origin == note.origin


def _other_record(found: dict[str, Any]) -> str:
    """Why what is shown is not what was proven: a true proof of one record can stand under another."""
    sworn = msgspec.convert(_data(b64decode(found["proof"]["payload"])), PredictionLogged)
    shown = msgspec.convert(found["record"], PredictionLogged)
    return "" if sworn == shown else "the record that is shown is not the one in the payload"


def _data(payload: bytes) -> dict[str, Any]:
    """The prediction in an event's bytes: a structured CloudEvent, or the data alone (binary mode, plain JSON)."""
    event = msgspec.json.decode(payload, type=dict[str, Any])
    return dict(event["data"]) if "data" in event and "prediction_id" not in event else event


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
