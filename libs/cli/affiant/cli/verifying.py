"""Checking the auditor's word about one prediction: payload → leaf → root → signature, by the verifier's own functions.

Nothing of the auditor, which makes the proofs, is used here.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from affiant.common.events import PredictionLogged
from affiant.verify.program import (
    Note as Note,
    Unreadable,
    includes as includes,
    leaf_hash,
    read_key,
    read_note as read_note,
    signed_by,
)

WITHOUT_KEY = "the log's public key is not at hand"
WITHOUT_CRYPTOGRAPHY = "install cryptography"
_UNREADABLE = (Unreadable, ValueError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class Verdict:
    """What became of the check. `objection`: why the proof does not verify; empty where it does.

    `signature`: "verified", or why it was not checked; empty where the check did not come that far.
    """

    verifies: bool
    objection: str = ""
    signature: str = ""


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
    except _UNREADABLE as error:
        return Verdict(False, f"the proof cannot be read: {type(error).__name__}: {error}")
    return Verdict(True, signature="verified") if signed else Verdict(False, "the root is not signed by the log's key")


def objection(proof: dict[str, Any], prediction_id: str, key: str = "") -> str:
    """Why `proof` does not show that this prediction is in the log that `key` signs for; empty where it does.

    `key`: `<origin>+<key id>+<base64 of a type byte and the public key>`, got on another way than the proof; without
    it the signature is not looked at. Raises `ValueError` and `LookupError` for what is no proof.
    """
    leaf = proof["leaf"].encode()
    note, sworn = read_note(proof["checkpoint"]), msgspec.json.decode(leaf)
    if sworn["event_id"] != prediction_id:
        return "the leaf is another one"
    if proof["payload"] is not None or proof["salt"] is not None:
        payload = b64decode(proof["payload"])
        if _data(payload).get("prediction_id") != prediction_id:
            return "the payload is another one"
        if sworn["payload"] != sha256(bytes.fromhex(proof["salt"]) + payload).hexdigest():
            return "the leaf does not commit to the payload"
    path = [bytes.fromhex(sibling) for sibling in proof["path"]]
    if not includes(leaf_hash(leaf), proof["index"], note.size, path, note.root):
        return "the path does not lead to the root"
    return "the root is not signed by the log's key" if key and not is_signed(note, key) else ""


def is_signed(note: Note, key: str) -> bool:
    """Whether `key` signed the note. Raises `ImportError` where the `cryptography` package is not installed."""
    signer = read_key(key)
    return signer.name == note.origin and signed_by(note, signer)


def _other_record(found: dict[str, Any]) -> str:
    """Why what is shown is not what was proven: a true proof of one record can stand under another."""
    if found["proof"]["payload"] is None:
        if found["record"] is not None or not found.get("erased"):
            return "the payload is not there, and nothing says that it was erased"
        return ""
    sworn = msgspec.convert(_data(b64decode(found["proof"]["payload"])), PredictionLogged)
    shown = msgspec.convert(found["record"], PredictionLogged)
    return "" if sworn == shown else "the record that is shown is not the one in the payload"


def _data(payload: bytes) -> dict[str, Any]:
    """The prediction in an event's bytes: a structured CloudEvent, or the data alone (binary mode, plain JSON)."""
    event = msgspec.json.decode(payload, type=dict[str, Any])
    return dict(event["data"]) if "data" in event and "prediction_id" not in event else event
