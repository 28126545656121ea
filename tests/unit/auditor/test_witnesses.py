"""Checkpoints outside of the auditor's reach: cosigned by others, in an object store, and what that finds."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.auditor.actions.bucket import Bucket
from affiant.auditor.actions.cosign import Cosigners
from affiant.auditor.domain.sigv4 import Credentials, signed_headers
from affiant.auditor.log.cosignature import cosigner
from affiant.auditor.settings import AuditorSettings
from affiant.cli import cosigning
from affiant.cli.cosigning import Notary, make_notary, read_notary
from affiant.common.errors import Conflict, NotFound, Problem
from affiant.verify import program
from tests.unit.auditor.exported import Door, export, recorded, verify, words
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

NOTARY = "notary.example/affiant"


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path / "kept")
    yield auditor
    auditor.writer.close()


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    return make_notary(tmp_path / "notary.pem", NOTARY)


def swear(auditor: Auditor, notary: Notary) -> cosigning.Sworn:
    services: Any = PostingDoor(auditor)
    return cosigning.cosign(services, notary, auditor.signing.verifier_key)


class PostingDoor(Door):
    def post(self, service: str, path: str, body: Any) -> Any:
        return self.ask(service, "POST", path, json=body).json()


# --- a third party with a key of its own ----------------------------------------------------------------------------


async def test_a_checkpoint_carries_the_cosignature_and_the_verifier_can_require_it(
    auditor: Auditor, notary: Notary, tmp_path: Path
) -> None:
    await recorded(auditor, 20)
    assert swear(auditor, notary) == cosigning.Sworn(auditor.signing._signer.origin, 20, 0, NOTARY)
    folder = export(Door(auditor), auditor, tmp_path / "log")
    assert f"— {NOTARY} " in (folder / "checkpoint").read_text()
    report = verify(folder, cosigners=(notary.verifier_key,))
    assert (report.ok, report.cosigned_by) == (True, [NOTARY])
    stranger = Notary(NOTARY, Ed25519PrivateKey.generate(), tmp_path / "other")
    assert f"not cosigned by {NOTARY}" in words(verify(folder, cosigners=(stranger.verifier_key,)))


async def test_a_log_that_only_grew_is_sworn_to_again(auditor: Auditor, notary: Notary) -> None:
    await recorded(auditor, 20)
    swear(auditor, notary)
    await recorded(auditor, 300)
    assert (swear(auditor, notary).before, swear(auditor, notary).size) == (20, 320)


async def test_nothing_is_sworn_of_a_log_that_was_rewritten_or_rolled_back(
    auditor: Auditor, notary: Notary, tmp_path: Path
) -> None:
    await recorded(auditor, 20)
    swear(auditor, notary)
    seen = notary.seen.read_text()
    key = (tmp_path / "kept/auditor/log.key").read_bytes()
    for count, said in ((40, "it was rewritten"), (20, "it was rewritten"), (7, "it was rolled back")):
        (tmp_path / str(count) / "auditor").mkdir(parents=True)
        (tmp_path / str(count) / "auditor/log.key").write_bytes(key)
        other = await opened(tmp_path / str(count))
        await recorded(other, count)
        with pytest.raises(Problem, match=said):
            swear(other, notary)
        other.writer.close()
    assert notary.seen.read_text() == seen


async def test_nothing_is_sworn_of_a_checkpoint_that_the_log_did_not_sign(auditor: Auditor, notary: Notary) -> None:
    await recorded(auditor, 3)
    origin = auditor.signing._signer.origin
    from affiant.auditor.log.checkpoint import Signer

    services: Any = PostingDoor(auditor)
    with pytest.raises(Problem, match="not signed by the log's key"):
        cosigning.cosign(services, notary, Signer(origin, Ed25519PrivateKey.generate()).verifier_key)


async def test_the_auditor_takes_no_cosignature_that_is_none(auditor: Auditor, notary: Notary) -> None:
    await recorded(auditor, 5)
    note = program.read_note(await auditor.prover.checkpoint())
    line = notary.cosign(note, 1_700_000_000)
    cosigners = Cosigners(auditor.lookup, auditor.writer, auditor.settings)
    with pytest.raises(NotFound, match="no checkpoint over 6"):
        await cosigners.take(6, line, notary.verifier_key)
    raw = bytearray(b64decode(line.split()[2]))
    raw[-1] ^= 1
    for wrong in (f"— {NOTARY} {b64encode(raw).decode()}", line.replace("notary", "another"), "— x", ""):
        with pytest.raises(Problem, match=r"not notary\.example/affiant's cosignature"):
            await cosigners.take(5, wrong, notary.verifier_key)
    with pytest.raises(Problem, match="not a cosigner's key"):
        await cosigners.take(5, line, auditor.signing.verifier_key)
    await cosigners.take(5, line + "\n", notary.verifier_key)
    assert (await auditor.prover.checkpoint()).endswith(f"{line}\n")


async def test_the_newest_cosigned_checkpoint_is_served_beside_the_newest(auditor: Auditor, notary: Notary) -> None:
    await recorded(auditor, 5)
    with pytest.raises(NotFound, match="nobody has cosigned"):
        await auditor.prover.checkpoint(cosigned=True)
    swear(auditor, notary)
    await recorded(auditor, 2)
    http = Door(auditor)
    assert "\n7\n" in http.request("GET", "/checkpoint").text
    assert "\n5\n" in http.request("GET", "/checkpoint?cosigned=true").text


def test_the_example_of_the_specification_has_the_shape_that_is_written_here() -> None:
    """C2SP tlog-cosignature prints no key to verify it with: its parts are compared."""
    line = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5"
        "nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    raw = b64decode(line.split()[2])
    assert len(raw) == 4 + 8 + 64
    assert int.from_bytes(raw[4:12], "big") == 1679315147


def test_a_key_is_made_once_and_read_again(tmp_path: Path, notary: Notary) -> None:
    assert read_notary(notary.path).verifier_key == notary.verifier_key
    assert notary.path.stat().st_mode & 0o077 == 0
    assert cosigner(notary.verifier_key).key_id == program.read_key(notary.verifier_key).key_id
    with pytest.raises(Conflict, match="exists already"):
        make_notary(notary.path, NOTARY)
    with pytest.raises(Problem, match="is no name"):
        make_notary(tmp_path / "other.pem", "two words")
    with pytest.raises(NotFound, match="cannot read the key"):
        read_notary(tmp_path / "nowhere.pem")


# --- witnesses over HTTP (C2SP tlog-witness) ------------------------------------------------------------------------


class Witness:
    """A witness as the specification has it, with its own check of the proof."""

    def __init__(self, key: str) -> None:
        self.notary = Notary("witness.example/w1", Ed25519PrivateKey.generate(), Path("unused"))
        self.log_key = program.read_key(key)
        self.size, self.root = 0, b""
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/w/add-checkpoint"
        self.asked.append(request.content.decode())
        head, _, note_text = request.content.decode().partition("\n\n")
        old, *proof = head.split("\n")
        note = program.read_note(note_text)
        if not program.signed_by(note, self.log_key):
            return httpx.Response(403)
        if int(old.removeprefix("old ")) != self.size:
            return httpx.Response(409, text=f"{self.size}\n", headers={"content-type": "text/x.tlog.size"})
        steps = [b64decode(step) for step in proof]
        if self.size and not program.consistent(self.size, note.size, self.root, note.root, steps):
            return httpx.Response(422)
        self.size, self.root = note.size, note.root
        return httpx.Response(200, text=self.notary.cosign(note, 1_700_000_000) + "\n")


def asking(auditor: Auditor, answer: Callable[[httpx.Request], httpx.Response], *keys: str) -> Cosigners:
    settings = AuditorSettings(cosigner_keys=list(keys))
    return Cosigners(auditor.lookup, auditor.writer, settings, httpx.MockTransport(answer))


async def test_a_witness_cosigns_every_new_checkpoint_by_a_consistency_proof(auditor: Auditor) -> None:
    await recorded(auditor, 5)
    witness = Witness(auditor.signing.verifier_key)
    cosigners = asking(auditor, witness, witness.notary.verifier_key)
    assert await cosigners.ask("http://witness/w/") == 5
    await recorded(auditor, 8)
    assert await cosigners.ask("http://witness/w/") == 13
    assert await cosigners.ask("http://witness/w/") == 13
    assert [one.split("\n")[0] for one in witness.asked] == ["old 0", "old 5"]
    key = program.read_key(witness.notary.verifier_key)
    assert program.signed_by(program.read_note(await auditor.prover.checkpoint()), key)


async def test_a_witness_that_has_seen_more_than_this_process_knows_says_so(auditor: Auditor) -> None:
    await recorded(auditor, 5)
    witness = Witness(auditor.signing.verifier_key)
    await asking(auditor, witness, witness.notary.verifier_key).ask("http://witness/w")
    await recorded(auditor, 5)
    assert await asking(auditor, witness, witness.notary.verifier_key).ask("http://witness/w") == 10
    assert [one.split("\n")[0] for one in witness.asked] == ["old 0", "old 0", "old 5"]
    witness.size = 99
    await recorded(auditor, 5)
    with pytest.raises(Problem, match="it was rolled back"):
        await asking(auditor, witness, witness.notary.verifier_key).ask("http://witness/w")


async def test_an_answer_of_a_key_that_is_not_known_is_not_kept(auditor: Auditor, notary: Notary) -> None:
    await recorded(auditor, 5)
    witness = Witness(auditor.signing.verifier_key)
    with pytest.raises(Problem, match="no cosignature of a key"):
        await asking(auditor, witness, notary.verifier_key).ask("http://witness/w")
    with pytest.raises(Problem, match="it answered 500"):
        await asking(auditor, lambda _: httpx.Response(500)).ask("http://witness/w")
    assert (await auditor.prover.checkpoint()).count("—") == 1


# --- an object store ------------------------------------------------------------------------------------------------


async def test_checkpoints_are_put_into_an_object_store_under_their_size(auditor: Auditor, tmp_path: Path) -> None:
    kept: dict[str, tuple[str, str]] = {}

    def store(request: httpx.Request) -> httpx.Response:
        kept[request.url.path] = (request.content.decode(), request.headers["authorization"])
        return httpx.Response(200)

    (tmp_path / "token").write_text("secret-token\n")
    settings = AuditorSettings(witness_url="http://store/audit/", witness_token_file=str(tmp_path / "token"))
    auditor.signing._bucket = Bucket(settings, httpx.MockTransport(store))
    await recorded(auditor, 5)
    await recorded(auditor, 2)
    note = await auditor.prover.checkpoint()
    assert set(kept) == {"/audit/5", "/audit/7", "/audit/checkpoint"}
    assert kept["/audit/checkpoint"] == kept["/audit/7"] == (note, "Bearer secret-token")


async def test_while_the_object_store_is_away_the_auditor_is_not_ready_and_catches_up(auditor: Auditor) -> None:
    answers = [503]
    kept: list[str] = []

    def store(request: httpx.Request) -> httpx.Response:
        kept.append(request.url.path)
        return httpx.Response(answers[0])

    auditor.signing._bucket = Bucket(AuditorSettings(witness_url="http://store/a"), httpx.MockTransport(store))
    await recorded(auditor, 5)
    assert "503" in auditor.signing.unwitnessed
    answers[0] = 200
    kept.clear()
    await recorded(auditor, 1)
    assert (auditor.signing.unwitnessed, kept) == ("", ["/a/5", "/a/6", "/a/checkpoint"])


def test_the_signature_is_that_of_the_example_in_amazons_documentation() -> None:
    """`PUT /test$file.text`: AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    found = signed_headers(
        "PUT",
        "https://examplebucket.s3.amazonaws.com/test$file.text",
        b"Welcome to Amazon S3.",
        keys,
        datetime(2013, 5, 24, tzinfo=UTC),
        {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
    )
    assert found["authorization"].endswith("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")


def test_a_key_file_of_another_shape_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("only-one-part")
    with pytest.raises(Problem, match="must hold <access key>:<secret key>"):
        Bucket(AuditorSettings(witness_url="http://store", witness_s3_key_file=str(tmp_path / "keys")))
