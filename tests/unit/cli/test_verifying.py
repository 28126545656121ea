"""The check of a proof, against trees of every small size."""

import json
import sys
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.cli import verifying
from affiant.cli.verifying import Verdict
from affiant.verify.program import Unreadable

RECORD: dict[str, Any] = {
    "prediction_id": "p1",
    "model": "loan",
    "version": 1,
    "digest": "sha256:00",
    "received_at": "2026-11-23T10:00:00.000000Z",
    "status": "answered",
    "labels": ["denied"],
    "scores": [0.35],
    "adverse": [True],
}


def _root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + _root(leaves[:k]) + _root(leaves[k:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < k:
        return [*_path(index, leaves[:k]), _root(leaves[k:])]
    return [*_path(index - k, leaves[k:]), _root(leaves[:k])]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 65])
def test_every_leaf_of_a_tree_is_found_in_it(size: int) -> None:
    leaves = [sha256(bytes([n])).digest() for n in range(size)]
    assert all(verifying.includes(leaf, n, size, _path(n, leaves), _root(leaves)) for n, leaf in enumerate(leaves))


def test_another_leaf_another_place_or_another_root_is_not_believed() -> None:
    leaves = [sha256(bytes([n])).digest() for n in range(13)]
    path, root = _path(4, leaves), _root(leaves)
    assert not verifying.includes(leaves[5], 4, 13, path, root)
    assert not verifying.includes(leaves[4], 5, 13, path, root)
    assert not verifying.includes(leaves[4], 4, 13, path[:-1], root)
    assert not verifying.includes(leaves[4], 4, 13, [*path, root], root)
    assert not verifying.includes(leaves[4], 99, 13, path, root)
    assert not verifying.includes(leaves[4], 4, 13, path, leaves[0])


def proved() -> tuple[dict[str, Any], str]:
    """A proof of prediction p1 in a log of seven, with the key that signs for it."""
    signer = Ed25519PrivateKey.generate()
    payload, salt = json.dumps({"id": "p1", "data": RECORD}).encode(), bytes(16)
    leaf = json.dumps({"event_id": "p1", "payload": sha256(salt + payload).hexdigest()}).encode()
    leaves = [sha256(b"\x00" + (leaf if n == 4 else bytes([n]))).digest() for n in range(7)]
    text = f"log.example\n7\n{b64encode(_root(leaves)).decode()}\n"
    material = b"\x01" + signer.public_key().public_bytes_raw()
    key_id = sha256(b"log.example\n" + material).digest()[:4]
    signature = b64encode(key_id + signer.sign(text.encode())).decode()
    proof = {
        "payload": b64encode(payload).decode(), "salt": salt.hex(), "leaf": leaf.decode(), "index": 4,
        "path": [sibling.hex() for sibling in _path(4, leaves)], "checkpoint": f"{text}\n— log.example {signature}\n",
    }  # fmt: skip
    return proof, f"log.example+{key_id.hex()}+{b64encode(material).decode()}\n"


def test_a_true_proof_meets_no_objection() -> None:
    proof, key = proved()
    assert verifying.objection(proof, "p1", key) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"payload": b64encode(b'{"data":{"prediction_id":"p2"}}').decode()}, "another one"),
        ({"payload": b64encode(b'{"data":{"prediction_id":"p1","changed":1}}').decode()}, "does not commit"),
        ({"salt": "11" * 16}, "does not commit"),
        ({"index": 5}, "does not lead"),
        ({"path": []}, "does not lead"),
    ],
)
def test_each_false_link_is_named(change: dict[str, Any], words: str) -> None:
    proof, key = proved()
    assert words in verifying.objection(proof | change, "p1", key)


def test_a_root_that_another_key_signed_is_not_believed() -> None:
    (proof, key), (_, other) = proved(), proved()
    assert "not signed" in verifying.objection(proof, "p1", other)
    with pytest.raises(Unreadable, match="does not have the id"):
        verifying.objection(proof, "p1", key.replace("log.example", "log.elsewhere"))


def test_a_checkpoint_is_read() -> None:
    root = b64encode(bytes(32)).decode()
    note = verifying.read_note(f"affiant.local/1\n17\n{root}\n\n— affiant.local/1 c2lnbmF0dXJl\n")
    assert (note.origin, note.size, note.root) == ("affiant.local/1", 17, bytes(32))
    assert note.signatures == (("affiant.local/1", b"signature"),)


def test_a_true_answer_is_verified_up_to_the_signature() -> None:
    proof, key = proved()
    assert verifying.verdict({"record": RECORD, "proof": proof}, "p1", key) == Verdict(True, "", "verified")


def test_a_true_proof_under_another_record_does_not_verify() -> None:
    proof, key = proved()
    found = {"record": RECORD | {"labels": ["approved"]}, "proof": proof}
    assert "is shown is not the one" in verifying.verdict(found, "p1", key).objection


def test_the_data_of_an_outside_system_alone_verify() -> None:
    assert verifying._data(json.dumps(RECORD).encode()) == RECORD


def test_an_erased_prediction_verifies_up_to_the_signature_where_it_is_said_by_what_it_was_erased() -> None:
    proof, key = proved()
    found = {"record": None, "proof": proof | {"payload": None, "salt": None}}
    assert verifying.verdict(found | {"erased": {"by": "omar"}}, "p1", key) == Verdict(True, "", "verified")
    assert "nothing says that it was erased" in verifying.verdict(found, "p1", key).objection


@pytest.mark.parametrize("change", [{"payload": None}, {"salt": None}, {"path": ["x"]}, {"checkpoint": ""}])
def test_what_is_no_proof_does_not_verify(change: dict[str, Any]) -> None:
    proof, key = proved()
    said = verifying.verdict({"record": RECORD, "proof": proof | change}, "p1", key)
    assert not said.verifies
    assert "cannot be read" in said.objection


def test_what_was_not_checked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    proof, key = proved()
    found = {"record": RECORD, "proof": proof}
    assert "public key" in verifying.verdict(found, "p1", "").signature
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    assert verifying.verdict(found, "p1", key) == Verdict(True, "", "not checked: install cryptography")
    assert verifying.verdict(found | {"proof": proof | {"index": 5}}, "p1", key).verifies is False
