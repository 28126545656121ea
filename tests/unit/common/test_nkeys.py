"""NKeys, held against the format's own words and examples."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, strategies as some

from affiant.common import nkeys
from affiant.common.errors import Problem
from affiant.common.nkeys import NKey

# The pair that the documentation of nats-server shows (docs.nats.io, "NKeys").
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_published_pair_is_read_and_written_as_it_is() -> None:
    key = NKey.from_seed(SEED + "\n")
    assert (key.seed, key.public) == (SEED, PUBLIC)


@given(some.binary(min_size=32, max_size=32))
def test_what_is_written_is_read_again(raw: bytes) -> None:
    key = NKey(raw)
    assert NKey.from_seed(key.seed).public == key.public
    assert key.seed.startswith("SU")
    assert key.public.startswith("U")


def test_every_new_key_is_another() -> None:
    assert len({NKey.generate().seed for _ in range(20)}) == 20


def test_a_signature_verifies_with_the_public_half_only() -> None:
    key = NKey.from_seed(SEED)
    raw = base64.b32decode(key.public)[1:33]
    public = Ed25519PublicKey.from_public_bytes(raw)
    public.verify(key.sign(b"nonce"), b"nonce")
    with pytest.raises(InvalidSignature):
        public.verify(NKey.generate().sign(b"nonce"), b"nonce")


@pytest.mark.parametrize(
    "text",
    ["", "SU", "hello", SEED[:-1] + ("A" if SEED[-1] != "A" else "B"), SEED[:-4], PUBLIC, "SA" + SEED[2:], SEED * 2],
)
def test_what_is_no_user_seed_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Problem) as refused:
        NKey.from_seed(text)
    assert len(text) < 10 or text not in str(refused.value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"none\.nk"):
        nkeys.read(tmp_path / "none.nk")
    (tmp_path / "bad.nk").write_text("not a seed")
    with pytest.raises(Problem, match=r"bad\.nk holds no NKey"):
        nkeys.read(tmp_path / "bad.nk")
