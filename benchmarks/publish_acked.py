"""What does an acked record cost a model server, one by one, in our batches, and in JetStream's atomic batches?

nats-server keeps its stream in a file with `sync_interval: always`: an ack means that the record is on the disk. From
one process, records of about 1 KiB and 20 columns:

    one by one       one message, one ack, `--clients` of them in flight: the usual way
    together         as our model server does (decision 5): while one message is on its way, what comes in the meantime
                     collects and travels in the next one, as a JSON array of events
    atomic           the same, but each group is an atomic batch (ADR-50): one message for each event, one commit

Each record is offered by one of `--clients` tasks, which offers the next when it has its ack; so throughput and latency
are of the same run. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
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

Publish = Callable[[Message], Awaitable[None]]
WAIT_SECONDS = 30.0
MOST_TOGETHER = 500


async def acked(client: Client, message: Message, **headers: str) -> None:
    """Publish and wait for the ack; an error answer is an error."""
    answer = await client.request(
        message.subject, message.body, timeout=WAIT_SECONDS, headers=message.headers | headers
    )
    said = msgspec.json.decode(answer.data)
    if "error" in said:
        raise RuntimeError(said["error"])


class Together:
    """Collects what comes while a group is on its way; `send` takes a group and returns when it is durable."""

    def __init__(self, send: Callable[[list[Message]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: list[tuple[Message, asyncio.Future[None]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def publish(self, message: Message) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, done))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            await self._send([message for message, _ in group])
            for _, done in group:
                done.set_result(None)


def arrays(client: Client) -> Publish:
    async def send(group: list[Message]) -> None:
        await acked(client, wire.batched(group))

    return Together(send).publish


def atomic(client: Client) -> Publish:
    numbers = iter(range(1, 10**9))

    async def send(group: list[Message]) -> None:
        if len(group) == 1:
            await acked(client, group[0])
            return
        name = f"b{next(numbers)}"
        for place, message in enumerate(group[:-1], start=1):
            own = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(place)}
            # Only the last message of a batch is answered with the ack of all.
            await client.publish(message.subject, message.body, headers=message.headers | own)
        last = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(len(group)), "Nats-Batch-Commit": "1"}
        await acked(client, group[-1], **last)

    return Together(send).publish


def alone(client: Client) -> Publish:
    return lambda message: acked(client, message)


WAYS: dict[str, Callable[[Client], Publish]] = {"one by one": alone, "together": arrays, "atomic": atomic}


async def measure(url: str, way: str, clients: int, number: int, first: int) -> tuple[float, float, float]:
    """(records/s, p50 ms, p99 ms)."""
    client = await nats.connect(url)
    publish = WAYS[way](client)
    waiting = [
        Message(events.subject("loan"), body, events.HEADERS | {"Nats-Msg-Id": made}, made)
        for made, body in events.bodies("loan", number, first=first, variety=997)
    ]
    taken: list[float] = []

    async def offer() -> None:
        while waiting:
            message = waiting.pop()
            start = time.perf_counter()
            await publish(message)
            taken.append((time.perf_counter() - start) * 1_000)

    began = time.perf_counter()
    await asyncio.gather(*[offer() for _ in range(clients)])
    seconds = time.perf_counter() - began
    await client.close()
    taken.sort()
    return number / seconds, statistics.median(taken), taken[int(len(taken) * 0.99)]


async def declare(url: str) -> None:
    client = await nats.connect(url)
    await bus.declare(client.jetstream())
    await client.close()


def syncs(folder: Path) -> float:
    """How many milliseconds this disk takes to make 1 KiB durable at the end of a file: the limit of one by one."""
    times = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        for _ in range(100):
            start = time.perf_counter()
            file.write(b"x" * 1_200)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1_000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32, 512])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder by default")
    parser.add_argument("--quick", action="store_true", help="a sanity run, whose figures mean nothing")
    given = parser.parse_args()
    records, rounds = (1_000, 1) if given.quick else (given.records, given.rounds)
    folder = Path(tempfile.mkdtemp(prefix="affiant-publish-", dir=given.folder))
    server = NatsServer(folder, sync="always")
    server.start()
    try:
        print(f"Python {platform.python_version()}; one sync of this disk takes {syncs(folder):.2f} ms")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(declare(server.url))
            first = 1
            for clients in given.clients:
                number = min(records, 100 * clients if clients < 32 else records) if not given.quick else records
                found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
                for _ in range(rounds):
                    for way in WAYS:
                        found[way].append(runner.run(measure(server.url, way, clients, number, first)))
                        first += number
                _show(clients, found)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _show(clients: int, found: dict[str, list[tuple[float, float, float]]]) -> None:
    print(f"\n{clients} in flight{'':8}{'records/s':>12}{'ratio':>8}{'p50 ms':>10}{'p99 ms':>10}", flush=True)
    usual = statistics.median(one[0] for one in found["one by one"])
    for way, runs in found.items():
        rate, middle, late = (statistics.median(one[place] for one in runs) for place in range(3))
        print(f"{way:22}{rate:>10,.0f}{rate / usual:>8.1f}{middle:>10.2f}{late:>10.2f}")


if __name__ == "__main__":
    main()
