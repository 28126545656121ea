"""NKeys: the Ed25519 key pairs by which users of the bus prove who they are.

The server's configuration holds the public key only, so that whoever reads it can let nobody in. A user key is
written in base32 (github.com/nats-io/nkeys): the public key as `U…`, the seed as `SU…`, each with a CRC-16 (XMODEM)
of all that stands before it, little-endian, at its end. The package `nkeys` has no wheel; what is needed of it is
below, signed with `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from affiant.common.errors import Problem

_SEED = 18 << 3  # base32 writes it as S
_USER = 20 << 3  # … U
_RAW_BYTES = 32


class NKey:
    """A user's key pair."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._key = Ed25519PrivateKey.from_private_bytes(raw)

    @classmethod
    def generate(cls) -> NKey:
        """A new key pair from the system's random numbers."""
        return cls(secrets.token_bytes(_RAW_BYTES))

    @classmethod
    def from_seed(cls, text: str) -> NKey:
        """The key pair of a user's seed (`SU…`). Raises `Problem`, which never repeats the text."""
        try:
            found = base64.b32decode(text.strip().encode() + b"=" * (-len(text.strip()) % 8))
        except (binascii.Error, ValueError) as error:
            raise Problem("an NKey seed is base32 text that begins with SU") from error
        body, check = found[:-2], found[-2:]
        if len(found) != _RAW_BYTES + 4 or _crc(body) != check:
            raise Problem("the NKey seed is damaged: its length or its check sum is wrong")
        kind = (body[0] & 0b111) << 5 | (body[1] & 0b1111_1000) >> 3
        if body[0] & 0b1111_1000 != _SEED or kind != _USER:
            raise Problem("this is an NKey, but not the seed of a user (SU…)")
        return cls(body[2:])

    @property
    def seed(self) -> str:
        """The secret half, as it is kept in a file."""
        # The five bits of the kind follow the five of the prefix.
        return _text(bytes([_SEED | _USER >> 5, (_USER & 0b1_1111) << 3]) + self._raw)

    @property
    def public(self) -> str:
        """The public half, as the server's configuration names the user."""
        return _text(bytes([_USER]) + self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, nonce: bytes) -> bytes:
        """The signature of what the server asks to have signed: 64 bytes."""
        return self._key.sign(nonce)


def read(path: str | Path) -> NKey:
    """The key pair whose seed is in the file at `path`. Raises `Problem` naming the file."""
    try:
        return NKey.from_seed(Path(path).read_text(encoding="ascii"))
    except OSError as error:
        raise Problem(f"cannot read the NKey file {path}: {error.strerror}") from error
    except (Problem, UnicodeDecodeError) as error:
        raise Problem(f"{path} holds no NKey: {error}", hint="affiant bootstrap writes them") from error


def _text(body: bytes) -> str:
    return base64.b32encode(body + _crc(body)).decode().rstrip("=")


def _crc(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0).to_bytes(2, "little")
