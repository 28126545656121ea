"""How fast does the auditor drain a backlog, with everything on, beside the usual way and beside doing nothing?

Events of about 1 KiB and 20 columns wait in file-backed JetStream (`sync_interval: always`). Each contender is a
process of its own that drains them from a durable of its own; what it keeps is on the disk before it acks.

    usual         FastStream, one handler for each message, pydantic, one insert for each row
    batches       FastStream's batch subscriber of raw bytes, 500 at a time, one transaction
    ours          the auditor: validated, de-duplicated, Merkle leaves, look-up rows, checkpoints, sealing columns
    ours, arrays  the same, of events that were published 100 to a message, as our model servers do under load
    no store      the auditor's own pull loop with nothing behind it: the limit of the loop

On SQLite and on PostgreSQL (both with fsync). Medians over the rounds; the ratios are within one round's machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats
from nats.js.errors import NotFoundError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from affiant.common import bus, wire  # noqa: E402 # found only with the line above
from benchmarks.auditing import events  # noqa: E402
from tests.support.nats_server import NatsServer  # noqa: E402
from tests.support.postgres import Postgres  # noqa: E402

DRAIN = str(Path(__file__).parent / "auditing" / "drain.py")
CONTENDERS = ("usual", "batches", "ours", "ours, arrays", "no store")
DURABLES = {"usual": "usual", "batches": "batches"}


async def fill(url: str, number: int, each: int) -> None:
    """Publish a backlog, `each` events to a message."""
    client = await nats.connect(url)
    js = client.jetstream(publish_async_max_pending=2_000)
    await bus.declare(js)
    waiting = []
    held: list[wire.Message] = []
    for event_id, body in events.bodies("loan", number):
        held.append(wire.Message(events.subject("loan"), body, events.HEADERS | {"Nats-Msg-Id": event_id}, event_id))
        if len(held) == each:
            message = wire.batched(held)
            held = []
            waiting.append(await js.publish_async(message.subject, message.body, headers=dict(message.headers)))
        if len(waiting) >= 1_000:
            await asyncio.gather(*waiting)
            waiting = []
    await asyncio.gather(*waiting)
    await client.close()


async def forget(url: str, durable: str) -> None:
    """Have the backlog wait again for whoever comes next."""
    client = await nats.connect(url)
    js = client.jetstream()
    with suppress(NotFoundError):
        await js.delete_consumer("PREDICTIONS", durable)
    await bus.declare(js)
    await client.close()


@contextmanager
def backlog(folder: Path, number: int, each: int) -> Iterator[str]:
    server = NatsServer(folder, sync="always")
    server.start()
    try:
        asyncio.run(fill(server.url, number, each))
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(folder)


def drain(contender: str, url: str, store: str, number: int, folder: Path) -> dict[str, float]:
    asyncio.run(forget(url, DURABLES.get(contender, bus.AUDITOR_PREDICTIONS.name)))
    name = contender.partition(",")[0].replace(" ", "-")
    command = [sys.executable, DRAIN, name, url, store, str(number), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1_800)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{contender} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(lines[-1])
    return found | {"rate": number / found["seconds"], "per_1000": found["processor"] / number * 1_000}


def round_(number: int, slow: int, folder: Path, postgres: Postgres | None) -> dict[tuple[str, str], dict[str, float]]:
    """Every contender once."""
    results: dict[tuple[str, str], dict[str, float]] = {}
    stores = ["SQLite", *(["PostgreSQL"] if postgres else [])]
    for each, contenders in ((1, CONTENDERS[:3] + CONTENDERS[4:]), (100, CONTENDERS[3:4])):
        with backlog(folder / "nats", number, each) as url:
            for contender in contenders:
                for place in stores if contender != "no store" else ["–"]:
                    own = Path(tempfile.mkdtemp(dir=folder))
                    store = postgres.new_database() if postgres and place == "PostgreSQL" else str(own / "store")
                    if contender.startswith("ours"):
                        store = store.replace("postgresql+psycopg", "postgresql")
                    wanted = slow if contender == "usual" else number
                    results[contender, place] = drain(contender, url, store, wanted, own)
                    shutil.rmtree(own)
    return results


def show(rounds: list[dict[tuple[str, str], dict[str, float]]]) -> None:
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for key in rounds[0]:
        for figure in ("rate", "per_1000", "peak_mib"):
            found[key][figure] = statistics.median(one[key][figure] for one in rounds)
    limit = found["no store", "–"]["rate"]
    print(f"\n{'':14}{'store':12}{'events/s':>10}{'× usual':>9}{'of loop':>9}{'CPU s/1000':>12}{'peak MiB':>10}")
    for (contender, place), figures in found.items():
        usual = found.get(("usual", place), {}).get("rate")
        times = f"{figures['rate'] / usual:.1f}" if usual else "–"
        print(
            f"{contender:14}{place:12}{figures['rate']:>10,.0f}{times:>9}{figures['rate'] / limit:>9.0%}"
            f"{figures['per_1000']:>12.4f}{figures['peak_mib']:>10.0f}"
        )
    print("\naim: ours at least 20 × usual, and at least 50 % of the loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--slow", type=int, default=5_000, help="events for the usual way, which takes long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a sanity run, whose figures mean nothing")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder by default")
    given: Any = parser.parse_args()
    number, slow, rounds = (4_000, 500, 1) if given.quick else (given.events, given.slow, given.rounds)
    print(f"{number} events, {rounds} rounds · Python {platform.python_version()}", flush=True)
    postgres: Postgres | None = Postgres(durable=True)
    try:
        assert postgres is not None
        postgres.start()
    except BaseException as error:  # the test helper skips where there is none
        print(f"without PostgreSQL: {error}")
        postgres = None
    folder = Path(tempfile.mkdtemp(prefix="affiant-drain-", dir=given.folder))
    try:
        found = []
        for place in range(rounds):
            found.append(round_(number, slow, folder, postgres))
            rates = ", ".join(f"{' '.join(key)} {one['rate']:,.0f}" for key, one in found[-1].items())
            print(f"round {place + 1}: {rates}", flush=True)
        show(found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if postgres:
            postgres.stop()


if __name__ == "__main__":
    main()
