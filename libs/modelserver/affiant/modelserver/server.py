"""uvicorn, driven so that a change of versions fails no request.

Old and new version accept from one listening socket. To drain, the old one closes its copy of it: whoever connects
from then on reaches the new one. Connections that are open go on being answered, each answer with
`Connection: close`, so that the client comes back through the shared socket. An idle connection is left open until
its client speaks once more, because a client may be sending at the very moment we close.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from affiant.modelserver.api import Door

log = structlog.get_logger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than most clients and balancers keep an idle connection, so that it is they who close it."""
BACKLOG = 2048


class Server(uvicorn.Server):
    """Serves `door` on `listener` until `drain` has ended."""

    def __init__(self, door: Door, listener: socket.socket, drain_seconds: float, request_seconds: float = 5.0) -> None:
        super().__init__(
            uvicorn.Config(
                door,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                date_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(request_seconds) + 1,
            )
        )
        self._door = door
        self._listener = listener
        self._drain_seconds = drain_seconds
        self.accepting = asyncio.Event()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}"

    async def run_until_drained(self) -> None:
        """Accept and answer; returns when `drain` was called and no connection is left."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn; `accepting` is set from here on."""
        await super().startup(sockets)
        self.accepting.set()

    def drain(self) -> None:
        """Stop accepting now; what is open is answered. To be called once `accepting` is set."""
        self._door.draining = True
        for server in self.servers:
            server.close()
        self._listener.close()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn after its main loop; waits for the clients, then lets uvicorn close what is left."""
        deadline = asyncio.get_running_loop().time() + self._drain_seconds
        # uvicorn keeps the connections in a plain set and tells nobody when one goes.
        while self.server_state.connections and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if self.server_state.connections:
            log.info("closing connections whose clients stayed silent", open=len(self.server_state.connections))
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the application's business: uvicorn would raise them again at its end, and exit with 143."""
        yield


def listener(descriptor: int | None, host: str, port: int) -> socket.socket:
    """The inherited listening socket, or a new one bound to `host`:`port`. Raises `OSError`."""
    if descriptor is not None:
        inherited = socket.socket(fileno=descriptor)
        inherited.setblocking(False)
        return inherited
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    bound.setblocking(False)
    return bound
