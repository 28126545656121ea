"""The Merkle log: known answers, proofs against an independent verifier, checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.auditor.log import checkpoint, hashing, keys, proofs, tiles
from affiant.common.errors import Problem
from tests.unit.auditor import verifier

# The inputs and roots that Google's certificate-transparency project tests its trees with.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Log:
    """A log in memory: the tiles alone."""

    def __init__(self) -> None:
        self.size = 0
        self.tiles: dict[tiles.Address, bytes] = {}
        self.node = tiles.nodes(lambda level, position: self.tiles[level, position])

    def append(self, leaves: list[bytes]) -> None:
        hashes = [hashing.leaf_hash(leaf) for leaf in leaves]
        self.tiles |= tiles.append(self.size, hashes, lambda level, position: self.tiles[level, position])
        self.size += len(leaves)

    def root(self, size: int) -> bytes:
        return proofs.root(size, self.node)


def leaves(first: int, last: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(first, last)]


@pytest.fixture(scope="module")
def log() -> Log:
    made = Log()
    for first, last in [(0, 1), (1, 255), (255, 256), (256, 600), (600, 70_000)]:
        made.append(leaves(first, last))
    return made


def test_the_roots_are_those_of_rfc_6962() -> None:
    log = Log()
    for text, root in zip(INPUTS, ROOTS, strict=True):
        log.append([bytes.fromhex(text)])
        assert log.root(log.size).hex() == root


def test_an_empty_log_has_the_hash_of_nothing_as_its_root() -> None:
    assert Log().root(0) == hashlib.sha256(b"").digest()


def test_the_tree_does_not_depend_on_how_it_was_batched(log: Log) -> None:
    at_once = Log()
    at_once.append(leaves(0, 70_000))
    assert at_once.tiles == log.tiles


def test_a_third_level_of_tiles_begins_after_65536_entries(log: Log) -> None:
    assert len(log.tiles[2, 0]) == hashing.HASH_BYTES
    assert max(level for level, _ in log.tiles) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 600, 65_536, 65_537, 69_999, 70_000])
def test_every_inclusion_proof_verifies(log: Log, size: int) -> None:
    root = log.root(size)
    for index in {0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
        path = proofs.inclusion(index, size, log.node)
        assert verifier.included(verifier.leaf(b"entry %d" % index), index, size, path, root)
        assert not verifier.included(verifier.leaf(b"another"), index, size, path, root)


@pytest.mark.parametrize("second", [1, 2, 7, 256, 300, 65_537, 70_000])
def test_every_consistency_proof_verifies(log: Log, second: int) -> None:
    for first in {1, 2, 3, 6, 255, 256, 257, 300, 65_536, second} & set(range(1, second + 1)):
        path = proofs.consistency(first, second, log.node)
        assert verifier.consistent(first, second, log.root(first), log.root(second), path)
        assert not verifier.consistent(first, second, b"\0" * 32, log.root(second), path)


def test_a_proof_reads_few_tiles(log: Log) -> None:
    read: list[tiles.Address] = []

    def reading(level: int, position: int) -> bytes:
        read.append((level, position))
        return log.tiles[level, position]

    proofs.inclusion(12_345, 70_000, tiles.nodes(reading))
    assert len(read) <= 2 * 17
    assert len(set(read)) <= 5


def test_there_is_no_proof_for_an_entry_that_the_log_does_not_hold(log: Log) -> None:
    with pytest.raises(ValueError, match="no entry 5"):
        proofs.inclusion(5, 5, log.node)
    with pytest.raises(ValueError, match="cannot be the beginning"):
        proofs.consistency(6, 5, log.node)


def test_tiles_that_do_not_fit_the_size_are_not_built_upon() -> None:
    log = Log()
    log.append(leaves(0, 3))
    log.size = 2
    with pytest.raises(tiles.Torn, match="3 hashes instead of 2"):
        log.append(leaves(2, 3))


def test_a_checkpoint_verifies_and_says_what_it_swears_to() -> None:
    signer = checkpoint.Signer("example.com/log", Ed25519PrivateKey.generate())
    note = signer.sign(7, b"\x07" * 32)
    assert verifier.opened(note, signer.verifier_key) == ("example.com/log", 7, b"\x07" * 32)
    assert checkpoint.parse(note) == checkpoint.Checkpoint("example.com/log", 7, b"\x07" * 32)


def test_a_changed_checkpoint_does_not_verify() -> None:
    signer = checkpoint.Signer("example.com/log", Ed25519PrivateKey.generate())
    note = signer.sign(7, b"\x07" * 32).replace("\n7\n", "\n8\n")
    with pytest.raises(InvalidSignature):
        verifier.opened(note, signer.verifier_key)


def test_the_example_of_the_specification_parses() -> None:
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/"
        "Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    assert checkpoint.parse(note).size == 20_852_163
    with pytest.raises(ValueError, match="not a signed checkpoint"):
        checkpoint.parse("hello")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    made = keys.make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.read_key(path).private_bytes_raw() == made.private_bytes_raw()
    with pytest.raises(FileExistsError):
        keys.make_key(path)


def test_a_key_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "log.key").write_text("nonsense")
    with pytest.raises(Problem, match="cannot read the log's signing key"):
        keys.read_key(tmp_path / "log.key")
