"""An exported log, read by Go's own implementation of tiles, proofs and signed notes: nothing of ours takes part."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.auditor.exported import Door, export, recorded
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

SOURCE = Path(__file__).parents[1] / "support" / "tlogcheck"


@pytest.fixture(scope="module")
def tlogcheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs the Go toolchain: there is no `go` on the PATH")
    program = tmp_path_factory.mktemp("go") / "tlogcheck"
    command = [go, "build", "-o", str(program), "."]
    built = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False, env=dict(os.environ))
    if built.returncode:
        pytest.skip(f"needs golang.org/x/mod from the Go module proxy: {built.stderr[-300:]}")
    return program


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path / "kept")
    yield auditor
    auditor.writer.close()


def run(program: Path, folder: Path, auditor: Auditor) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(folder), auditor.signing.verifier_key]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [1, 255, 256, 700])
async def test_go_reads_the_folder_and_proves_what_is_in_it(
    auditor: Auditor, tlogcheck: Path, tmp_path: Path, size: int
) -> None:
    await recorded(auditor, size)
    done = run(tlogcheck, export(Door(auditor), auditor, tmp_path / "log"), auditor)
    assert done.stdout.startswith(f"holds: {size} entries"), done.stdout + done.stderr


async def test_go_finds_a_changed_tile_a_changed_entry_and_another_signature(
    auditor: Auditor, tlogcheck: Path, tmp_path: Path
) -> None:
    await recorded(auditor, 700)
    folder = export(Door(auditor), auditor, tmp_path / "log")
    for name, place in (("tile/0/000", 5), ("tile/entries/000", 40), ("checkpoint", -20)):
        whole = (folder / name).read_bytes()
        changed = bytearray(whole)
        changed[place] = ord("B") if changed[place] != ord("B") else ord("C")
        (folder / name).write_bytes(changed)
        done = run(tlogcheck, folder, auditor)
        assert (done.returncode, done.stdout.startswith("does not hold")) == (1, True), (name, done.stdout)
        (folder / name).write_bytes(whole)
