"""The deployer as a process of its own, the registry that it fetches from, and clients of what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
from nats.aio.client import Client

from affiant.common import auth, ids, wire
from affiant.common.events import Event, ModelPromoted, ModelSpec
from affiant.common.wire import Envelope
from tests.support.nats_server import free_port

RUN = str(Path(__file__).with_name("run_deployer.py"))
FAKE = (sys.executable, str(Path(__file__).with_name("fake_modelserver.py")))


class FakeRegistry:
    """Serves artifacts by digest to whoever shows the token. `files` may hold other bytes than the digest says."""

    def __init__(self, token: str) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                digest = self.path.removeprefix("/v1/artifacts/")
                known = self.headers["Authorization"] == f"Bearer {token}"
                body = registry.files.get(digest, b"") if known else b'{"error": "who are you?"}'
                registry.fetched.append(digest)
                self.send_response(401 if not known else 200 if digest in registry.files else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Deployer:
    """A deployer process that can be killed and started again over the same data.

    `command` starts a model server; empty: the real one.
    """

    def __init__(self, folder: Path, nats_url: str, command: tuple[str, ...] = FAKE, **settings: str) -> None:
        self.folder = folder
        self.registry = FakeRegistry("deployer-token")
        self.command = command
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text("deployer-token\n")
        known = [{"name": "omar", "roles": ["operator"], "token_sha256": auth.token_hash("omar-token")}]
        (folder / "people.json").write_text(json.dumps(known))
        self.data = folder / "data"
        self.settings = {
            "NATS_URL": nats_url,
            "HTTP_PORT": str(self.port),
            "DATA_DIR": str(self.data),
            "PEOPLE_FILE": str(folder / "people.json"),
            "SERVICE_TOKEN_FILE": str(folder / "token"),
            "REGISTRY_URL": self.registry.url,
            "READY_TIMEOUT_SECONDS": "15",
            "DRAIN_SECONDS": "5",
        } | settings

    def start(self) -> None:
        environ = dict(os.environ) | {f"AFFIANT_DEPLOYER_{name}": value for name, value in self.settings.items()}
        with (self.folder / "deployer.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, RUN, *self.command], env=environ, stderr=log)

    def kill(self) -> None:
        """SIGKILL: it cannot tell its model servers anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def log(self) -> str:
        return (self.folder / "deployer.log").read_text()

    def clear_away(self) -> None:
        """End everything that was started, by the process ids that were written down."""
        if self.process is not None:
            self.kill()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.registry.close()

    def pids(self) -> list[int]:
        """The process ids of all model servers that ever were."""
        return [int(path.read_text()) for path in self.data.glob("servers/*/pid")]

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=40)
        self.process = None
        return code

    async def deployments(self) -> list[dict[str, Any]]:
        """What it says of its deployments; nothing while it cannot be asked."""
        try:
            async with httpx.AsyncClient(headers={"Authorization": "Bearer omar-token"}, timeout=5) as http:
                answer = await http.get(f"http://127.0.0.1:{self.port}/v1/deployments")
        except httpx.TransportError:
            return []
        found: list[dict[str, Any]] = answer.json().get("deployments", [])
        return found

    async def until(self, wanted: Callable[[list[dict[str, Any]]], object], seconds: float = 60.0) -> dict[str, Any]:
        """The first deployment, once `wanted` is true of them all."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                while not ((found := await self.deployments()) and wanted(found)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"still {found}\n{self.log()[-6000:]}") from None
        return found[0]

    async def until_serving(self, version: int, seconds: float = 60.0) -> dict[str, Any]:
        """The deployment, once this version alone serves."""

        def alone(found: list[dict[str, Any]]) -> bool:
            replicas = [(one["state"], one["version"]) for one in found[0]["replicas"]]
            return found[0]["state"] == "serving" and replicas == [("serving", version)]

        return await self.until(alone, seconds)


class Bus:
    """The registry's side of the bus, and what the deployer published."""

    def __init__(self, client: Client, deployer: Deployer) -> None:
        self.js = client.jetstream()
        self.registry = deployer.registry

    async def promotes(self, spec: ModelSpec, data: bytes | None = None, alias: str = "champion") -> str:
        """Publish that `spec` was promoted; the registry has `data` for it from now on. Returns the event's id."""
        if data is not None:
            self.registry.files[spec.digest] = data
        return await self.publishes(
            ModelPromoted(
                model=spec.model,
                version=spec.version,
                alias=alias,  # type: ignore[arg-type]
                spec=spec,
                approved_by="ben",
                promoted_at=ids.now(),
            )
        )

    async def publishes(self, event: Event) -> str:
        message = wire.encode(event, owner="registry")
        await self.js.publish(message.subject, message.body, headers=message.headers)
        return message.id

    async def said(self, *, at_least: int = 0, seconds: float = 30.0) -> list[Envelope]:
        """Everything that the deployer published, oldest first."""
        deadline = time.monotonic() + seconds
        while True:
            found = await self._read()
            if len(found) >= at_least or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.1)

    async def _read(self) -> list[Envelope]:
        info = await self.js.stream_info("MODELS")
        found = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await self.js.get_msg("MODELS", sequence)
            if str(message.subject).startswith("affiant.deployer."):
                found.append(wire.decode(str(message.subject), message.data or b"", message.headers))
        return found


def fake_spec(version: int, data: bytes = b"", **tags: str) -> ModelSpec:
    """A version for the fake model server, whose file is `data`."""
    data = data or fake_file(version)
    return ModelSpec(
        model="loan",
        version=version,
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        author="ana",
        inputs=[],
        outputs=[],
        columns=[],
        tags=tags,
    )


def fake_file(version: int) -> bytes:
    return f"the file of version {version}".encode()


class Traffic:
    """Clients that ask again and again while something happens."""

    def __init__(self, ask: Callable[[httpx.AsyncClient], Any]) -> None:
        self._ask = ask
        self.versions: list[int] = []
        self.failures: list[str] = []

    async def client(self) -> None:
        async with httpx.AsyncClient(timeout=15, trust_env=False) as http:
            while True:
                try:
                    self.versions.append(await self._ask(http))
                except (httpx.HTTPError, KeyError, ValueError, msgspec.DecodeError) as error:
                    self.failures.append(repr(error))

    async def more(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.versions) + count
        async with asyncio.timeout(90):
            while len(self.versions) < wanted:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def traffic(ask: Callable[[httpx.AsyncClient], Any], clients: int = 8) -> AsyncIterator[Traffic]:
    """Traffic for as long as the block runs."""
    running = Traffic(ask)
    tasks = [asyncio.create_task(running.client()) for _ in range(clients)]
    try:
        yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def asking(url: str) -> Callable[[httpx.AsyncClient], Any]:
    """Which version answers at `url`, by the fake model server's word."""

    async def ask(http: httpx.AsyncClient) -> int:
        return int((await http.get(url)).raise_for_status().json()["version"])

    return ask


async def answer(url: str) -> dict[str, Any]:
    """What is answered at `url`, by a connection of its own."""
    async with httpx.AsyncClient(timeout=15, trust_env=False) as http:
        found: dict[str, Any] = (await http.get(url)).json()
        return found
