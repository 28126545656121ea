"""A leaf of the log: what is sworn to of one event, without the event's payload.

A leaf commits to the payload by SHA-256(salt || payload). The salt lies beside the payload and is erased with it;
then nobody can guess what was there, and every proof still verifies.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec
from msgspec import Struct

LEAF_VERSION = 1
SALT_BYTES = 16


class Leaf(Struct, frozen=True):
    """The leaf's fields, in the order of RFC 8785, so that encoding a leaf is its canonical form.

    `payload` is the salted hash in hex, `time` what the publisher said, `audited_at` when the auditor took it.
    """

    audited_at: str
    event_id: str
    payload: str
    source: str
    subject: str
    time: str
    type: str
    v: int = LEAF_VERSION


_encoder = msgspec.json.Encoder()


def payload_hash(salt: bytes, payload: bytes) -> bytes:
    """SHA-256(salt || payload); `salt` has `SALT_BYTES` bytes."""
    return sha256(salt + payload).digest()


def canonical(leaf: Leaf) -> bytes:
    """The leaf's canonical JSON (RFC 8785): keys sorted, no blanks, and only strings and one integer in it."""
    return _encoder.encode(leaf)
