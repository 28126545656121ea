"""The log's signing key: made once, at the first start, readable by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.common.errors import Problem


def read_key(path: Path) -> Ed25519PrivateKey:
    """The key in the PEM file at `path`. Raises `Problem` when it cannot be read or is another kind of key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise Problem(f"cannot read the log's signing key {path}: {error}", status=500) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Problem(f"{path} holds no Ed25519 key", status=500)
    return key


def make_key(path: Path) -> Ed25519PrivateKey:
    """A new key, kept at `path` (mode 0600), on the disk before this returns. An existing file is an error."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # Under another name first: a process that dies here must not leave half a key behind.
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    os.link(draft, path)
    draft.unlink()
    _sync_folder(path.parent)
    return key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
