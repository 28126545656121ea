"""Checkpoints: what the log swears to at a size, as a signed note (C2SP tlog-checkpoint, C2SP signed-note).

affiant.local/3f9c1a7e
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— affiant.local/3f9c1a7e Az3grlgtzPICa5OS8npVmf1Myq/5IZni…
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_ID_BYTES = 4
ED25519 = b"\x01"
"""The signature type of plain Ed25519 in signed-note."""


@dataclass(frozen=True)
class Checkpoint:
    """The log `origin` held `size` entries, and this was its root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed, with its last newline."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Signer:
    """Signs checkpoints under the origin's name with one Ed25519 key."""

    def __init__(self, origin: str, key: Ed25519PrivateKey) -> None:
        self.origin = origin
        self._key = key
        self._public = key.public_key().public_bytes_raw()
        self._key_id = sha256(origin.encode() + b"\n" + ED25519 + self._public).digest()[:4]

    def sign(self, size: int, root: bytes) -> str:
        """The signed note for this size and root."""
        text = Checkpoint(self.origin, size, root).text()
        signature = b64encode(self._key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.origin} {signature}\n"

    def has_signed(self, note: str) -> bool:
        """Whether the note's last signature is this key's over this note's text."""
        text, _, signature = note.rpartition("\n\n")
        try:
            given = b64decode(signature.split()[-1], validate=True)[len(self._key_id) :]
            self._key.public_key().verify(given, f"{text}\n".encode())
        except (InvalidSignature, ValueError, IndexError):
            return False
        return True

    @property
    def verifier_key(self) -> str:
        """What a verifier is given beforehand: `<origin>+<key id in hex>+<base64 of type and public key>`."""
        return f"{self.origin}+{self._key_id.hex()}+{b64encode(ED25519 + self._public).decode()}"


def is_signed(note: str, verifier_key: str) -> bool:
    """Whether the note's last signature is that of `verifier_key` (`Signer.verifier_key`) over its text."""
    text, _, signature = note.rpartition("\n\n")
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(verifier_key.split("+", 2)[2], validate=True)[1:])
        given = b64decode(signature.split()[-1], validate=True)[KEY_ID_BYTES:]
        key.verify(given, f"{text}\n".encode())
    except (InvalidSignature, ValueError, IndexError):
        return False
    return True


def parse(note: str) -> Checkpoint:
    """What a note says; its signatures are not looked at. Raises `ValueError` when it is not a checkpoint."""
    text, separator, _ = note.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3:
        raise ValueError("not a signed checkpoint")
    root = b64decode(lines[2], validate=True)
    if len(root) != 32:
        raise ValueError(f"a root hash has 32 bytes, not {len(root)}")
    return Checkpoint(lines[0], int(lines[1]), root)
