"""A change of versions fails no request; a server that cannot serve says why."""

from __future__ import annotations

import asyncio
import collections
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from affiant.common.serving import ServerStatus
from tests.support.modelserver import INFER, HttpClient, ModelServer, open_listener
from tests.support.nats_server import NatsServer
from tests.support.records import stored

pytestmark = pytest.mark.anyio

Make = Callable[..., ModelServer]


@pytest.fixture
def make(nats_server: NatsServer, declared: Client, tmp_path: Path) -> Iterator[Make]:
    """Makes model servers on one shared listening socket; the caller starts them."""
    made: list[ModelServer] = []
    with open_listener() as listener:

        def one(**more: Any) -> ModelServer:
            made.append(ModelServer(tmp_path, nats_server.url, listener, **more))
            return made[-1]

        yield one
        for server in made:
            server.end()


class Hammer:
    """Clients with open connections that send without a pause and never try a request twice."""

    def __init__(self, port: int, clients: int) -> None:
        self._stop = threading.Event()
        self.answers: list[tuple[int, Any]] = []
        self.broken: list[Exception] = []
        self._threads = [threading.Thread(target=self._run, args=[port]) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int) -> None:
        client = HttpClient(port)
        while not self._stop.is_set():
            try:
                self.answers.append(client.infer((5, 1)))
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(error)
                return

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def versions(self) -> collections.Counter[str]:
        return collections.Counter(answer["model_version"] for _, answer in self.answers)


async def test_no_request_fails_while_versions_change_under_load(make: Make, declared: Client) -> None:
    current = make(version=1)
    current.start()
    current.until("ready")
    hammer = Hammer(current.port, clients=12)
    exits = []
    for version in (2, 3, 4):
        following = make(version=version)
        following.start()
        await asyncio.to_thread(following.until, "ready")
        await asyncio.sleep(0.3)
        await asyncio.to_thread(current.ask, "drain")
        exits.append(await asyncio.to_thread(current.wait))
        current = following
        async with asyncio.timeout(60):
            while str(version) not in hammer.versions():
                await asyncio.sleep(0.05)
    await asyncio.to_thread(hammer.stop)
    records = await stored(declared)
    assert hammer.broken == []
    assert {status for status, _ in hammer.answers} == {200}
    assert set(hammer.versions()) == {"1", "2", "3", "4"}
    assert exits == [0, 0, 0]
    assert len(records) == len({record.prediction_id for record in records}) == len(hammer.answers)


async def test_a_connection_that_is_idle_during_a_drain_is_answered_once_more(make: Make) -> None:
    server = make()
    server.start()
    server.until("ready")
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    client.request("GET", "/v2")
    assert client.getresponse().read()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(server.until, "draining")
    await asyncio.sleep(0.3)
    client.request("GET", "/v2/health/ready")
    answer = client.getresponse()
    assert (answer.status, answer.getheader("connection")) == (503, "close")
    assert json.loads(answer.read()) == {"ready": False, "reason": "draining"}
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_client_that_stays_silent_does_not_hold_the_drain_for_ever(make: Make) -> None:
    server = make(drain_seconds=0.5)
    server.start()
    server.until("ready")
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        status = await asyncio.to_thread(server.ask, "drain")
        assert await asyncio.to_thread(server.wait) == 0
        assert status.state == "draining"
        assert 0.4 < time.monotonic() - begun < 10
        assert silent.recv(1) == b""


async def test_a_starting_server_does_not_touch_the_shared_socket(make: Make, nats_server: NatsServer) -> None:
    nats_server.kill()
    server = make()
    server.start()
    status = server.until("starting")
    await asyncio.sleep(1.0)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(0.5)
        client.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert server.ask("status").state == status.state == "starting"
        nats_server.start()
        client.settimeout(20)
        assert client.recv(12) == b"HTTP/1.1 200"


async def test_the_listening_socket_can_be_had_from_a_server(make: Make) -> None:
    server = make()
    server.start()
    server.until("ready")
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(server.control))
        door.sendall(b"listener\n")
        line, descriptors, _, _ = socket.recv_fds(door, 65_536, 4)
    with socket.socket(fileno=descriptors[0]) as found:
        assert found.getsockname() == server.listener.getsockname()
    assert msgspec.json.decode(line, type=ServerStatus).state == "ready"


async def test_an_unknown_word_on_the_control_socket_is_answered_with_the_known_ones(make: Make) -> None:
    server = make()
    server.start()
    server.until("ready")
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(server.control))
        door.sendall(b"dance\n")
        assert "drain" in json.loads(door.makefile("rb").readline())["error"]


async def test_a_file_that_is_not_the_registered_one_is_never_served(make: Make) -> None:
    server = make()
    Path(server.config.model_path).write_bytes(b"another model")
    server.start()
    status = server.until("failed")
    assert "is not the registered" in status.detail
    assert await asyncio.to_thread(server.wait) == 2


async def test_a_server_that_is_told_to_stop_while_it_starts_just_ends(make: Make, nats_server: NatsServer) -> None:
    nats_server.kill()
    server = make()
    server.start()
    server.until("starting")
    await asyncio.to_thread(server.ask, "drain")
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_server_without_an_inherited_socket_binds_its_own(make: Make) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = make(listen_fd=None, port=port)
    server.start()
    server.until("ready")
    assert HttpClient(port).infer((5, 1), path=INFER)[0] == 200
