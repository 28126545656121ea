"""The registry as a process of its own, over HTTP, with a real nats-server: what survives being killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from affiant.common import auth, bus, ids, wire
from affiant.common.events import Event, ModelDeployed, ModelPromoted, ModelRegistered
from tests.support.model import background_csv, loan_model
from tests.support.nats_server import NatsServer, free_port
from tests.unit.registry import hostile

PEOPLE = {"ana": ["author"], "ben": ["approver"], "omar": ["operator"], "deployer": ["service"]}
COMMAND = [sys.executable, "-c", "from affiant.common import runner, service; runner.run(service.find('registry')())"]
MANIFEST = json.dumps({"favourable": 1, "protected": ["sex"]})


class RegistryProcess:
    """The service, that can be killed and started again with the same data."""

    def __init__(self, folder: Path, nats_url: str, **settings: str) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        people = [{"name": n, "roles": r, "token_sha256": auth.token_hash(n)} for n, r in PEOPLE.items()]
        (folder / "people.json").write_text(json.dumps(people))
        given = {
            "NATS_URL": nats_url,
            "HTTP_PORT": str(port),
            "DATA_DIR": str(folder / "registry"),
            "PEOPLE_FILE": str(folder / "people.json"),
            **settings,
        }
        self.environ = {"PATH": os.environ["PATH"]} | {f"AFFIANT_REGISTRY_{k}": v for k, v in given.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(COMMAND, env=self.environ, stdout=log, stderr=log)
        self.until(lambda: httpx.get(f"{self.url}/readyz").status_code == 200)

    def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            with contextlib.suppress(httpx.TransportError):
                if holds():
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self.process = None
        return code

    def ask(self, person: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {person}"} | more.pop("headers", {})
        return httpx.request(method, f"{self.url}/v1{path}", headers=headers, timeout=40, **more)

    def register(self, model: bytes = b"", manifest: str = MANIFEST, **more: Any) -> httpx.Response:
        files = {"model": ("loan.onnx", model or loan_model()), "background": ("rows.csv", background_csv())}
        data = {"manifest": manifest}
        return self.ask("ana", "POST", "/models/loan/versions", files=files, data=data, **more)


@pytest.fixture
def server(nats_server: NatsServer) -> NatsServer:
    """A server on which everything is declared."""

    async def declare() -> None:
        client = await nats.connect(nats_server.url)
        await bus.declare(client.jetstream())
        await client.close()

    asyncio.run(declare())
    return nats_server


@pytest.fixture
def registry(server: NatsServer, tmp_path: Path) -> Iterator[RegistryProcess]:
    process = RegistryProcess(tmp_path, server.url, CHECK_RUN_SECONDS="1")
    process.start()
    yield process
    if process.process is not None:
        process.end(signal.SIGTERM)


def published(server: NatsServer, count: int) -> list[wire.Envelope]:
    """The registry's events on the bus, oldest first: exactly `count`."""
    found = asyncio.run(_published(server, count))
    assert len(found) == count
    return found


async def _published(server: NatsServer, count: int) -> list[wire.Envelope]:
    client = await nats.connect(server.url)
    reader = await client.jetstream().pull_subscribe("affiant.registry.>", stream="MODELS")
    found: list[wire.Envelope] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            found += [wire.decode(m.subject, m.data, m.headers) for m in await reader.fetch(100, timeout=0.5)]
            continue
        if len(found) >= count:
            break
    await client.close()
    return found


def send(server: NatsServer, event: Event, owner: str) -> None:
    async def publish() -> None:
        client = await nats.connect(server.url)
        message = wire.encode(event, owner=owner)
        await client.jetstream().publish(message.subject, message.body, headers=message.headers)
        await client.close()

    asyncio.run(publish())


def test_a_model_is_registered_promoted_and_handed_out(registry: RegistryProcess, server: NatsServer) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    made = registry.register(headers={"traceparent": trace})
    assert made.status_code == 201
    assert made.headers["location"] == "/v1/models/loan/versions/1"
    view = made.json()
    assert view["digest"] == "sha256:" + hashlib.sha256(loan_model()).hexdigest()
    assert all(check["passed"] for check in view["checks"])
    assert view["deployment"] is None

    promoted = registry.ask("ben", "POST", "/models/loan/versions/1/promote", json={"alias": "champion"})
    assert promoted.json()["aliases"] == ["champion"]
    first, second = published(server, 2)
    assert isinstance(first.event, ModelRegistered)
    assert first.traceparent.split("-")[1] == trace.split("-")[1]
    assert isinstance(second.event, ModelPromoted)
    assert second.event.spec.background_digest == "sha256:" + hashlib.sha256(background_csv()).hexdigest()

    for digest, content in (
        (view["digest"], loan_model()),
        (view["spec"]["background_digest"], background_csv()),
    ):
        assert registry.ask("deployer", "GET", f"/artifacts/{digest}").content == content


def test_who_may_do_what(registry: RegistryProcess) -> None:
    registry.register()
    promote, champion = "/models/loan/versions/1/promote", {"alias": "champion"}
    assert httpx.get(f"{registry.url}/v1/models").status_code == 401
    assert registry.ask("ben", "POST", "/models/loan/versions", files={"model": b"x"}).status_code == 403
    assert registry.ask("ana", "POST", promote, json=champion).status_code == 403
    assert registry.ask("omar", "POST", promote, json=champion).status_code == 403
    assert registry.ask("ben", "POST", promote, json=champion).status_code == 200
    assert registry.ask("ana", "POST", "/models/loan/versions/1/archive", json={"force": True}).status_code == 403
    assert registry.ask("ana", "POST", "/models/loan/rollback").status_code == 403
    assert registry.ask("omar", "POST", "/models/loan/rollback").status_code == 409
    assert registry.ask("omar", "GET", "/models/loan").status_code == 200


def test_a_refusal_says_which_check_failed_and_the_service_goes_on(registry: RegistryProcess) -> None:
    refused = registry.register(hostile.endless_loop(), manifest="{}")
    assert refused.status_code == 422
    answer = refused.json()
    assert answer["checks"][-1]["name"] == "columns"
    files = {"model": ("loop.onnx", hostile.endless_loop())}
    answer = registry.ask("ana", "POST", "/models/loop/versions", files=files).json()
    assert answer["checks"][-1]["name"] == "smoke run"
    assert "was stopped" in answer["error"]
    assert answer["hint"]
    assert registry.register(manifest='{"favorable": 1}').json()["error"].startswith("manifest: ")
    assert registry.register().json()["version"] == 1
    actions = [entry["action"] for entry in registry.ask("ben", "GET", "/models/loan/history").json()["history"]]
    assert actions == ["refused", "registered"]


def test_an_upload_beyond_the_limit_is_answered_with_413(server: NatsServer, tmp_path: Path) -> None:
    registry = RegistryProcess(tmp_path, server.url, MAX_MODEL_MIB="1", MAX_BACKGROUND_MIB="1")
    registry.start()
    try:
        refused = registry.register(bytes(8 * 1024 * 1024))
        assert (refused.status_code, "at most 4 MiB" in refused.json()["error"]) == (413, True)
        assert registry.register(bytes(2 * 1024 * 1024)).json()["checks"][-1]["name"] == "size"
    finally:
        registry.end(signal.SIGTERM)


def test_what_the_deployer_says_is_shown(registry: RegistryProcess, server: NatsServer) -> None:
    registry.register()
    event = ModelDeployed(
        model="loan",
        version=1,
        digest="sha256:0",
        alias="champion",
        url="http://127.0.0.1:1",
        backend="local",
        replicas=["r"],
        seconds=1.0,
        deployed_at=ids.now(),
    )
    send(server, event, "deployer")
    path = "/models/loan/versions/1"
    registry.until(lambda: registry.ask("ben", "GET", path).json()["deployment"] is not None)
    shown = registry.ask("ben", "GET", path).json()["deployment"]
    assert (shown["state"], shown["url"]) == ("serving", "http://127.0.0.1:1")


def test_killed_before_its_events_are_published_it_publishes_each_once(
    registry: RegistryProcess, server: NatsServer
) -> None:
    assert registry.register().status_code == 201
    server.kill()
    assert registry.register().status_code == 201
    assert registry.ask("ben", "POST", "/models/loan/versions/2/promote", json={"alias": "champion"}).is_success
    registry.end(signal.SIGKILL)
    server.start()
    registry.start()
    events = [envelope.event for envelope in published(server, 3)]
    assert [(type(event).__name__, event.version) for event in events] == [  # type: ignore[union-attr]
        ("ModelRegistered", 1),
        ("ModelRegistered", 2),
        ("ModelPromoted", 2),
    ]
    assert registry.ask("ben", "GET", "/models/loan/champion").json()["version"] == 2


def test_nats_killed_and_started_again_loses_nothing(registry: RegistryProcess, server: NatsServer) -> None:
    registry.register()
    published(server, 1)
    server.kill()
    assert registry.register().status_code == 201
    registry.until(lambda: httpx.get(f"{registry.url}/readyz").status_code == 503)
    server.start()
    published(server, 2)
    registry.until(lambda: httpx.get(f"{registry.url}/readyz").status_code == 200)


def test_killed_in_the_middle_of_an_examination_it_leaves_no_version_and_no_child(
    server: NatsServer, tmp_path: Path
) -> None:
    registry = RegistryProcess(tmp_path, server.url, CHECK_RUN_SECONDS="60", CHECK_WALL_SECONDS="4")
    registry.start()
    files = {"model": ("loop.onnx", hostile.endless_loop())}
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(
            f"{registry.url}/v1/models/loop/versions",
            files=files,
            headers={"Authorization": "Bearer ana"},
            timeout=1.5,
        )
    assert registry.process is not None
    children = Path(f"/proc/{registry.process.pid}/task/{registry.process.pid}/children").read_text().split()
    assert children
    registry.end(signal.SIGKILL)
    registry.until(lambda: not any(_alive(int(pid)) for pid in children))
    registry.start()
    try:
        assert registry.ask("ben", "GET", "/models/loop").status_code == 404
    finally:
        registry.end(signal.SIGTERM)


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "Z (zombie)" not in status.read_text()


def test_it_stops_cleanly_when_told_to(registry: RegistryProcess) -> None:
    registry.register()
    assert registry.end(signal.SIGTERM) == 0


def test_every_door_is_described(registry: RegistryProcess) -> None:
    document = httpx.get(f"{registry.url}/openapi.json", headers={"Authorization": "Bearer ana"}).json()
    assert "$defs" not in json.dumps(document)
    view = document["components"]["schemas"]["VersionView"]["properties"]
    assert "background_digest" in view["spec"]["properties"]
    form = document["paths"]["/v1/models/{model}/versions"]["post"]["requestBody"]["content"]
    assert "multipart/form-data" in form
