"""The control socket: how the deployer asks, and tells (see `affiant.common.serving`).

A plain socket, not an asyncio stream: a descriptor travels along with an answer (SCM_RIGHTS).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from affiant.common.errors import Problem
from affiant.common.serving import ServerStatus

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 5.0
LONGEST_WORD = 64
LONGEST_PATH = 107
"""Linux has 108 bytes for the path of a Unix socket, the last one zero."""


class Control:
    """Serves `path`. `drain` returns when what is under way is finished; `listener` may be closed by then."""

    def __init__(
        self,
        path: Path,
        status: Callable[[], ServerStatus],
        drain: Callable[[], Awaitable[None]],
        listener: Callable[[], socket.socket | None],
    ) -> None:
        self._path = path
        self._status = status
        self._drain = drain
        self._listener = listener
        self._clients: set[asyncio.Task[None]] = set()
        self.asked = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled. Raises `Problem` when the path cannot be used."""
        loop = asyncio.get_running_loop()
        with self._bound() as door:
            while True:
                client, _ = await loop.sock_accept(door)
                task = asyncio.create_task(self._serve(client))
                self._clients.add(task)
                task.add_done_callback(self._clients.discard)

    async def finish(self) -> None:
        """Wait until those who asked have their answer."""
        if self._clients:
            await asyncio.wait(self._clients, timeout=PATIENCE_SECONDS)

    def _bound(self) -> socket.socket:
        if len(str(self._path).encode()) > LONGEST_PATH:
            raise Problem(f"the path of the control socket is longer than {LONGEST_PATH} bytes: {self._path}")
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)  # of a process that was killed: the deployer gives each its own path
            door.bind(str(self._path))
            self._path.chmod(0o600)
        except OSError as error:
            door.close()
            raise Problem(f"cannot listen on the control socket {self._path}: {error.strerror}") from error
        door.listen(16)
        door.setblocking(False)
        return door

    async def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, TimeoutError):
            client.setblocking(False)
            word = await asyncio.wait_for(_word(client), PATIENCE_SECONDS)
            if word == "drain":
                await self._drain()
            await self._answer(client, word)

    async def _answer(self, client: socket.socket, word: str) -> None:
        line = msgspec.json.encode(self._status()) + b"\n"
        listener = self._listener() if word == "listener" else None
        if word not in ("status", "drain", "listener"):
            line = msgspec.json.encode({"error": f"{word!r} is not known; status, drain and listener are"}) + b"\n"
        if listener is not None:
            socket.send_fds(client, [line], [listener.fileno()])
        else:
            await asyncio.get_running_loop().sock_sendall(client, line)
        self.asked.set()


async def _word(client: socket.socket) -> str:
    data = b""
    while b"\n" not in data and len(data) < LONGEST_WORD:
        chunk = await asyncio.get_running_loop().sock_recv(client, LONGEST_WORD)
        if not chunk:
            break
        data += chunk
    return data.split(b"\n", 1)[0].decode("ascii", "replace").strip()
