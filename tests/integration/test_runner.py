"""A service as the runner runs it: what its probes say while the bus comes and goes, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from fastapi import APIRouter
from faststream.nats import NatsRouter
from nats.aio.client import Client

from affiant.common import auth, bus, runner
from affiant.common.service import Runtime, Service
from affiant.common.settings import ServiceSettings
from tests.support.nats_server import NatsServer, free_port


class Example:
    """A service that notes what happens to it."""

    def __init__(self, nats_url: str) -> None:
        self.events: list[str] = []
        self.task: Callable[[], object] | None = None
        self.api = APIRouter()
        self.settings = ServiceSettings(nats_url=nats_url, http_port=free_port())
        self.url = f"http://127.0.0.1:{self.settings.http_port}"

    def service(self) -> Service:
        return Service("deployer", self.settings, NatsRouter(), self.api, self.lifespan, self.ready)

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        self.events.append("opened")
        if self.task is not None:
            runtime.tasks.create_task(self.task())  # type: ignore[arg-type]
        yield
        self.events.append("closed")

    async def ready(self) -> list[str]:
        return []

    async def readyz(self) -> tuple[int, list[str]]:
        async with httpx.AsyncClient() as http:
            try:
                answer = await http.get(f"{self.url}/readyz", timeout=5)
            except httpx.TransportError:
                return 0, []
        return answer.status_code, answer.json()["reasons"]

    async def until(self, status: int, reason: str = "") -> None:
        async with asyncio.timeout(40):
            while True:
                found, reasons = await self.readyz()
                if found == status and reason in " ".join(reasons):
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(example: Example, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """The service within this process; setting the event is what SIGTERM does."""
    stops: list[asyncio.Event] = []
    monkeypatch.setattr(runner, "_listen_to_signals", stops.append)
    task = asyncio.create_task(runner.serve(example.service()))
    await asyncio.sleep(0)
    yield stops[0]
    stops[0].set()
    await task


async def test_a_service_is_ready_once_the_bus_is_declared(
    nats_server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Example(nats_server.url)
    async with running(example, monkeypatch):
        await example.until(503, "durable deployer-models on stream MODELS is not declared")
        assert example.events == []
        await bus.declare(client.jetstream())
        await example.until(200)
        assert example.events == ["opened"]
    assert example.events == ["opened", "closed"]


async def test_a_service_waits_for_a_bus_that_is_not_there_yet(
    nats_server: NatsServer, declared: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats_server.kill()
    example = Example(nats_server.url)
    async with running(example, monkeypatch):
        await example.until(503, "not connected")
        nats_server.start()
        await example.until(200)


async def test_a_service_is_not_ready_while_the_bus_is_away(
    nats_server: NatsServer, declared: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Example(nats_server.url)
    async with running(example, monkeypatch):
        await example.until(200)
        nats_server.kill()
        await example.until(503, "connection to the bus is lost")
        nats_server.start()
        await example.until(200)


async def test_a_service_stops_when_it_is_told_to_although_the_bus_never_came(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nats_server.kill()
    example = Example(nats_server.url)
    async with asyncio.timeout(45):
        async with running(example, monkeypatch):
            await example.until(503)
    assert example.events == []


async def test_a_background_task_that_fails_ends_the_service_in_order(
    nats_server: NatsServer, declared: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.2)
        raise ConnectionError("the disk is gone")

    example = Example(nats_server.url)
    example.task = fail
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        async with asyncio.timeout(45), running(example, monkeypatch):
            await asyncio.sleep(30)
    assert example.events[0] == "opened"


async def test_a_request_under_way_is_answered_before_the_service_closes(
    nats_server: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await bus.declare(client.jetstream())
    people = tmp_path / "people.json"
    known = [{"name": "omar", "roles": ["operator"], "token_sha256": auth.token_hash("omars")}]
    people.write_text(json.dumps(known))
    example = Example(nats_server.url)
    example.settings = msgspec.structs.replace(example.settings, people_file=str(people))
    asked = asyncio.Event()

    @example.api.get("/slow")
    async def slow() -> list[str]:
        asked.set()
        await asyncio.sleep(0.5)
        return list(example.events)

    async with running(example, monkeypatch) as stop, httpx.AsyncClient() as http:
        await example.until(200)
        answering = asyncio.create_task(http.get(f"{example.url}/slow", headers={"Authorization": "Bearer omars"}))
        await asked.wait()
        stop.set()
        assert (await answering).json() == ["opened"]
    assert example.events == ["opened", "closed"]
