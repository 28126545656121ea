"""The stream: how many predictions a second, 12 % of them denials, get every denial explained within five seconds.

    python benchmarks/explain_stream.py [--quick]

A real nats-server, the explainer as a process of its own with two workers, and this process, which publishes what model
servers would log and reads what the explainer publishes, all on the same machine. Every denial gets SHAP values and an
anchor. For each model: first a queue of denials is worked off as fast as it goes; then the rate that this promises is
tried, and lower ones, until the 99th percentile of the time from a prediction to its explanation on the bus is at most
five seconds and nothing is missing.

Beside it, in the same run: how fast the explainer reads predictions when it computes nothing, and the limit, the rows
a second that `session.run` alone decides on one core. Memory is that of a worker at the end of its model's runs (RSS,
and PSS, in which shared pages count by halves).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import numpy as np
from nats.aio.client import Client
from nats.aio.msg import Msg

sys.path.insert(0, str(Path(__file__).parents[1]))
from affiant.common import bus, trace, wire
from affiant.common.events import PredictionExplained, PredictionLogged
from benchmarks.explaining.loans import KINDS, Loans, loans, session
from tests.support.explained import Trained
from tests.support.explainer import Bus, ExplainerProcess
from tests.support.nats_server import NatsServer

DENIED = 0.12
WITHIN_SECONDS = 5.0
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
TOGETHER = 50
"""Most predictions in one message: what a model server has collected while the last message was on its way."""

TICK = 0.025


@dataclass(frozen=True)
class Run:
    """What became of one stretch of predictions."""

    denied: int
    explained: int
    incomplete: int
    latencies: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies) if self.latencies else float("inf")

    @property
    def p99(self) -> float:
        return float(np.percentile(self.latencies, 99)) if self.latencies else float("inf")

    @property
    def good(self) -> bool:
        return self.explained == self.denied and not self.incomplete and self.p99 <= WITHIN_SECONDS


class Stream:
    """Publishes predictions of one model and notes when their explanations come."""

    def __init__(self, client: Client, made: Loans) -> None:
        self._js = client.jetstream()
        self._client = client
        self._made = made
        granted = np.setdiff1d(np.arange(len(made.rows)), made.denied)
        self._rows = {True: made.denied.tolist(), False: granted.tolist()}
        self._taken = {True: 0, False: 0}
        self._sent: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self._incomplete = 0

    async def listen(self) -> None:
        await self._client.subscribe("affiant.explainer.>", cb=self._hear)

    async def _hear(self, message: Msg) -> None:
        event = wire.decode(message.subject, message.data, message.headers).event
        if isinstance(event, PredictionExplained):
            self._incomplete += event.anchor is None or event.shap is None
            self._done[event.prediction_id] = time.monotonic()

    def predictions(self, count: int, denied: float) -> list[PredictionLogged]:
        """`count` predictions, of which the share `denied` are denials, evenly spread."""
        found = []
        for at in range(count):
            kind = int((at + 1) * denied) > int(at * denied)
            rows = self._rows[kind]
            found.append(self._made.record(rows[self._taken[kind] % len(rows)]))
            self._taken[kind] += 1
        return found

    async def publish(self, records: Sequence[PredictionLogged]) -> None:
        """As model servers do: what comes together travels together."""
        for start in range(0, len(records), TOGETHER):
            part = records[start : start + TOGETHER]
            messages = [
                wire.encode(each, owner="modelserver", id=each.prediction_id, traceparent=trace.new_traceparent())
                for each in part
            ]
            message = wire.batched(messages)
            moment = time.monotonic()
            self._sent.update({each.prediction_id: moment for each in part if each.adverse[0]})
            await self._js.publish(message.subject, message.body, headers=message.headers)

    async def work_off(self, count: int) -> float:
        """Denials a second, of `count` that are there at once."""
        records = self.predictions(count, 1.0)
        await self.publish(records[:1])
        await self._until({records[0].prediction_id}, 120)
        started = time.monotonic()
        await self.publish(records[1:])
        await self._until({each.prediction_id for each in records}, 600)
        return (count - 1) / (time.monotonic() - started)

    async def run(self, rate: float, seconds: float) -> Run:
        """`rate` predictions a second for so long, and then as long as it takes, up to three times the bound."""
        self._incomplete = 0
        records = self.predictions(int(rate * seconds), DENIED)
        started = time.monotonic()
        sent = 0
        while sent < len(records):
            due = min(len(records), int((time.monotonic() - started) * rate) + 1)
            if due > sent:
                await self.publish(records[sent:due])
                sent = due
            await asyncio.sleep(TICK)
        denied = {each.prediction_id for each in records if each.adverse[0]}
        await self._until(denied, 3 * WITHIN_SECONDS)
        latencies = [self._done[each] - self._sent[each] for each in denied if each in self._done]
        return Run(len(denied), len(latencies), self._incomplete, latencies)

    async def _until(self, wanted: set[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while wanted - self._done.keys() and time.monotonic() < deadline:
            await asyncio.sleep(TICK)


@contextmanager
def server() -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory() as folder:
        running = NatsServer(Path(folder) / "nats")
        running.start()
        try:
            yield running
        finally:
            running.stop()


@asynccontextmanager
async def explaining(made: Loans, workers: int) -> AsyncIterator[tuple[ExplainerProcess, Stream]]:
    """The system around one model."""
    with server() as running, tempfile.TemporaryDirectory() as folder:
        client = await nats.connect(running.url)
        await bus.declare(client.jetstream())
        explainer = ExplainerProcess(Path(folder), running.url, WORKERS=str(workers))
        explainer.start()
        try:
            trained = Trained(made.model, made.background_csv, made.spec, [], [], [])
            await Bus(client, explainer).registers(trained)
            await explainer.until_ready(120)
            stream = Stream(client, made)
            await stream.listen()
            yield explainer, stream
        finally:
            explainer.close()
            await client.close()


async def intake(made: Loans, count: int) -> float:
    """Predictions a second that an explainer without workers takes in."""
    async with explaining(made, 0) as (explainer, stream):
        records = stream.predictions(count, DENIED)
        denied = sum(each.adverse[0] for each in records)
        await stream.publish(records[:1])

        async def queued(least: int) -> bool:
            return bool((await explainer.get("/v1/queue")).json()["queued"] >= least)

        started = time.monotonic()
        await stream.publish(records[1:])
        published = time.monotonic() - started
        while not await queued(denied):
            await asyncio.sleep(TICK)
        print(f"  published in {published:.1f} s, taken in after {time.monotonic() - started:.1f} s", file=sys.stderr)
        return count / (time.monotonic() - started)


def bare(made: Loans, seconds: float = 1.0) -> float:
    """Rows a second of `session.run` alone, on one core."""
    run, rows = session(made.model), np.ascontiguousarray(made.rows[:1000])
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        run.run(None, {"X": rows})
        done += len(rows)
    return done / (time.perf_counter() - started)


def memory(explainer: ExplainerProcess) -> tuple[float, float]:
    """A worker's RSS and PSS in MiB, the mean of all."""
    figures = []
    for pid in explainer.workers():
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        figures.append([int(re.findall(rf"^{kind}:\s+(\d+)", text, re.MULTILINE)[0]) / 1024 for kind in ("Rss", "Pss")])
    rss, pss = np.mean(figures, axis=0)
    return float(rss), float(pss)


async def measure(made: Loans, quick: bool) -> None:
    """One line of the table."""
    async with explaining(made, 2) as (explainer, stream):
        await stream.work_off(20 if quick else 60)
        capacity = await stream.work_off(40 if quick else 400)
        for share in SHARES:
            rate = capacity / DENIED * share
            run = await stream.run(rate, 5 if quick else 20)
            print(
                f"  {made.kind}: {rate:.0f}/s: {run.explained} of {run.denied} denials explained,"
                f" p50 {run.p50:.2f} s, p99 {run.p99:.2f} s",
                file=sys.stderr,
            )
            if run.good:
                break
        rss, pss = memory(explainer)
    reached = f"{rate:16.0f} {run.p50:8.2f} {run.p99:8.2f}" if run.good else f"{'none':>16} {'':8} {'':8}"
    print(f"{made.kind:9} {capacity:10.1f} {reached} {rss:6.0f} {pss:6.0f} {bare(made):13.0f}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds only: is it alive?")
    parser.add_argument("--model", choices=KINDS, action="append", help="this model only (may be repeated)")
    options = parser.parse_args()
    first = loans((options.model or KINDS)[0])
    taken = await intake(first, 4_000 if options.quick else 20_000)
    print(f"intake without workers: {taken:.0f} predictions a second\n")
    print("two workers, SHAP values and an anchor for every denial")
    print("model      denials/s  predictions/s  p50 (s)  p99 (s)    RSS    PSS  bare rows/s")
    for kind in options.model or KINDS:
        await measure(loans(kind), options.quick)


if __name__ == "__main__":
    asyncio.run(main())
