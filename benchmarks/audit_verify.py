"""How fast does `affiant verify` check an exported log, beside bare SHA-256 over the same bytes?

A log of `--entries` predictions (about 1 KiB, 20 columns) is recorded and exported; then the verifier runs as a process
of its own, as people run it: payload → leaf → tiles → root → signature, and the numbers of every model server. Its
start-up is in the figure. The limit is `hashlib.sha256` over every byte of the export, on one core and on all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from affiant.auditor.actions.record import Recorder  # noqa: E402 # found only with the line above
from affiant.cli.exporting import LogExport, Range  # noqa: E402
from affiant.verify import program  # noqa: E402
from benchmarks.auditing import events  # noqa: E402
from tests.unit.auditor.exported import Door  # noqa: E402
from tests.unit.auditor.test_answers import Auditor, opened  # noqa: E402

BATCH = 2_000


async def export(folder: Path, entries: int) -> tuple[Path, str]:
    """A recorded and exported log, and its verifier key."""
    auditor: Auditor = await opened(folder)
    recorder = Recorder(auditor.database)
    recorder.record([events.registration("loan")])
    for first in range(1, entries, BATCH):
        recorder.record(events.arrivals("loan", min(BATCH, entries - first), first=first, variety=9_973))
    await auditor.signing.sign()
    out, key = folder / "exported", auditor.signing.verifier_key
    await asyncio.to_thread(_write, auditor, out, key)
    auditor.columns.close()
    auditor.writer.close()
    return out, key


def _write(auditor: Auditor, out: Path, key: str) -> None:
    LogExport(Door(auditor), out, Range(), lambda _done, _of: None).run(key)  # type: ignore[arg-type]


def verified(out: Path, key: Path, jobs: int) -> float:
    """Seconds of one run of the verifier."""
    began = time.perf_counter()
    command = [sys.executable, str(Path(program.__file__)), str(out), "--key", str(key), "--jobs", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"it does not verify ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began


def hashed(path: str) -> int:
    data = Path(path).read_bytes()
    sha256(data).digest()
    return len(data)


def bare(out: Path, jobs: int) -> tuple[float, int]:
    """Seconds of SHA-256 over every file, and how many bytes that is."""
    files = [str(path) for path in out.rglob("*") if path.is_file()]
    if jobs == 1:
        began = time.perf_counter()
        size = sum(map(hashed, files))
        return time.perf_counter() - began, size
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(hashed, files[:jobs]))
        began = time.perf_counter()
        size = sum(pool.map(hashed, files, chunksize=32))
        return time.perf_counter() - began, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder by default")
    parser.add_argument("--quick", action="store_true", help="a sanity run, whose figures mean little")
    given = parser.parse_args()
    entries, rounds = (5_000, 1) if given.quick else (given.entries, given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="affiant-verify-", dir=given.folder))
    try:
        out, key = asyncio.run(export(folder, entries))
        (folder / "log.vkey").write_text(key + "\n")
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores; {entries:,} entries", flush=True)
        for jobs in sorted({1, os.cpu_count() or 1}):
            ours = statistics.median(verified(out, folder / "log.vkey", jobs) for _ in range(rounds))
            limits = [bare(out, jobs) for _ in range(rounds)]
            limit, size = statistics.median(one[0] for one in limits), limits[0][1]
            print(
                f"{jobs} at once: verify {entries / ours:,.0f} entries/s, {size / ours / 1e6:,.0f} MB/s; "
                f"bare SHA-256 {entries / limit:,.0f} entries/s, {size / limit / 1e6:,.0f} MB/s; "
                f"ratio {ours / limit:.1f}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
