"""No answer without a record: real model servers, a real nats-server, and kills."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from affiant.common.events import PredictionLogged
from tests.support.modelserver import HttpClient, ModelServer, open_listener
from tests.support.nats_server import NatsServer
from tests.support.records import stored

pytestmark = pytest.mark.anyio

Start = Callable[..., ModelServer]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with open_listener() as opened:
        yield opened


@pytest.fixture
def start(nats_server: NatsServer, declared: Client, listener: socket.socket, tmp_path: Path) -> Iterator[Start]:
    """Starts a model server and waits until it is ready."""
    started: list[ModelServer] = []

    def begin(state: str = "ready", **more: Any) -> ModelServer:
        server = ModelServer(tmp_path, nats_server.url, listener, **more)
        started.append(server)
        server.start()
        server.until(state)
        return server

    yield begin
    for server in started:
        server.end()


async def logged(client: Client, least: int, seconds: float = 60) -> list[PredictionLogged]:
    """Every record in the stream, once there are at least `least`."""
    deadline = time.monotonic() + seconds
    while len(records := await stored(client)) < least and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return records


async def test_an_answered_request_is_in_the_stream(start: Start, declared: Client) -> None:
    server = start()
    client = HttpClient(server.port)
    status, answer = await asyncio.to_thread(client.infer, (5, 1), (1, 2), id="r-1")
    records = await logged(declared, 1)
    assert (status, answer["id"]) == (200, "r-1")
    assert records[0].prediction_id == answer["parameters"]["prediction_id"]
    assert records[0].digest == answer["parameters"]["model_digest"] == server.spec.digest
    assert records[0].adverse == [False, True]
    assert (await asyncio.to_thread(client.post, "/v2/models/loan/infer", "{"))[0] == 400
    records = await logged(declared, 2)
    assert [(one.sequence, one.status) for one in records] == [(1, "answered"), (2, "failed")]


async def test_many_clients_at_once_share_batches_and_every_number_is_there_once(
    start: Start, declared: Client
) -> None:
    server = start()
    load = Load(server.port, clients=24, requests=40)
    await asyncio.to_thread(load.run)
    records = await logged(declared, 960)
    figures = (await asyncio.to_thread(HttpClient(server.port).get, "/metrics"))[1]
    batches = float(next(line for line in figures.splitlines() if "batch_records_count" in line).split()[1])
    assert [status for status, _ in load.answers] == [200] * 960
    assert sorted(one.sequence for one in records) == list(range(1, 961))
    assert {one.prediction_id for one in records} == load.predictions()
    assert batches < 800


async def test_while_the_bus_is_away_requests_get_503_and_their_failed_records_come_later(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    server = start(audit_timeout_seconds=0.3)
    client = HttpClient(server.port)
    nats_server.kill()
    status, answer = await asyncio.to_thread(client.infer, (5, 1))
    ready, reason = await asyncio.to_thread(client.get, "/v2/health/ready")
    assert (status, ready) == (503, 503)
    assert "connection to the bus is lost" in answer["error"]
    assert "connection to the bus is lost" in reason["reason"]
    assert server.ask("status").unpublished == 1
    nats_server.start()
    records = await logged(declared, 1)
    assert (records[0].prediction_id, records[0].status) == (answer["prediction_id"], "failed")
    assert "not answered" in records[0].error
    assert (await asyncio.to_thread(client.infer, (5, 1)))[0] == 200


async def test_a_restart_of_the_bus_under_load_loses_no_record_and_doubles_none(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    server = start(audit_timeout_seconds=15.0)
    load = Load(server.port, clients=16, requests=150)
    running = asyncio.create_task(asyncio.to_thread(load.run))
    for _ in range(3):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(nats_server.restart)
    await running
    records = await logged(declared, 2400)
    assert [status for status, _ in load.answers] == [200] * 2400
    assert sorted(one.sequence for one in records) == list(range(1, 2401))
    assert {one.prediction_id for one in records} == load.predictions()


async def test_a_buffered_server_answers_while_the_bus_is_away_and_publishes_when_it_is_back(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    server = start(audit="buffered")
    nats_server.kill()
    load = Load(server.port, clients=8, requests=25)
    await asyncio.to_thread(load.run)
    assert [status for status, _ in load.answers] == [200] * 200
    assert server.ask("status").unpublished >= 200
    nats_server.start()
    records = await logged(declared, 200)
    assert sorted(one.sequence for one in records) == list(range(1, 201))
    await until(lambda: not list((server.records / "wal").iterdir()) or server.ask("status").unpublished == 0)


async def test_a_killed_buffered_server_loses_nothing_that_it_answered(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    first = start(audit="buffered")
    nats_server.kill()
    load = Load(first.port, clients=8, requests=25)
    await asyncio.to_thread(load.run)
    first.kill()
    nats_server.start()
    start(audit="buffered", version=2)
    records = await logged(declared, 200)
    assert {one.prediction_id for one in records} == load.predictions()
    assert {(one.version, one.replica) for one in records} == {(1, first.config.replica)}


async def test_a_buffered_server_whose_file_is_full_refuses_at_the_door(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    server = start(audit="buffered", unpublished_max_bytes=5_000)
    client = HttpClient(server.port)
    nats_server.kill()
    statuses = [(await asyncio.to_thread(client.infer, (5, 1)))[0] for _ in range(20)]
    taken = statuses.count(200)
    assert 0 < taken < 20
    assert statuses == [200] * taken + [503] * (20 - taken)
    nats_server.start()
    records = await logged(declared, taken)
    assert [one.sequence for one in records] == list(range(1, taken + 1))


async def test_a_server_that_ends_while_the_bus_is_away_leaves_its_records_to_the_next(
    start: Start, declared: Client, nats_server: NatsServer
) -> None:
    first = start(audit_timeout_seconds=0.2, drain_seconds=0.2)
    nats_server.kill()
    status, answer = await asyncio.to_thread(HttpClient(first.port).infer, (5, 1))
    assert status == 503
    first.ask("drain")
    assert first.wait() == 0
    nats_server.start()
    start(version=2)
    records = await logged(declared, 1)
    assert [(one.prediction_id, one.status) for one in records] == [(answer["prediction_id"], "failed")]


class Load:
    """Clients that keep their connections, each in a thread of its own."""

    def __init__(self, port: int, clients: int, requests: int) -> None:
        self._port = port
        self._clients = clients
        self._requests = requests
        self.answers: list[tuple[int, Any]] = []

    def run(self) -> None:
        threads = [threading.Thread(target=self._one) for _ in range(self._clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _one(self) -> None:
        client = HttpClient(self._port)
        for number in range(self._requests):
            self.answers.append(client.infer((number % 10, 3)))

    def predictions(self) -> set[str]:
        return {answer["parameters"]["prediction_id"] for _, answer in self.answers}


async def until(true: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
