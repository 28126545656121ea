"""The local back end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from affiant.common.errors import Problem
from affiant.common.events import ModelSpec
from affiant.common.serving import BusAccess, ServerConfig
from affiant.deployer.backends.artifacts import Artifacts, WrongDigest
from affiant.deployer.backends.local import control
from affiant.deployer.backends.local.folders import Folders
from affiant.deployer.backends.local.listeners import Listeners
from affiant.deployer.backends.local.process import Process, find, spawn
from affiant.deployer.backends.local.server import STATUS_SECONDS, Server
from affiant.deployer.domain.situation import Instance, Route, Slot
from affiant.deployer.domain.steps import Kept

log = structlog.get_logger(__name__)

GRACE_SECONDS = 15.0
"""How much longer than its `drain_seconds` a model server may take to end: it still publishes its last records."""

MODEL_SERVER = (sys.executable, "-m", "affiant.modelserver")


class LocalBackend:
    """Model servers as child processes. `changed` is called when something is worth another look."""

    name = "local"
    shares_by = ""
    no_shares = (
        "the local back end cannot give a challenger a share of the champion's requests: all servers of an address "
        "accept from one listening socket, and which of them takes a connection is chance; the challenger answers at "
        "an address of its own (the kubernetes back end gives shares)"
    )

    def __init__(
        self,
        folders: Folders,
        artifacts: Artifacts,
        listeners: Listeners,
        bus: BusAccess,
        *,
        drain_seconds: float,
        changed: Callable[[], None],
        command: Sequence[str] = MODEL_SERVER,
        token_file: str = "",
    ) -> None:
        self._folders = folders
        self._artifacts = artifacts
        self._listeners = listeners
        self._bus = bus
        self._drain_seconds = drain_seconds
        self._changed = changed
        self._command = command
        self._token_file = token_file
        self._servers: dict[str, Server] = {}
        self._watched: dict[str, int] = {}

    async def open(self) -> None:
        """Make the folders and take over what an earlier deployer left running."""
        self._folders.make()
        for folder in sorted(self._folders.servers.iterdir()):
            try:
                process = find(folder)
            except (msgspec.ValidationError, OSError):
                log.exception("a model server runs whose folder cannot be read", folder=str(folder))
                continue
            if process is not None:
                await self._adopt(process)
        self._prune()

    async def observe(self) -> list[Instance]:
        """Ask every server how it is, and those that were taken over for their listening socket."""
        await asyncio.gather(*(server.look() for server in self._servers.values()))
        for slot in {server.slot for server in self._servers.values() if server.phase == "ready"}:
            await self._recover_listener(slot)
        return [server.instance() for server in self._servers.values()]

    def address(self, slot: Slot) -> str:
        """`http://host:port` of the slot's listening socket."""
        return self._listeners.url(slot)

    def share_in_words(self, _: Slot) -> str:
        """It gets none."""
        return ""

    def leads(self) -> bool:
        """Always: the lock on the data folder lets no other deployer in."""
        return True

    def route(self, _: Slot) -> Route | None:
        """Nowhere in particular: who has the socket answers."""
        return None

    async def redirect(self, slot: Slot, route: Route) -> None:
        """Never asked for."""
        raise NotImplementedError(self.no_shares)

    async def maintain(self, _slot: Slot, _kept: Kept) -> list[str]:
        """A process is as it was started."""
        return []

    async def start(self, slot: Slot, spec: ModelSpec) -> None:
        """Fetch the model and start a server for it, in the background."""
        token = secrets.token_hex(6)
        replica = f"{slot.model}-{slot.alias}-v{spec.version}-{token}"
        server = Server(slot, spec.version, spec.digest, replica)
        self._servers[replica] = server
        server.work = asyncio.create_task(self._bring_up(server, spec, token))

    async def drain(self, instance: Instance) -> None:
        """Tell it once; a server that has no process yet just fails."""
        server = self._servers.get(instance.replica)
        if server is None or server.drain_asked_at is not None:
            return
        server.drain_asked_at = time.time()
        await _cancel(server.work)
        if server.process is None:
            server.fail("no longer wanted")
        else:
            server.work = asyncio.create_task(server.drain(self._drain_seconds + GRACE_SECONDS))

    async def discard(self, instance: Instance) -> None:
        """End it and let its folder be removed in time."""
        server = self._servers.get(instance.replica)
        if server is None:
            return
        await _cancel(server.work)
        await server.kill()
        self._unwatch(server)
        del self._servers[instance.replica]
        self._prune()

    async def release(self, slot: Slot) -> None:
        """Close the listening socket; its port stays the slot's."""
        self._listeners.close(slot)

    async def close(self, *, stop: bool) -> None:
        """Stop watching; with `stop` drain every server and end those that do not end by themselves."""
        for server in self._servers.values():
            if not stop or server.process is None:
                await _cancel(server.work)
        if stop:
            await asyncio.gather(*(self._stop(server) for server in self._servers.values()))
        for server in self._servers.values():
            self._unwatch(server)
            if server.process is not None:
                server.process.let_go()
        self._servers.clear()
        self._listeners.close_all()

    # --- starting -----------------------------------------------------------------------------------------------

    async def _bring_up(self, server: Server, spec: ModelSpec, token: str) -> None:
        try:
            model_path = await self._artifacts.fetch(spec.digest, spec.size_bytes)
            server.process = self._spawn(server, spec, token, model_path)
            server.enter("starting")
            self._watch(server, server.process)
        except Problem as problem:
            hint = f" ({problem.hint})" if problem.hint else ""
            server.fail(f"{problem.message}{hint}", final=isinstance(problem, WrongDigest))
        except OSError as error:
            server.fail(f"the model server cannot be started: {error}")
        except Exception as error:
            # Whatever it was: a server that is neither started nor failed would be waited for without end.
            log.exception("starting a model server failed", replica=server.replica)
            server.fail(f"the model server cannot be started: {error!r}")
        self._changed()

    def _spawn(self, server: Server, spec: ModelSpec, token: str, model_path: Path) -> Process:
        # Blocks the event loop for some milliseconds, so that no cancellation can come between the start of a
        # process and the knowledge of it.
        listener = self._listeners.open(server.slot)
        folder = self._folders.servers / token
        folder.mkdir(mode=0o700)
        records = self._folders.records(server.slot)
        records.mkdir(mode=0o700, exist_ok=True)
        host, port = listener.getsockname()[:2]
        config = ServerConfig(
            spec=spec,
            alias=server.slot.alias,
            model_path=str(model_path),
            replica=server.replica,
            bus=self._bus,
            data_dir=str(records),
            control_socket=str(self._folders.control_socket(token)),
            listen_fd=listener.fileno(),
            host=host,
            port=port,
            drain_seconds=self._drain_seconds,
            token_file=self._token_file,
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AFFIANT_DEPLOYER_")}
        process = spawn(
            self._command, folder, config, listen_fd=listener.fileno(), environ=environ, started_at=server.started_at
        )
        log.info("model server started", replica=server.replica, pid=process.pid, log=str(folder / "server.log"))
        return process

    # --- taking over --------------------------------------------------------------------------------------------

    async def _adopt(self, process: Process) -> None:
        config = process.config
        slot = Slot(config.spec.model, config.alias)
        server = Server(slot, config.spec.version, config.spec.digest, config.replica, phase="starting")
        server.process, server.started_at = process, process.started_at
        self._servers[server.replica] = server
        await server.look()
        self._watch(server, process)
        log.info("model server taken over", replica=server.replica, pid=process.pid, phase=server.phase)

    async def _recover_listener(self, slot: Slot) -> None:
        """Get the listening socket back from a server that has it: while it does, the port cannot be bound anew."""
        for server in self._servers.values():
            if self._listeners.is_open(slot):
                return
            if server.slot != slot or server.process is None or server.phase != "ready":
                continue
            path = server.process.config.control_socket
            try:
                found = await asyncio.to_thread(control.listener, path, STATUS_SECONDS)
            except control.NoAnswer as reason:
                log.warning("no listening socket came back", replica=server.replica, reason=str(reason))
                continue
            self._listeners.adopt(slot, found)

    # --- ending -------------------------------------------------------------------------------------------------

    async def _stop(self, server: Server) -> None:
        if server.process is not None and not server.has_ended():
            await self.drain(server.instance())
            await server.process.ended(self._drain_seconds + GRACE_SECONDS)
        await _cancel(server.work)
        await server.kill()

    def _watch(self, server: Server, process: Process) -> None:
        """Be told at once when it ends, where the system can do that; elsewhere it is seen at the next look."""
        if not hasattr(os, "pidfd_open") or not process.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process.pid)
            self._watched[server.replica] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._noticed, server)

    def _noticed(self, server: Server) -> None:
        self._unwatch(server)
        self._changed()

    def _unwatch(self, server: Server) -> None:
        descriptor = self._watched.pop(server.replica, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _prune(self) -> None:
        running = {server.process.folder for server in self._servers.values() if server.process is not None}
        self._folders.prune(running)


async def _cancel(work: asyncio.Task[None] | None) -> None:
    if work is None:
        return
    work.cancel()
    await asyncio.wait({work})
