"""Puts the server together, runs it, and takes it down without failing a request.

Exit codes: 0 after a drain; 1 when something broke on the way (the deployer starts another); 2 when this
configuration or this file can never be served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from affiant.common.errors import Problem
from affiant.common.serving import ServerConfig, ServerStatus
from affiant.common.settings import read_secret
from affiant.modelserver.api import Door, token_hash
from affiant.modelserver.audit import Acked, Audit, Buffered
from affiant.modelserver.buffer import Buffer, name_of
from affiant.modelserver.connection import Connection
from affiant.modelserver.control import Control
from affiant.modelserver.inference import Inference
from affiant.modelserver.metrics import Metrics
from affiant.modelserver.model import RUNTIME, Model, load
from affiant.modelserver.publisher import NotDurable, Publisher
from affiant.modelserver.record import Identity
from affiant.modelserver.server import Server, listener

log = structlog.get_logger(__name__)

FAILED_SECONDS = 2.0
"""How long a server that cannot serve stays to say why, unless it was asked before."""
LEAST_FLUSH_SECONDS = 1.0


class App:
    """One process's life. Build it inside the event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._epoch = time.time_ns() // 1_000_000
        self._state: Any = "starting"
        self._detail = "loading the model"
        self._stop = asyncio.Event()
        self._drained = asyncio.Event()
        self._exit_code = 0
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = Connection(config.bus, config.replica)
        self._connection.on_closed = lambda: self._break("the connection to the bus was closed for good")
        self._metrics = Metrics(config.spec, config.alias, config.replica, self._unpublished)
        self._publisher = Publisher(self._connection, self._metrics.stored)
        self._buffer = Buffer(Path(config.data_dir) / "wal", name_of(config.replica, self._epoch), self._publisher)
        self._inference: Inference | None = None

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        control = self._open_control()
        try:
            model = await self._until_stopped(self._start())
            if model is not None:
                await self._serve(model)
        except Problem as problem:
            await self._fail(problem, control)
            return 2
        finally:
            await self._close(control)
        return self._exit_code

    def status(self) -> ServerStatus:
        """How this server is."""
        spec = self._config.spec
        return ServerStatus(
            state=self._state,
            replica=self._config.replica,
            epoch=self._epoch,
            pid=os.getpid(),
            model=spec.model,
            version=spec.version,
            digest=spec.digest,
            alias=self._config.alias,
            requests=self._inference.requests if self._inference else 0,
            unpublished=self._unpublished(),
            detail=self._detail or self._publisher.trouble,
        )

    # --- start ------------------------------------------------------------------------------------------------

    async def _start(self) -> Model:
        """The model and the bus are made ready side by side; the listening socket is not touched before both are."""
        connecting = asyncio.create_task(self._connection.open())
        try:
            model = await asyncio.to_thread(load, self._config.spec, Path(self._config.model_path))
            self._detail = ""
            await connecting
        finally:
            connecting.cancel()
        return model

    async def _serve(self, model: Model) -> None:
        server = self._make_server(model)
        serving = self._background(server.run_until_drained())
        self._background(self._buffer.run())
        accepting = asyncio.create_task(server.accepting.wait())
        await asyncio.wait({serving, accepting}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        self._state = "ready"
        log.info("ready", address=server.address, replica=self._config.replica)
        await self._stop.wait()
        self._state = "draining"
        started = time.monotonic()
        server.drain()
        await asyncio.wait({serving})
        await self._say_the_end()
        await self._flush(self._config.drain_seconds - (time.monotonic() - started))
        self._listener = None
        self._drained.set()
        log.info("drained", seconds=round(time.monotonic() - started, 3))

    def _make_server(self, model: Model) -> Server:
        config = self._config
        audit = self._make_audit()
        inference = self._inference = self._make_inference(model, audit)

        def not_ready() -> str:
            return "draining" if self._state == "draining" else audit.trouble()

        door = Door(config.spec, inference, not_ready, self._metrics.page, _tokens(config.token_file))
        try:
            self._listener = listener(config.listen_fd, config.host, config.port)
        except OSError as error:
            raise Problem(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
        return Server(door, self._listener, config.drain_seconds, config.audit_timeout_seconds)

    def _make_inference(self, model: Model, audit: Audit) -> Inference:
        who = Identity(self._config.spec, self._config.alias, self._config.replica, self._epoch, RUNTIME)
        return Inference(model, who, audit, self._metrics.done)

    def _make_audit(self) -> Audit:
        config = self._config
        if config.spec.policy.audit == "buffered":
            return Buffered(self._buffer, self._publisher, config.unpublished_max_bytes)
        return Acked(self._publisher, config.audit_timeout_seconds, config.unpublished_max_bytes)

    # --- end --------------------------------------------------------------------------------------------------

    async def _say_the_end(self) -> None:
        """No number will be drawn any more: have it recorded how many were, by the same way as the records."""
        if self._inference is None:
            return
        message = self._inference.ending()
        if self._config.spec.policy.audit == "buffered":
            try:
                await self._buffer.append(message)
            except NotDurable as error:
                log.warning("the end of the sequence is not in the write-ahead file", reason=str(error))
            else:
                return
        self._publisher.submit(message)

    async def _flush(self, seconds: float) -> None:
        """Publish what is left; what cannot be published in time is left on the disk for the next process."""
        seconds = max(seconds, LEAST_FLUSH_SECONDS)
        if self._config.spec.policy.audit == "buffered" and not await self._buffer.flush(seconds):
            log.warning("the write-ahead file is left for the next process", reason=self._publisher.trouble)
            return
        left = await self._publisher.flush(seconds)
        self._buffer.spill(left)

    async def _fail(self, problem: Problem, control: Control | None) -> None:
        self._state, self._detail = "failed", problem.message
        log.error("cannot serve", reason=problem.message, hint=problem.hint)
        if control is not None:
            control.asked.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(control.asked.wait(), FAILED_SECONDS)

    def _break(self, reason: str) -> None:
        """Something that must go on for ever ended: drain what can be drained, and let another process begin."""
        log.error("stopping", reason=reason)
        self._exit_code = 1
        self._stop.set()

    async def _close(self, control: Control | None) -> None:
        self._drained.set()
        if control is not None:
            await control.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._buffer.close()
        await self._connection.close()

    # --- parts ------------------------------------------------------------------------------------------------

    def _open_control(self) -> Control | None:
        if not self._config.control_socket:
            return None
        path = Path(self._config.control_socket)
        control = Control(path, self.status, self._drain, lambda: self._listener)
        self._background(control.run())
        return control

    async def _drain(self) -> None:
        self._stop.set()
        await self._drained.wait()

    def _unpublished(self) -> int:
        return self._publisher.count + self._buffer.messages

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._drained.is_set():
            return
        error = task.exception()
        if error is not None:
            self._break(f"a part of the server failed: {error!r}")
        elif not self._stop.is_set():
            self._break("a part of the server ended")

    async def _until_stopped(self, work: Coroutine[Any, Any, Model]) -> Model | None:
        """What `work` returns; `None` when the process is told to stop before."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()


def _tokens(path: str) -> frozenset[bytes]:
    """The tokens in a file, one a line: while one is replaced, both count. None where no file is named."""
    tokens = read_secret(path).split()
    if path and not tokens:
        raise Problem(f"the token file {path} is empty", hint="one token a line, or no token_file at all")
    return frozenset(token_hash(token.encode()) for token in tokens)
