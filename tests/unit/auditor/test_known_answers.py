"""Known answers from the specifications, and hostile strings: what the verifier and the writer both must say."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given, strategies

from affiant.auditor.domain.arrival import MOST_ATTRIBUTES, understand
from affiant.auditor.domain.leaf import Leaf, canonical
from affiant.auditor.log.resources import MOST_LEAF_BYTES, read_place
from affiant.common import wire
from affiant.verify import program
from tests.unit.auditor import examples
from tests.unit.auditor.test_log import INPUTS, ROOTS

# golang.org/x/mod/sumdb/note: the key and the note of its documentation's example.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_go_s_example_of_a_signed_note_verifies() -> None:
    key = program.read_key(GO_KEY)
    text, _, line = GO_NOTE.rpartition("\n\n")
    note = program.Note(key.name, 0, b"", text + "\n", (program._signature(line.rstrip("\n")),))
    assert program.signed_by(note, key)
    changed = program.Note(key.name, 0, b"", text + "!\n", note.signatures)
    assert not program.signed_by(changed, key)


def test_the_roots_of_certificate_transparency_s_own_tests_come_out() -> None:
    """The leaves and roots that Google's certificate-transparency project published for RFC 6962."""
    leaves = [program.leaf_hash(bytes.fromhex(one)) for one in INPUTS]
    assert [program.tree_hash(b"".join(leaves[:size])).hex() for size in range(1, 9)] == ROOTS
    frontier = program.Frontier()
    for size, leaf in enumerate(leaves, start=1):
        frontier.push(leaf)
        assert frontier.root().hex() == ROOTS[size - 1]
    assert program.Frontier().root() == sha256(b"").digest()


def test_the_published_proofs_of_rfc_6962_verify() -> None:
    """Section 2.1.3 of RFC 6962 draws a tree of seven: PATH(3), PROOF(3, 7) and the others over those leaves."""
    a, b, c, d, e, f, j = (program.leaf_hash(bytes.fromhex(one)) for one in INPUTS[:7])
    g, h, i = program.node_hash(a, b), program.node_hash(c, d), program.node_hash(e, f)
    k, left = program.node_hash(i, j), program.node_hash(g, h)
    root = program.node_hash(left, k)
    assert root.hex() == ROOTS[6]
    assert program.includes(a, 0, 7, [b, h, k], root)
    assert program.includes(d, 3, 7, [c, g, k], root)
    assert program.includes(e, 4, 7, [f, j, left], root)
    assert program.includes(j, 6, 7, [i, left], root)
    hash0 = bytes.fromhex(ROOTS[2])
    assert program.consistent(3, 7, hash0, root, [c, d, g, k])
    assert program.consistent(4, 7, bytes.fromhex(ROOTS[3]), root, [k])
    assert program.consistent(6, 7, bytes.fromhex(ROOTS[5]), root, [i, j, left])
    assert not program.consistent(3, 7, hash0, root, [c, d, g, left])
    assert not program.consistent(6, 7, hash0, root, [i, j, left])


# --- RFC 8785 -------------------------------------------------------------------------------------------------------


def leaf(text: str) -> Leaf:
    return Leaf("2026-11-24T10:00:00.000000Z", text, "00" * 32, text, "affiant.outside.x", text, "x")


def rfc_8785(one: Leaf) -> bytes:
    """Section 3.2: members sorted, no blanks; section 3.2.2.2: strings as ECMAScript's JSON.stringify writes them."""
    members = {
        "audited_at": one.audited_at,
        "event_id": one.event_id,
        "payload": one.payload,
        "source": one.source,
        "subject": one.subject,
        "time": one.time,
        "type": one.type,
        "v": 1,
    }
    # Python escapes what must be escaped, in lower case, and DEL never: the same as ECMAScript.
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


HOSTILE = [
    "".join(chr(code) for code in range(0x20)),
    '"\\/\x7f\x80\u2028\u2029',
    "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
    "\U0001f602\U0010ffff",
    "\ufeff\ufffe\uffff",
    "e\u0301 \u00e9 \u202eabc",
    '","payload":"' + "11" * 32,
    "\\u0000 \\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_leaf_is_canonical_whatever_its_strings_are(text: str) -> None:
    written = canonical(leaf(text))
    assert written == rfc_8785(leaf(text))
    found = program._LEAF.fullmatch(written)
    assert found is not None
    assert json.loads(b'"' + found[2] + b'"') == text
    assert found[3] == b"00" * 32


@given(strategies.text(strategies.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_string_is_written_as_rfc_8785_has_it(text: str) -> None:
    written = canonical(leaf(text))
    assert written == rfc_8785(leaf(text))
    assert program._LEAF.fullmatch(written)


@pytest.mark.parametrize(
    "other",
    [
        lambda text: text.replace(b'"v":1', b'"v": 1'),
        lambda text: text.replace(b"{", b"{ "),
        lambda text: text.replace(b"x.y", b"x\\u002ey"),
        lambda text: text.replace(b"x.y", b"x\\/y"),
        lambda text: text.replace(b"x.y", b"x\x01y"),
        lambda text: text.replace(b"x.y", b"x\\u000Ay"),
        lambda text: text.replace(b"x.y", b"x\\u000ay"),
        lambda text: text.replace(b'"v":1', b'"v":1,"w":2'),
        lambda text: text + b"\n",
    ],
)
def test_json_that_says_the_same_in_another_way_is_no_leaf(other) -> None:  # type: ignore[no-untyped-def]
    written = canonical(leaf("x.y"))
    assert program._LEAF.fullmatch(written)
    assert program._LEAF.fullmatch(other(written)) is None


def test_a_lone_surrogate_never_becomes_a_leaf() -> None:
    """JSON can spell what is no text; it is set aside with the reason."""
    body = b'{"specversion":"1.0","id":"\\ud800","source":"https://x","type":"affiant.outside.x","data":{}}'
    headers = {"content-type": wire.CONTENT_TYPE}
    statements, faults = understand([examples.raw("affiant.outside.x", body, headers)])
    assert statements == []
    assert faults[0].kind == "undecodable"
    with pytest.raises(UnicodeEncodeError):
        canonical(leaf("\ud800"))


def test_what_does_not_fit_a_bundle_of_entries_is_set_aside() -> None:
    long = "\x01" * MOST_ATTRIBUTES
    body = json.dumps({"specversion": "1.0", "id": long, "source": "s", "type": "affiant.outside.x"}).encode()
    statements, faults = understand([examples.raw("affiant.outside.x", body, {"content-type": wire.CONTENT_TYPE})])
    assert (statements, faults[0].kind) == ([], "undecodable")
    assert "at most 8192 fit a leaf" in faults[0].reason
    worst = Leaf("2026-11-24T10:00:00.000000Z", long, "0" * 64, "", "s" * 4_096, "", "")
    assert len(canonical(worst)) < MOST_LEAF_BYTES


@given(strategies.integers(0, 10**9), strategies.integers(1, 256))
def test_the_names_of_tiles_are_read_as_they_are_written(number: int, width: int) -> None:
    assert read_place(program.tile_path(number, width)) == (number, width)
