"""Subjects that no well-behaved client would choose: nats-server takes them, so whoever reads must bear them."""

from __future__ import annotations

import asyncio

import nats
import pytest
from nats.aio.client import Client

from affiant.common import bus, subjects
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.anyio


async def publish_raw(server: NatsServer, subject: bytes) -> None:
    """As a client of one's own making would: nats-py checks what it is given."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(b"HPUB %b 12 14\r\nNATS/1.0\r\n\r\n{}\r\n" % subject)
    writer.write(b"PUB %b 2\r\n{}\r\n" % subject)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("token", "seen"),
    [(b"\xff\xfe", "\\xff\\xfe"), (b"a\x0bb", "a\x0bb"), (b"a\x0c7\x0cb", "a\x0c7\x0cb"), (b"\xc3\xa4", "\xe4")],
)
async def test_a_reader_survives_any_subject(
    declared: Client, nats_server: NatsServer, token: bytes, seen: str
) -> None:
    subjects.accept_any()
    await publish_raw(nats_server, b"affiant.outside." + token)
    reader = await nats.connect(nats_server.url, allow_reconnect=False)
    durable = bus.AUDITOR_PREDICTIONS
    pull = await reader.jetstream().pull_subscribe_bind(durable.name, durable.stream)

    found = [await pull.fetch(1, timeout=5) for _ in range(2)]

    assert [message.subject for [message] in found] == [f"affiant.outside.{seen}"] * 2
    assert reader.is_connected
    await reader.close()
