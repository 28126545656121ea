"""Cosigning for a third party: hold the log against what was seen of it before, then swear to it with an own key.

C2SP tlog-cosignature (Ed25519). What was seen last is kept in a file beside the key: there the log cannot reach.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.cli.home import write_private
from affiant.cli.services import Services
from affiant.common.errors import Conflict, NotFound, Problem
from affiant.verify.program import Note, Unreadable, consistent, read_key, read_note, signed_by

COSIGNATURE_V1 = b"\x04"


@dataclass(frozen=True)
class Notary:
    """Whoever cosigns: a name, a private key, and beside its file what was seen of the log."""

    name: str
    key: Ed25519PrivateKey
    path: Path

    @property
    def verifier_key(self) -> str:
        """What others verify the cosignatures with: `<name>+<key id>+<base64 of 0x04 and the public key>`."""
        return f"{self.name}+{self._key_id.hex()}+{b64encode(self._material).decode()}"

    @property
    def seen(self) -> Path:
        """The file with the newest checkpoint that was cosigned."""
        return self.path.with_name(self.path.name + ".seen")

    @property
    def _material(self) -> bytes:
        return COSIGNATURE_V1 + self.key.public_key().public_bytes_raw()

    @property
    def _key_id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + self._material).digest()[:4]

    def cosign(self, note: Note, moment: int) -> str:
        """The cosignature of `note` at `moment` (seconds since 1970), as a line of a signed note."""
        message = f"cosignature/v1\ntime {moment}\n{note.text}".encode()
        raw = self._key_id + moment.to_bytes(8, "big") + self.key.sign(message)
        return f"— {self.name} {b64encode(raw).decode()}"


def make_notary(path: Path, name: str) -> Notary:
    """A new key at `path` (mode 0600), with its public part in `<path>.vkey`. Raises `Conflict` where there is one."""
    if path.exists():
        raise Conflict(f"{path} exists already", hint="choose another file")
    if not name or any(letter.isspace() or letter == "+" for letter in name):
        raise Problem(f"{name!r} is no name of a key", hint="a URL without its scheme, such as notary.example/affiant")
    made = Notary(name, Ed25519PrivateKey.generate(), path)
    pem = made.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem.decode())
    path.with_name(path.name + ".vkey").write_text(made.verifier_key + "\n", encoding="utf-8")
    return made


def read_notary(path: Path) -> Notary:
    """The key at `path`, by the name in `<path>.vkey`. Raises `Problem`."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        name = read_key(path.with_name(path.name + ".vkey").read_text(encoding="utf-8")).name
    except (OSError, ValueError, Unreadable) as error:
        raise NotFound(f"cannot read the key {path}: {error}", hint="affiant cosign --help") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Problem(f"{path} holds no Ed25519 key")
    return Notary(name, key, path)


@dataclass(frozen=True)
class Sworn:
    """What was cosigned; `before` is the size that was seen last, 0 at the first time."""

    origin: str
    size: int
    before: int
    name: str


def cosign(services: Services, notary: Notary, log_key: str) -> Sworn:
    """Cosign the log's newest checkpoint. Raises `Problem` where it is not by `log_key`, or contradicts what was seen
    before: then nothing is sworn, and both checkpoints should be kept.
    """
    text = services.ask("auditor", "GET", "/checkpoint").text
    note = _signed(text, log_key)
    before = _seen(notary)
    if before is not None:
        _hold(services, before, note)
    line = notary.cosign(note, int(time.time()))
    # On the disk first: whoever swears and forgets would swear to another history next time.
    write_private(notary.seen, text)
    _sync(notary.seen)
    body = {"size": note.size, "line": line, "verifier_key": notary.verifier_key}
    services.post("auditor", "/v1/cosignatures", body)
    return Sworn(note.origin, note.size, before.size if before else 0, notary.name)


def _signed(text: str, log_key: str) -> Note:
    try:
        note, key = read_note(text), read_key(log_key)
    except Unreadable as error:
        raise Problem(f"cannot read the checkpoint or the log's key: {error}") from error
    if key.name != note.origin or not signed_by(note, key):
        raise Problem(f"the checkpoint of {note.origin} is not signed by the log's key", hint="keep it as evidence")
    return note


def _seen(notary: Notary) -> Note | None:
    try:
        return read_note(notary.seen.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, Unreadable) as error:
        raise Problem(f"cannot read what was seen before in {notary.seen}: {error}") from error


def _hold(services: Services, before: Note, now: Note) -> None:
    if before.origin != now.origin:
        raise Problem(f"this key cosigned {before.origin} before, not {now.origin}", hint="use a key for each log")
    if now.size < before.size:
        raise Problem(f"the log has {now.size} entries; {before.size} were seen before: it was rolled back")
    if now.size == before.size:
        holds = now.root == before.root
    else:
        found = services.get("auditor", "/v1/consistency", first=before.size, second=now.size)
        path = [bytes.fromhex(step) for step in found["proof"]]
        holds = consistent(before.size, now.size, before.root, now.root, path)
    if not holds:
        raise Problem(f"the log is not the one of which {before.size} entries were seen before: it was rewritten")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
