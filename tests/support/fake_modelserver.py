"""A model server without a model, for tests of the deployer: the same config file, control socket and signals.

`python fake_modelserver.py <config.json>`. The tag `fake` of the spec says how it behaves: `never-ready`,
`crash` (while starting), `crash-later` (0.3 s after it is ready), `refuse` (reports that it failed), `deaf`
(does not drain). It answers every request with its version, replica and pid, after `slow` seconds (another tag),
and is ready `late` seconds after its start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from affiant.common.serving import ServerConfig, ServerStatus, read_config


class FakeServer:
    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.behaviour = config.spec.tags.get("fake", "")
        self.state = "starting"
        self.detail = ""
        self.epoch = int(time.time() * 1000)
        self.under_way = 0
        self.drained = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        assert config.listen_fd is not None
        self.listener = socket.socket(fileno=config.listen_fd)

    def status(self) -> bytes:
        spec = self.config.spec
        answer = ServerStatus(
            state=self.state,  # type: ignore[arg-type]
            replica=self.config.replica,
            epoch=self.epoch,
            pid=os.getpid(),
            model=spec.model,
            version=spec.version,
            digest=spec.digest,
            alias=self.config.alias,
            detail=self.detail,
        )
        return msgspec.json.encode(answer) + b"\n"

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: self.begin(self.end()))
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        control.bind(self.config.control_socket)
        control.listen(8)
        control.setblocking(False)
        self.begin(self.take_orders(control))
        await self.become_ready()
        await self.drained.wait()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def end(self) -> None:
        await self.drain()
        self.drained.set()

    async def become_ready(self) -> None:
        await asyncio.sleep(float(self.config.spec.tags.get("late", "0.05")))
        if self.behaviour == "crash":
            sys.stderr.write("the fake model server says why\n")
            os._exit(3)
        if self.behaviour == "refuse":
            self.state, self.detail = "failed", "the model does not load"
        if self.behaviour in ("never-ready", "refuse"):
            return
        self.server = await asyncio.start_server(self.serve, sock=self.listener)
        self.state = "ready"
        if self.behaviour == "crash-later":
            await asyncio.sleep(0.3)
            os._exit(4)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(float(self.config.spec.tags.get("slow", "0.005")))
                body = json.dumps(
                    {"version": self.config.spec.version, "replica": self.config.replica, "pid": os.getpid()}
                ).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
            writer.close()
        finally:
            self.under_way -= 1

    async def drain(self) -> None:
        if self.behaviour == "deaf":
            await asyncio.sleep(3600)
        self.state = "draining"
        if hasattr(self, "server"):
            self.server.close()
        while self.under_way:
            await asyncio.sleep(0.01)

    async def take_orders(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(control)
            self.begin(self.answer(connection))

    async def answer(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            word = (await loop.sock_recv(connection, 100)).decode().strip()
            if word == "drain":
                await self.drain()
            if word == "listener":
                connection.setblocking(True)
                socket.send_fds(connection, [self.status()], [self.listener.fileno()])
            else:
                with contextlib.suppress(ConnectionError):
                    await loop.sock_sendall(connection, self.status())
            if word == "drain":
                self.drained.set()


def main() -> None:
    config = read_config(Path(sys.argv[1]).read_bytes())
    digest = "sha256:" + hashlib.sha256(Path(config.model_path).read_bytes()).hexdigest()
    assert digest == config.spec.digest

    async def run() -> None:
        await FakeServer(config).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
