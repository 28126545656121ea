"""The log as a folder: served as C2SP tlog-tiles, exported, verified from outside; and what tampering comes to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from affiant.common.errors import Conflict, NotFound, Problem
from affiant.common.events import ReplicaEnded
from affiant.verify import program
from affiant.verify.program import Question, Unreadable
from tests.unit.auditor.exported import Door, export, recorded, verify, words
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

SIZE = 600
LAST = ".p/88"
"""The log's last tile holds 600 - 512 entries."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One exported log of 600 entries; `witness` beside it holds an older checkpoint."""
    folder = tmp_path_factory.mktemp("whole")

    async def make() -> None:
        auditor = await opened(folder)
        await recorded(auditor, 300)
        (folder / "older").write_text(await auditor.prover.checkpoint())
        await auditor.keep(*_more(301, 610))
        await auditor.signing.sign()
        export(Door(auditor), auditor, folder / "log")
        auditor.writer.close()

    anyio.run(make)
    return folder


def _more(first: int, last: int) -> list[object]:
    """Numbers 401 to 410 are missing."""
    from tests.unit.auditor import examples

    return [examples.prediction(number) for number in range(first, last + 1) if not 401 <= number <= 410]


@pytest.fixture
def log(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole / "log", tmp_path / "log"))


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path / "kept")
    yield auditor
    auditor.writer.close()


def test_an_exported_log_holds_and_missing_numbers_are_named(log: Path) -> None:
    report = verify(log)
    assert (report.ok, report.size, report.checked, report.damaged) == (True, SIZE, SIZE, 0)
    assert report.signature == "verified"
    assert [(gap.replica, gap.first, gap.last) for gap in report.gaps] == [("r1", 401, 410)]
    assert report.missing == 10
    assert not verify(log, complete=True).ok


def test_a_zip_of_it_holds_too_and_so_do_several_processes(log: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "packed"), "zip", log.parent, "log")
    key = (log / "log.vkey").read_text()
    for place in (tmp_path / "packed.zip", log):
        report = program.verify(Question(str(place), key, jobs=2))
        assert (report.ok, report.checked) == (True, SIZE)


def test_the_verifier_is_one_file_that_runs_without_affiant(whole: Path, tmp_path: Path) -> None:
    alone = tmp_path / "affiant_verify.py"
    shutil.copy(program.__file__, alone)
    given = [str(whole / "log"), "--witness", str(whole / "older"), "-o", "json", "--jobs", "1"]
    run = subprocess.run([sys.executable, "-I", str(alone), *given], capture_output=True, check=False, cwd=tmp_path)
    found = json.loads(run.stdout)
    assert run.returncode == 0, run.stderr
    assert (found["ok"], found["checked"], found["witnessed"]) == (True, SIZE, 1)


def test_the_verifier_needs_nothing_but_python_and_cryptography() -> None:
    import ast

    tree = ast.parse(Path(program.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names}
    assert roots - set(sys.stdlib_module_names) == {"cryptography"}


async def test_what_a_server_lost_at_its_end_is_missed_where_it_said_how_far_it_had_come(
    auditor: Auditor, tmp_path: Path
) -> None:
    await recorded(auditor, 5)
    ended = ReplicaEnded(
        model="loans", version=1, digest="sha256:00", replica="r1", epoch=1, last_sequence=7, ended_at="2026-11-24"
    )
    await auditor.keep(ended)
    await auditor.signing.sign()
    report = verify(export(Door(auditor), auditor, tmp_path / "log"))
    assert (report.ok, [(gap.first, gap.last) for gap in report.gaps]) == (True, [(6, 7)])


# --- one byte of every kind -----------------------------------------------------------------------------------------

FLIPS = {
    "a leaf's event id": ("tile/entries/000", lambda data: data.index(b'"event_id":"') + 14, "entry 0: its leaf"),
    "a leaf's time": ("tile/entries/001", lambda data: data.index(b'"time":"') + 10, "entry 256: its leaf"),
    "a leaf's payload hash": ("tile/entries/001", lambda data: data.index(b'"payload":"') + 12, "entry 256: its leaf"),
    "a leaf's length": ("tile/entries/001", lambda _data: 1, "entry 256"),
    "a salt": ("payload/000", lambda _data: 7, "entry 0: the payload is not the one"),
    "a body": ("payload/000", lambda _data: 300, "entry 0: the payload is not the one"),
    "a body of the last bundle": (f"payload/002{LAST}", lambda data: len(data) - 9, "entry 599: the payload is not"),
    "a payload's length": ("payload/000", lambda _data: 2, "entry 0"),
    "whether there is a payload": ("payload/000", lambda _data: 0, "entry 0: payload/000 is not readable"),
    "a hash of a tile": ("tile/0/000", lambda _data: 40, "tile/0/000 was altered"),
    "a hash of the last tile": (f"tile/0/002{LAST}", lambda _data: 40, "entry 513: its leaf"),
    "a hash above the tiles": ("tile/1/000.p/2", lambda _data: 40, "tile/1/000.p/2 was altered"),
    "the checkpoint's size": ("checkpoint", lambda data: data.index(b"\n600\n") + 2, "not signed by the log's key"),
    "the checkpoint's root": ("checkpoint", lambda data: data.index(b"\n600\n") + 9, "not signed by the log's key"),
    "the signature": ("checkpoint", lambda data: len(data) - 20, "not signed by the log's key"),
    "the checkpoint's origin": ("checkpoint", lambda _data: 0, "of the log"),
}


def outcome(log: Path) -> str:
    try:
        return words(verify(log))
    except Unreadable as reason:
        return str(reason)


@pytest.mark.parametrize("kind", FLIPS)
def test_a_flipped_bit_is_found_wherever_it_is(log: Path, kind: str) -> None:
    name, place, said = FLIPS[kind]
    data = bytearray((log / name).read_bytes())
    data[place(bytes(data))] ^= 2
    (log / name).write_bytes(data)
    found = outcome(log)
    # What came of a letter of the checkpoint may be no base64 any more.
    assert said in found or (name == "checkpoint" and "checkpoint" in found)
    assert "the log holds" not in found


def test_every_seventh_byte_of_a_small_log_counts(tmp_path: Path) -> None:
    async def make() -> None:
        auditor = await opened(tmp_path)
        await recorded(auditor, 2)
        export(Door(auditor), auditor, tmp_path / "log")
        auditor.writer.close()

    anyio.run(make)
    log = tmp_path / "log"
    key = (log / "log.vkey").read_text()
    names = ["checkpoint", "tile/entries/000.p/2", "tile/0/000.p/2", "payload/000.p/2"]
    for name in names:
        whole = (log / name).read_bytes()
        for place in range(0, len(whole), 7):
            (log / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                assert not program.verify(Question(str(log), key, jobs=1)).ok, (name, place)
            except Unreadable:
                assert name == "checkpoint"
        (log / name).write_bytes(whole)
    assert program.verify(Question(str(log), key, jobs=1)).ok


# --- entries that are not where they were ---------------------------------------------------------------------------


def leaves_of(bundle: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        found.append(bundle[at:end])
        at = end
    return found


def records_of(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 21 + int.from_bytes(data[at + 1 : at + 5], "big")
        found.append(data[at:end])
        at = end
    return found


REARRANGED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "deleted": lambda found: found[:7] + found[8:],
    "inserted": lambda found: [*found[:7], found[100], *found[7:]],
    "doubled": lambda found: [*found[:8], *found[7:]],
    "reordered": lambda found: [*found[:7], found[8], found[7], *found[9:]],
}


@pytest.mark.parametrize("how", REARRANGED)
def test_an_entry_that_is_not_where_it_was_is_named(log: Path, how: str) -> None:
    change = REARRANGED[how]
    for name, cut in (("tile/entries/000", leaves_of), ("payload/000", records_of)):
        (log / name).write_bytes(b"".join(change(cut((log / name).read_bytes()))))
    report = verify(log)
    first = min(finding.index for finding in report.findings if finding.index is not None)
    assert not report.ok
    assert first == (8 if how == "doubled" else 7)


def test_an_entry_deleted_with_its_hash_does_not_lead_to_the_root(log: Path) -> None:
    for name, cut in (("tile/entries/000", leaves_of), ("payload/000", records_of)):
        found = cut((log / name).read_bytes())
        (log / name).write_bytes(b"".join([*found[:7], *found[8:], found[8]]))
    hashes = [program.leaf_hash(leaf[2:]) for leaf in leaves_of((log / "tile/entries/000").read_bytes())]
    (log / "tile/0/000").write_bytes(b"".join(hashes))
    report = verify(log)
    assert "the entries do not lead to the root" in words(report)
    assert "entries 0 to 255: the tile above holds another hash" in words(report)


def test_a_payload_that_was_taken_away_is_no_erasure(log: Path) -> None:
    found = records_of((log / "payload/001").read_bytes())
    (log / "payload/001").write_bytes(b"".join([*found[:3], b"\x00", *found[4:]]))
    assert "entry 259: its payload is not there, and no entry of the log says" in words(verify(log))


@pytest.mark.parametrize("name", ["tile/entries/001", "payload/001", "tile/0/001", "tile/1/000.p/2"])
def test_a_file_that_is_gone_is_missed(log: Path, name: str) -> None:
    (log / name).unlink()
    report = verify(log)
    assert not report.ok
    assert name in words(report)


def test_a_tail_that_was_cut_is_missed(log: Path) -> None:
    shutil.rmtree(log / "tile/entries/002.p")
    shutil.rmtree(log / "payload/002.p")
    report = verify(log)
    assert "entries 512 to 599 are missing" in words(report)
    assert report.findings[0].index in (None, 512)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 3), (0, SIZE + 1), (-1, 4)])
def test_an_export_that_claims_to_hold_nothing_or_what_is_not_there_does_not_hold(
    log: Path, first: int, last: int
) -> None:
    found = json.loads((log / "export.json").read_text())
    (log / "export.json").write_text(json.dumps(found | {"first": first, "last": last}))
    report = verify(log)
    assert (report.ok, report.checked) == (False, SIZE)
    assert "export.json speaks of" in words(report)


def test_without_a_checkpoint_there_is_nothing_to_verify(log: Path) -> None:
    (log / "checkpoint").unlink()
    with pytest.raises(Unreadable, match="holds no checkpoint"):
        program.verify(Question(str(log)))


# --- against checkpoints kept elsewhere -----------------------------------------------------------------------------


def test_a_log_that_grew_holds_against_an_older_checkpoint(whole: Path) -> None:
    report = verify(whole / "log", (whole / "older").read_text(), *program.read_witness(str(whole / "witness")))
    assert (report.ok, report.witnessed) == (True, 2)


async def test_a_history_rewritten_with_the_real_key_contradicts_a_checkpoint_kept_elsewhere(
    whole: Path, tmp_path: Path
) -> None:
    """All made anew from the first entry on, signed by the log's own key: inside nothing is wrong with it."""
    (tmp_path / "auditor").mkdir()
    shutil.copy(whole / "auditor/log.key", tmp_path / "auditor/log.key")
    forged = await opened(tmp_path)
    await recorded(forged, SIZE)
    folder = export(Door(forged), forged, tmp_path / "log")
    forged.writer.close()
    assert verify(folder).ok
    report = verify(folder, (whole / "older").read_text())
    assert not report.ok
    assert "over the first 300 entries is not that of the checkpoint kept elsewhere" in words(report)


async def test_a_roll_back_to_yesterdays_files_is_found(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, 20)
    yesterday = export(Door(auditor), auditor, tmp_path / "yesterday")
    await recorded(auditor, 20)
    newer = await auditor.prover.checkpoint()
    report = verify(yesterday, newer)
    assert "over 40 entries was kept elsewhere, this log ends after 20: it was rolled back" in words(report)
    assert verify(yesterday, newer, older=True).ok


async def test_a_log_signed_by_another_key_is_not_believed(auditor: Auditor, whole: Path, tmp_path: Path) -> None:
    await recorded(auditor, 3)
    folder = export(Door(auditor), auditor, tmp_path / "log")
    report = verify(folder, key=(whole / "log/log.vkey").read_text())
    assert "is of the log" in words(report)


def test_two_checkpoints_of_one_size_and_two_roots_show_that_the_log_lied(whole: Path) -> None:
    other = (whole / "log/checkpoint").read_text().split("\n")
    other[2] = b64encode(bytes(32)).decode()
    report = verify(whole / "log", "\n".join(other))
    assert "kept elsewhere is not by the log's key" in words(report)


# --- ranges, and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last"), [(0, 10), (100, 300), (256, 512), (520, 600), (599, 600)])
async def test_a_part_of_a_log_is_verified_up_to_the_same_root(
    auditor: Auditor, tmp_path: Path, first: int, last: int
) -> None:
    await recorded(auditor, SIZE)
    folder = export(Door(auditor), auditor, tmp_path / "part", first, last)
    report = verify(folder)
    assert (report.ok, report.first, report.last) == (True, first, last)
    assert report.checked - report.withheld == last - first
    assert any("of a part of the log" in warning for warning in report.warnings)


async def test_what_lies_outside_of_the_part_is_withheld(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, 20)
    folder = export(Door(auditor), auditor, tmp_path / "part", 5, 7)
    data = (folder / "payload/000.p/20").read_bytes()
    assert data.count(b"prediction_id") == 2
    assert data.startswith(b"\x02" * 5)


async def test_an_export_that_broke_off_goes_on_where_it_was(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, SIZE)
    folder = export(Door(auditor), auditor, tmp_path / "log")
    (folder / "checkpoint").unlink()
    (folder / "payload/001").unlink()
    door = Door(auditor)
    export(door, auditor, folder)
    assert door.asked == ["/checkpoint", "/payload/001", "/v1/erasures/entries"]
    assert verify(folder).ok


async def test_an_export_of_a_log_that_has_grown_fetches_what_is_new(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, 300)
    folder = export(Door(auditor), auditor, tmp_path / "log")
    await auditor.keep(*_more(301, 400))
    await auditor.signing.sign()
    door = Door(auditor)
    export(door, auditor, folder)
    assert "/tile/entries/000" not in door.asked
    assert verify(folder).checked == 400
    assert not (folder / "tile/entries/001.p/44").exists()


async def test_a_folder_that_holds_something_else_is_left_alone(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, 3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(Conflict, match="is not empty"):
        export(Door(auditor), auditor, tmp_path / "mine")
    export(Door(auditor), auditor, tmp_path / "log")
    with pytest.raises(Conflict, match="holds another export"):
        export(Door(auditor), auditor, tmp_path / "log", 0, 2)


async def test_a_range_that_the_log_does_not_have_is_refused(auditor: Auditor, tmp_path: Path) -> None:
    await recorded(auditor, 3)
    with pytest.raises(Problem, match="no entries 2 to 8"):
        export(Door(auditor), auditor, tmp_path / "log", 2, 9)


# --- what somebody did in the database by hand ----------------------------------------------------------------------

BY_HAND = {
    "DELETE FROM entries WHERE idx = 4": "entry 4: it is missing from the log's store",
    "UPDATE entries SET time = '2020-01-01T00:00:00Z' WHERE idx = 4": "entry 4: its leaf does not have the hash",
    "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), 'white', 'black') AS BLOB) WHERE idx = 4": (
        "entry 4: the payload is not the one that was sworn to"
    ),
    "UPDATE entries SET body = NULL, salt = NULL WHERE idx = 4": "entry 4: its payload is not there, and no entry",
    "UPDATE tiles SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)": "entry 0: its leaf does not have",
}


@pytest.mark.parametrize("statement", BY_HAND)
async def test_what_was_done_to_the_database_by_hand_is_named_by_the_verifier(
    auditor: Auditor, tmp_path: Path, statement: str
) -> None:
    await recorded(auditor, 12)
    await auditor.writer.write(lambda connection: connection.execute(statement))
    report = verify(export(Door(auditor), auditor, tmp_path / "log"))
    assert BY_HAND[statement] in words(report)


# --- served as C2SP tlog-tiles --------------------------------------------------------------------------------------


async def test_the_log_is_served_as_tlog_tiles_says(auditor: Auditor) -> None:
    await recorded(auditor, SIZE)
    http = Door(auditor, "ana")
    note = http.request("GET", "/checkpoint")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    assert note.headers["cache-control"] == "no-cache"
    tile = http.request("GET", "/tile/0/001")
    assert (len(tile.content), tile.headers["content-type"]) == (8_192, "application/octet-stream")
    assert "immutable" in tile.headers["cache-control"]
    assert http.request("GET", f"/tile/0/002{LAST}").content == http.request("GET", "/tile/0/002.p/88").content
    assert len(http.request("GET", "/tile/0/002.p/5").content) == 5 * 32
    assert len(http.request("GET", "/tile/1/000.p/2").content) == 64
    bundle = http.request("GET", "/tile/entries/000")
    assert bundle.headers["content-encoding"] == "gzip"
    plain = http.request("GET", "/tile/entries/000", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == bundle.content
    hashes = b"".join(program.leaf_hash(leaf[2:]) for leaf in leaves_of(plain.content))
    assert hashes == http.request("GET", "/tile/0/000").content


@pytest.mark.parametrize(
    "path", ["/tile/0/003", "/tile/0/0", "/tile/0/x000/000", "/tile/0/000.p/256", "/tile/0/000.p/0", "/tile/64/000",
             "/tile/0/002", "/tile/entries/002", "/tile/entries/002.p/089", "/tile/0/002.p/89", "/tile/0/..%2f000"]
)  # fmt: skip
async def test_what_the_log_does_not_have_is_not_found(auditor: Auditor, path: str) -> None:
    await recorded(auditor, SIZE)
    assert Door(auditor).request("GET", path).status_code == 404


async def test_payloads_are_for_auditors(auditor: Auditor) -> None:
    await recorded(auditor, 3)
    assert Door(auditor, "ana").request("GET", "/payload/000.p/3").status_code == 403
    assert Door(auditor, "iris").request("GET", "/payload/000.p/3").status_code == 200


def test_the_names_of_tiles_are_those_of_tlog_tiles() -> None:
    assert program.tile_path(1234067) == "x001/x234/067"
    assert program.tile_path(273, 112) == "273.p/112"
    assert program.tile_path(70_000 // 256, 70_000 % 256) == "273.p/112"


# --- a dossier: single entries with their proofs ---------------------------------------------------------------------


async def test_single_entries_with_their_proofs_are_verified_alone(auditor: Auditor, tmp_path: Path) -> None:
    ids = await recorded(auditor, 20)
    folder = tmp_path / "dossier" / "log"
    folder.mkdir(parents=True)
    proofs = [await auditor.prover.proof(ids[number]) for number in (3, 17)]
    lines = [
        {"index": one.index, "leaf": one.leaf, "salt": one.salt, "body": one.payload, "proof": one.path}
        for one in proofs
    ]
    (folder / "checkpoint").write_text(proofs[0].checkpoint)
    (folder / "log.vkey").write_text(proofs[0].verifier_key)
    (folder / "entries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    key = proofs[0].verifier_key
    assert (report := program.verify(Question(str(folder.parent), key))).ok
    assert report.checked == 2
    with zipfile.ZipFile(tmp_path / "dossier.zip", "w") as packed:
        for file in folder.iterdir():
            packed.write(file, f"dossier-3/log/{file.name}")
    assert program.verify(Question(str(tmp_path / "dossier.zip"), key)).ok
    lines[1]["index"] = 16
    (folder / "entries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "entry 16: its proof does not lead to the root" in words(program.verify(Question(str(folder.parent), key)))


async def test_a_dossier_is_held_against_a_later_checkpoint_by_a_consistency_proof(
    auditor: Auditor, tmp_path: Path
) -> None:
    ids = await recorded(auditor, 20)
    one = await auditor.prover.proof(ids[3])
    line = {"index": one.index, "leaf": one.leaf, "salt": one.salt, "body": one.payload, "proof": one.path}
    (tmp_path / "checkpoint").write_text(one.checkpoint)
    (tmp_path / "entries.jsonl").write_text(json.dumps(line))
    await recorded(auditor, 11)
    later = await auditor.prover.checkpoint()
    asked = Question(str(tmp_path), one.verifier_key, (later,))
    assert "needs a proof: affiant proof --from 20 --to 31" in words(program.verify(asked))
    found = await auditor.prover.consistency(20, 31)
    proof = {"first": found.first, "second": found.second, "proof": found.proof}
    assert program.verify(Question(str(tmp_path), one.verifier_key, (later,), consistency=(proof,))).warnings == []
    proof["proof"] = [bytes(32).hex(), *found.proof[1:]]
    forged = program.verify(Question(str(tmp_path), one.verifier_key, (later,), consistency=(proof,)))
    assert "not of the same history" in words(forged)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (5, 4), (3, 99)])
async def test_no_consistency_is_proven_of_sizes_that_are_none(auditor: Auditor, first: int, second: int) -> None:
    await recorded(auditor, 9)
    with pytest.raises(Problem, match="no proof leads from"):
        await auditor.prover.consistency(first, second)


async def test_an_empty_log_has_nothing_to_export(auditor: Auditor) -> None:
    with pytest.raises((NotFound, Problem), match="log is empty"):
        export(Door(auditor), auditor, Path("never"))
