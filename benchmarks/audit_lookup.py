"""Finding and counting among many records: how long, how much room, and how both grow.

A log is built through the auditor's own `Recorder` (everything on: de-duplication, leaves, look-up rows; columns are
sealed beside it as they are in the service) up to each of `--sizes`. At each size is measured, through the actions that
the API calls, medians and p99 in milliseconds:

    by id, cold       the record of a random prediction, after the file left the system's cache (a new process would)
    by id             the same, warm
    by request id     the caller's own id
    last 100          of one model
    input < x         100 predictions by an input's value and label, newest first
    rates, rows       approval rates by group over the newest million rows, in the row store
    rates, columns    the same from the columns
    proof             an inclusion proof against the newest checkpoint

The peer of the columns is the row store, that of the bytes is what gzip and zstd make of the same events as JSON Lines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import os
import platform
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from affiant.auditor.actions.checkpoints import Checkpoints  # noqa: E402 # found only with the line above
from affiant.auditor.actions.columns import FOLDER, Columns  # noqa: E402
from affiant.auditor.actions.look import Lookup  # noqa: E402
from affiant.auditor.actions.prove import Prover  # noqa: E402
from affiant.auditor.actions.record import Recorder  # noqa: E402
from affiant.auditor.actions.writer import Writer  # noqa: E402
from affiant.auditor.domain.conditions import condition  # noqa: E402
from affiant.auditor.segments.questions import Wanted  # noqa: E402
from affiant.auditor.settings import AuditorSettings  # noqa: E402
from affiant.auditor.store import queries  # noqa: E402
from affiant.auditor.store.location import locate  # noqa: E402
from affiant.auditor.store.queries import Filter  # noqa: E402
from affiant.common import ids  # noqa: E402
from benchmarks.auditing import events, plot  # noqa: E402

BATCH = 2_000
MODELS = ("loan", "card", "rent", "fraud")
AIMS = {"by id": 5.0, "last 100": 20.0, "rates, columns": 100.0, "proof": 5.0}
Figures = dict[str, Any]


class Log:
    """An auditor's store and what answers over it, without a bus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = locate("", folder)
        self.recorder = Recorder(self.database)
        self.writer = Writer(self.database)
        self.columns = Columns(self.database, folder / FOLDER)
        self.lookup = Lookup(self.database, self.columns)
        self.signing = Checkpoints(self.writer, AuditorSettings(data_dir=str(folder)))
        self.prover = Prover(self.lookup, self.signing)
        self.ids: list[tuple[str, int]] = []
        self.size = 0

    async def open(self) -> None:
        await self.writer.open()
        await self.signing.open()
        self.columns.open()
        self.recorder.record([events.registration(model) for model in MODELS])

    def grow(self, size: int, *, random_ids: bool) -> Figures:
        """Record until there are `size` predictions; how fast, at the end of it."""
        spent = processor = 0.0
        began, recorded = time.perf_counter(), self.size
        while self.size < size:
            model = MODELS[self.size // BATCH % len(MODELS)]
            number, first = min(BATCH, size - self.size), self.size + 1
            batch = events.arrivals(model, number, first=first, random_ids=random_ids, variety=9_973)
            self.ids += [(_id_of(batch[at].body), first + at) for at in range(0, number, 97)]
            start, used = time.perf_counter(), time.process_time()
            outcome = self.recorder.record(batch)
            spent, processor = spent + time.perf_counter() - start, processor + time.process_time() - used
            assert outcome.kept == len(batch), outcome
            self.size += len(batch)
            self.columns.follow(2 * BATCH)
            if self.size % 500_000 < BATCH:
                rate = (self.size - recorded) / (time.perf_counter() - began)
                print(f"  {self.size:,} recorded, {rate:,.0f}/s with their making and sealing", flush=True)
        added = self.size - recorded
        return {"recorded/s": added / spent, "CPU µs each": processor / added * 1e6}


def _id_of(body: bytes) -> str:
    return body[27:63].decode()


async def timed(times: int, ask: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """(median, p99) in milliseconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        await ask()
        found.append((time.perf_counter() - start) * 1_000)
    found.sort()
    return statistics.median(found), found[min(len(found) - 1, int(len(found) * 0.99))]


async def measured(log: Log, times: int, window: int) -> Figures:
    """Every question, at the present size."""
    draw = random.Random(11)

    def any_id() -> tuple[str, int]:
        return draw.choice(log.ids)

    async def page(wanted: Filter) -> None:
        found = await log.lookup.predictions(wanted, 100, None)
        assert found.predictions

    since = ids.timestamp(events.START + timedelta(seconds=max(0, log.size - window) / 50))
    await log.signing.sign()
    results: Figures = {}
    cold = []
    for _ in range(min(times, 30)):
        drop_cache(log.folder)
        wanted = any_id()[0]
        cold.append((await timed(1, lambda wanted=wanted: log.lookup.prediction(wanted)))[0])  # type: ignore[misc]
    results["by id, cold"] = (statistics.median(cold), max(cold))
    results["by id"] = await timed(times, lambda: log.lookup.prediction(any_id()[0]))
    results["by request id"] = await timed(times, lambda: page(Filter(request_id=f"req-{any_id()[1]}")))
    results["last 100"] = await timed(times // 4, lambda: page(Filter(model="loan")))
    results["input < x"] = await timed(
        max(3, times // 40),
        lambda: page(Filter(model="loan", label="no", where=(condition("amount_03<2"),))),
    )
    results["proof"] = await timed(times // 2, lambda: log.prover.proof(any_id()[0]))
    rows = lambda connection: [  # noqa: E731 # one question, asked of both shapes
        count for model in MODELS for count in queries.group_counts(connection, model, "race", since, None)
    ]
    wanted = Wanted(since=since)
    columns = lambda engine, at: engine.group_counts(at, wanted, "race")  # noqa: E731
    results["rates, rows"] = await timed(3, lambda: log.lookup.ask(rows))
    results["rates, columns"] = await timed(15, lambda: log.lookup.columnar(columns))
    slow = sum(count.rows for count in await log.lookup.ask(rows))
    fast = sum(found[1] for found in await log.lookup.columnar(columns))
    assert slow == fast, (slow, fast)
    results["rows counted"] = fast
    return results


def drop_cache(folder: Path) -> None:
    """Have the system forget the files' pages, as far as it is willing to."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def room(log: Log) -> Figures:
    """Bytes for each event: the store, the segments, and the same events as compressed JSON Lines."""
    store = sum(path.stat().st_size for path in log.folder.glob("audit.db*"))
    sealed = sum(path.stat().st_size for path in (log.folder / FOLDER).iterdir())
    lines = b"\n".join(body for _, body in events.bodies("loan", 20_000))
    zstd = pa.Codec("zstd", compression_level=3).compress(lines, asbytes=True)
    return {
        "store": store / log.size,
        "segments": sealed / log.size,
        "JSON Lines": len(lines) / 20_000,
        "gzip": len(gzip.compress(lines, 6)) / 20_000,
        "zstd": len(zstd) / 20_000,
    }


def memory() -> float:
    """What this process holds now, in MiB, after it gave back what it can."""
    gc.collect()
    with open("/proc/self/statm") as file:  # noqa: PTH123 # no file of ours
        pages = int(file.read().split()[1])
    return pages * resource.getpagesize() / 1024**2


async def run(given: Any, folder: Path) -> None:
    log = Log(folder)
    await log.open()
    found: dict[int, Figures] = {}
    for size in given.sizes:
        before = memory()
        growth = log.grow(size, random_ids=given.random_ids)
        after = memory()
        found[size] = await measured(log, given.times, given.window) | growth | {"bytes": room(log)}
        found[size] |= {"MiB before": before, "MiB after": after}
        show(size, found[size])
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "audit_lookup.json").write_text(json.dumps(found, indent=1))
        drawn = {
            name: [(size, figures[name][0]) for size, figures in found.items()]
            for name in ("by id", "by id, cold", "last 100", "proof", "rates, rows", "rates, columns", "input < x")
        }
        (given.out / "audit_lookup.svg").write_text(
            plot.lines(drawn, "entries in the log", "median, milliseconds", "Finding and counting as the log grows")
        )
        print(f"\nplot: {given.out / 'audit_lookup.svg'}")
    log.columns.close()
    log.writer.close()


def show(size: int, figures: Figures) -> None:
    print(f"\n{size:,} entries ({figures['recorded/s']:,.0f} recorded/s, {figures['CPU µs each']:.0f} µs CPU each)")
    print(f"{'':18}{'median ms':>12}{'p99 ms':>12}{'aim':>10}")
    for name, value in figures.items():
        if isinstance(value, tuple):
            aim = f"< {AIMS[name]:g}" if name in AIMS else ""
            missed = "  missed" if name in AIMS and value[1 if name == "by id" else 0] >= AIMS[name] else ""
            print(f"{name:18}{value[0]:>12.3f}{value[1]:>12.3f}{aim:>10}{missed}")
    ratio = figures["rates, rows"][0] / figures["rates, columns"][0]
    print(f"group rates over {figures['rows counted']:,} rows: columns {ratio:.0f} × as fast as rows")
    print("bytes each: " + ", ".join(f"{name} {value:,.0f}" for name, value in figures["bytes"].items()))
    print(f"memory: {figures['MiB before']:.0f} MiB before, {figures['MiB after']:.0f} MiB after", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 2_000_000, 10_000_000])
    parser.add_argument("--times", type=int, default=400, help="questions of each kind")
    parser.add_argument("--window", type=int, default=1_000_000, help="the newest rows that rates are taken over")
    parser.add_argument("--random-ids", action="store_true", help="UUIDv4, as an outside system may choose")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk: 3 kB for each entry")
    parser.add_argument("--out", type=Path, default=None, help="where the plot and the figures go")
    parser.add_argument("--quick", action="store_true", help="a sanity run, whose figures mean little")
    given = parser.parse_args()
    if given.quick:
        given.sizes, given.times, given.window = [10_000, 40_000], 40, 30_000
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores", flush=True)
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    folder = Path(tempfile.mkdtemp(prefix="affiant-lookup-", dir=given.folder))
    try:
        asyncio.run(run(given, folder))
    finally:
        # Or DuckDB's binding complains at the end of the process of objects that nobody collects any more.
        gc.unfreeze()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
