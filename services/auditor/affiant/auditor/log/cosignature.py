"""What others swear of our checkpoints (C2SP tlog-cosignature, Ed25519): that they saw no contradiction until then."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

COSIGNATURE_V1 = b"\x04"
_BYTES = 4 + 8 + 64


@dataclass(frozen=True)
class Cosigner:
    """Who cosigns: a name and an Ed25519 public key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name, newline, 0x04, public key)."""
        return sha256(self.name.encode() + b"\n" + COSIGNATURE_V1 + self.public).digest()[:4]

    def cosigned(self, line: str, text: str) -> bool:
        """Whether `line` (of a signed note, without its newline) is this one's cosignature of the checkpoint `text`."""
        parts = line.split(" ")
        if len(parts) != 3 or parts[:2] != ["—", self.name]:
            return False
        try:
            raw = b64decode(parts[2], validate=True)
            if len(raw) != _BYTES or raw[:4] != self.key_id:
                return False
            message = f"cosignature/v1\ntime {int.from_bytes(raw[4:12], 'big')}\n{text}"
            Ed25519PublicKey.from_public_bytes(self.public).verify(raw[12:], message.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def cosigner(verifier_key: str) -> Cosigner:
    """From `<name>+<key id>+<base64 of 0x04 and the public key>`. Raises `ValueError` for anything else."""
    name, key_id, encoded = verifier_key.strip().split("+", 2)
    material = b64decode(encoded, validate=True)
    found = Cosigner(name, material[1:])
    if material[:1] != COSIGNATURE_V1 or len(material) != 33:
        raise ValueError(f"the key of {name} is no Ed25519 cosigner's")
    if not name or " " in name or found.key_id.hex() != key_id.lower():
        raise ValueError(f"the key of {name or 'nobody'} does not have the id {key_id}")
    return found
