"""The explainer as a process of its own, with the two services that it asks, and the bus around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
from nats.aio.client import Client

from affiant.common import auth, ids, trace, wire
from affiant.common.events import Event, ModelPromoted, ModelRegistered, ModelSpec, PredictionLogged
from tests.support.explained import Trained
from tests.support.nats_server import free_port

RUN = "from affiant.common import runner, service; runner.run(service.find('explainer')())"
TOKEN = "explainer-token"


class FakeServices:
    """Registry and auditor at one address: artifacts by digest, records by prediction id, for who shows the token."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.records: dict[str, PredictionLogged] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, name = self.path.split("/")[2:4]
                body = fake.artifacts.get(name) if kind == "artifacts" else fake.answer(name)
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    self.reply(401, b"{}")
                else:
                    self.reply(200, body) if body else self.reply(404, b"{}")

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, prediction_id: str) -> bytes | None:
        record = self.records.get(prediction_id)
        return None if record is None else msgspec.json.encode({"record": record, "source": "affiant://modelserver"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class ExplainerProcess:
    """An explainer that can be killed and started again over the same data."""

    def __init__(self, folder: Path, nats_url: str, **settings: str) -> None:
        self.folder = folder
        self.services = FakeServices()
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(TOKEN)
        known = [{"name": "iris", "roles": ["auditor"], "token_sha256": auth.token_hash("iris-token")}]
        (folder / "people.json").write_text(json.dumps(known))
        self.settings = {
            "NATS_URL": nats_url,
            "HTTP_PORT": str(port),
            "DATA_DIR": str(folder / "data"),
            "PEOPLE_FILE": str(folder / "people.json"),
            "SERVICE_TOKEN_FILE": str(folder / "token"),
            "REGISTRY_URL": self.services.url,
            "AUDITOR_URL": self.services.url,
        } | settings

    def start(self, **settings: str) -> None:
        chosen = self.settings | settings
        environ = os.environ | {f"AFFIANT_EXPLAINER_{name}": value for name, value in chosen.items()}
        with (self.folder / "explainer.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", RUN], env=environ, stderr=log)

    def kill(self) -> None:
        """SIGKILL: it cannot tell its workers anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        self.services.close()

    def log(self) -> str:
        return (self.folder / "explainer.log").read_text()

    def workers(self) -> list[int]:
        """The process ids of the workers that run now."""
        if self.process is None:
            return []
        pid = self.process.pid
        found = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for child in found.split() if alive(int(child))]

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, person: str = "iris", **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {person}-token"}, timeout=10) as http:
            return await http.request(method, self.url + path, **options)

    async def until_ready(self, seconds: float = 60.0) -> None:
        async def ready() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return (await self.get("/readyz")).status_code == 200
            return False

        await self.until(ready, seconds)

    async def until(self, condition: Callable[[], Any], seconds: float = 90.0) -> None:
        """Wait until `condition` (awaited where it is a coroutine) is true; the log tells why it never was."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    answer = condition()
                    if await answer if asyncio.iscoroutine(answer) else answer:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to that\n{self.log()[-6000:]}") from None

    def _end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=40)
        self.process = None
        return code


class Bus:
    """The registry's and the model server's side of the bus, and what the explainer published."""

    def __init__(self, client: Client, explainer: ExplainerProcess) -> None:
        self.js = client.jetstream()
        self.explainer = explainer

    async def registers(self, trained: Trained) -> None:
        """A version is registered; the registry has its files from now on."""
        artifacts, spec = self.explainer.services.artifacts, trained.spec
        artifacts[spec.digest] = trained.model
        artifacts[str(spec.background_digest)] = trained.background
        await self.publish(registered(spec), "registry")

    async def promotes(self, trained: Trained) -> None:
        """The version is promoted (its bytes are at hand, as when it was registered)."""
        await self.registers(trained)
        await self.publish(promoted(trained.spec), "registry")

    async def logs(self, *records: PredictionLogged, traceparent: str = "") -> None:
        for record in records:
            await self.publish(record, "modelserver", traceparent, record.prediction_id)

    async def publish(self, event: Event, owner: str, traceparent: str = "", id: str = "") -> None:
        message = wire.encode(event, owner=owner, id=id, traceparent=traceparent or trace.new_traceparent())
        await self.js.publish(message.subject, message.body, headers=message.headers)

    async def said(self) -> list[wire.Envelope]:
        """Everything that the explainer published, oldest first."""
        info = await self.js.stream_info("EXPLANATIONS")
        found = []
        for sequence in range(1, info.state.messages + 1):
            message = await self.js.get_msg("EXPLANATIONS", sequence)
            found.append(wire.decode(str(message.subject), message.data or b"", message.headers))
        return found

    async def until_said(self, count: int, seconds: float = 120.0) -> list[wire.Envelope]:
        """What it published, once that is `count` events."""

        async def enough() -> bool:
            return (await self.js.stream_info("EXPLANATIONS")).state.messages >= count

        await self.explainer.until(enough, seconds)
        return await self.said()


def registered(spec: ModelSpec) -> ModelRegistered:
    return ModelRegistered(model=spec.model, version=spec.version, spec=spec, checks=[], registered_at=ids.now())


def promoted(spec: ModelSpec) -> ModelPromoted:
    """The event of its promotion by another person."""
    return ModelPromoted(
        model=spec.model, version=spec.version, alias="champion", spec=spec, approved_by="ben", promoted_at=ids.now()
    )


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def batches(positions: Sequence[int], size: int) -> list[Sequence[int]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]
