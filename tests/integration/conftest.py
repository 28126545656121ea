"""Fixtures with a real nats-server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from affiant.common import bus
from tests.support.nats_server import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running server without streams."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A connection that survives restarts of the server."""
    connection = await nats.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    yield connection
    await connection.close()


@pytest.fixture
async def declared(client: Client) -> Client:
    """A connection to a server on which every stream and durable is declared."""
    await bus.declare(client.jetstream())
    return client
