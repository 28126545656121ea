"""The demonstration's own check of a proof, against trees of every small size."""

from base64 import b64encode
from hashlib import sha256

import pytest

from examples.loan import merkle


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
    assert all(merkle.includes(leaf, n, size, _path(n, leaves), _root(leaves)) for n, leaf in enumerate(leaves))


def test_another_leaf_another_place_or_another_root_is_not_believed() -> None:
    leaves = [sha256(bytes([n])).digest() for n in range(13)]
    path, root = _path(4, leaves), _root(leaves)
    assert not merkle.includes(leaves[5], 4, 13, path, root)
    assert not merkle.includes(leaves[4], 5, 13, path, root)
    assert not merkle.includes(leaves[4], 4, 13, path[:-1], root)
    assert not merkle.includes(leaves[4], 4, 13, [*path, root], root)
    assert not merkle.includes(leaves[4], 99, 13, path, root)
    assert not merkle.includes(leaves[4], 4, 13, path, leaves[0])


def test_a_checkpoint_is_read() -> None:
    root = b64encode(bytes(32)).decode()
    note = merkle.read_note(f"affiant.local/1\n17\n{root}\n\n— affiant.local/1 c2ln\n")
    assert (note.origin, note.size, note.root, note.signature) == ("affiant.local/1", 17, bytes(32), "c2ln")
