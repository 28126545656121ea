"""A verifier that shares no code with the log: RFC 9162 sections 2.1.3.2 and 2.1.4.2, C2SP signed-note."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def pair(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def included(leaf_hash: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    if index >= size:
        return False
    number, last, running = index, size - 1, leaf_hash
    for step in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            running = pair(step, running)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            running = pair(running, step)
        number, last = number >> 1, last >> 1
    return last == 0 and running == root


def consistent(first: int, second: int, first_root: bytes, second_root: bytes, path: list[bytes]) -> bool:
    if first == second:
        return not path and first_root == second_root
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = pair(step, old), pair(step, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = pair(new, step)
        number, last = number >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def opened(note: str, verifier_key: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint whose signature holds; raises what goes wrong otherwise."""
    name, key_id, encoded = verifier_key.split("+", 2)
    text, signatures = note.rsplit("\n\n", 1)
    signature = next(line.split(" ")[2] for line in signatures.splitlines() if line.startswith(f"— {name} "))
    raw = b64decode(signature)
    assert raw[:4].hex() == key_id
    Ed25519PublicKey.from_public_bytes(b64decode(encoded)[1:]).verify(raw[4:], (text + "\n").encode())
    origin, size, root = text.split("\n")[:3]
    return origin, int(size), b64decode(root)
