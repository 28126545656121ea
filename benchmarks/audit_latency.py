"""How long from the answer to the audited record, at a steady rate?

A stand-in for a model server offers predictions at `--rates` per second to file-backed JetStream (`sync_interval:
always`), as ours does: what becomes known while a message is on its way travels in the next one. The clock of a
prediction starts when JetStream acked its message, which is when its answer leaves (`audit: acked`). It ends when the
auditor, a process of its own with everything on, has acked the message, which it does once the record is durable; the
bus is asked for that every few milliseconds, which is in the figures.

    bare              the same predictions, read by a loop that keeps nothing: what bus and asking take
    ours, SQLite      the auditor
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
import nats
import uvloop
from nats.aio.client import Client

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from affiant.common import bus, wire  # noqa: E402 # found only with the line above
from affiant.common.wire import Message  # noqa: E402
from benchmarks.auditing import events  # noqa: E402
from tests.support.nats_server import NatsServer  # noqa: E402

DRAIN = str(Path(__file__).parent / "auditing" / "drain.py")
AIM_MS = 1_000.0
POLL_SECONDS = 0.003


async def offer(client: Client, rate: int, seconds: float, acked: deque[tuple[int, float]]) -> None:
    """Publish at `rate`; note the stream's sequence of each message that is acked, when, and how many it held."""
    waiting: deque[Message] = deque()
    ended = False

    async def send() -> None:
        while not ended or waiting:
            if not waiting:
                await asyncio.sleep(0.0005)
                continue
            group = [waiting.popleft() for _ in range(min(len(waiting), 500))]
            message = wire.batched(group)
            answer = await client.request(message.subject, message.body, timeout=30, headers=message.headers)
            sequence, now = int(msgspec.json.decode(answer.data)["seq"]), time.perf_counter()
            acked.extend([(sequence, now)] * len(group))

    sending = asyncio.create_task(send())
    made = events.bodies("loan", int(rate * seconds), first=int(time.time()) % 10**6 * 1_000, variety=997)
    began = time.perf_counter()
    for number, (event_id, body) in enumerate(made):
        due = began + number / rate
        if (ahead := due - time.perf_counter()) > 0.001:
            await asyncio.sleep(ahead)
        waiting.append(Message(events.subject("loan"), body, events.HEADERS | {"Nats-Msg-Id": event_id}, event_id))
    ended = True
    await sending


async def measure(url: str, rate: int, seconds: float, child: subprocess.Popen[bytes]) -> list[float]:
    """Milliseconds from each prediction's ack to its being durable."""
    client = await nats.connect(url)
    js = client.jetstream()
    acked: deque[tuple[int, float]] = deque()
    taken: list[float] = []
    offering = asyncio.create_task(offer(client, rate, seconds, acked))
    durable = bus.AUDITOR_PREDICTIONS
    while not offering.done() or acked:
        if child.poll() is not None:
            raise RuntimeError("the auditor ended; its log says why")
        info = await js.consumer_info(durable.stream, durable.name)
        floor, now = (info.ack_floor.stream_seq or 0) if info.ack_floor else 0, time.perf_counter()
        while acked and acked[0][0] <= floor:
            # The floor may have moved before the publisher even saw its own ack.
            taken.append(max(0.0, now - acked.popleft()[1]) * 1_000)
        await asyncio.sleep(POLL_SECONDS)
    await offering
    await client.close()
    return sorted(taken)


@contextlib.contextmanager
def auditor(kind: str, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that drains for ever."""
    command = [sys.executable, DRAIN, kind, url, str(folder / "store"), str(10**12), str(folder)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield child
    finally:
        if child.poll() is not None:
            print((folder / "log").read_text()[-2000:])
        child.send_signal(signal.SIGKILL)
        child.wait()


async def declare(url: str) -> None:
    client = await nats.connect(url)
    await bus.declare(client.jetstream())
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 2_000])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder by default")
    parser.add_argument("--quick", action="store_true", help="a sanity run, whose figures mean nothing")
    given = parser.parse_args()
    seconds, rounds = (3.0, 1) if given.quick else (given.seconds, given.rounds)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; milliseconds, medians of {rounds} rounds")
    print(f"{'':16}{'rate':>8}{'p50':>10}{'p99':>10}{'worst':>10}{'aim for p99':>14}", flush=True)
    for rate in given.rates:
        for name, kind in (("bare", "no-store"), ("ours, SQLite", "ours")):
            found = [_round(kind, rate, seconds, given.folder) for _ in range(rounds)]
            middle = [statistics.median(one[place] for one in found) for place in range(3)]
            aim = "" if kind != "ours" else f"< {AIM_MS:g}" + ("  missed" if middle[1] >= AIM_MS else "")
            print(f"{name:16}{rate:>8,}{middle[0]:>10.1f}{middle[1]:>10.1f}{middle[2]:>10.1f}{aim:>14}", flush=True)


def _round(kind: str, rate: int, seconds: float, place: Path | None) -> tuple[float, float, float]:
    folder = Path(tempfile.mkdtemp(prefix="affiant-latency-", dir=place))
    server = NatsServer(folder / "nats", sync="always")
    server.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(declare(server.url))
            with auditor(kind, server.url, folder) as child:
                # The first seconds are those of a process that starts.
                runner.run(measure(server.url, rate, min(5.0, seconds), child))
                taken = runner.run(measure(server.url, rate, seconds, child))
        return statistics.median(taken), taken[int(len(taken) * 0.99)], taken[-1]
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
