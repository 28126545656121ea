"""The load: N clients, each sends its next request when it has the answer to the last one, on a connection kept open.

A raw asyncio protocol under uvloop that builds nothing and parses only what it must, because it shares the machine
with what it measures: about 10 µs of Python for each request. Run as a process of its own:

    python benchmarks/modelserver/load.py <port> <path> <bodies.json> <clients> <seconds>

Prints one JSON object: requests, failures, seconds, and latencies in microseconds (p50, p99).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import cast

import uvloop

WARM_SECONDS = 0.5


class Load:
    """What all clients share."""

    def __init__(self, requests: list[bytes]) -> None:
        self.next = cycle(requests).__next__
        self.latencies: list[float] = []
        self.failures = 0
        self.stopped = False


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        start = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[start:].split(b"\r\n", 1)[0]):
            return
        self._received = b""
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if not head.startswith(b"HTTP/1.1 200"):
            self._load.failures += 1
        if not self._load.stopped:
            self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.next())


async def run(port: int, path: str, bodies: list[str], clients: int, seconds: float) -> dict[str, float]:
    """Warm up, measure, and say what was measured."""
    load = Load([_request(path, body.encode()) for body in bodies])
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", port)
    await asyncio.sleep(WARM_SECONDS)
    load.latencies.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    latencies = sorted(load.latencies)
    load.stopped = True
    await asyncio.sleep(0.2)
    return {
        "requests": len(latencies),
        "failures": load.failures,
        "seconds": elapsed,
        "p50_us": latencies[len(latencies) // 2] * 1e6,
        "p99_us": latencies[int(len(latencies) * 0.99)] * 1e6,
    }


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    port_, path_, file_, clients_, seconds_ = sys.argv[1:]
    bodies_ = json.loads(Path(file_).read_text())
    print(json.dumps(uvloop.run(run(int(port_), path_, bodies_, int(clients_), float(seconds_)))))
