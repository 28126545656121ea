"""Three servers on this machine, three copies of each stream, users and accounts as in a cluster."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from affiant.cli.app import main
from affiant.common import bus
from affiant.common.client import Client
from tests.support.bus import SecureBus

SUBJECT = "affiant.modelserver.prediction_logged.v1.loan"
RECORDS = 600
RETRY = (NatsError, JetStreamError, TimeoutError, OSError)


async def patiently(js: JetStreamContext, name: str) -> None:
    """Publish one record until it is acknowledged; its id makes a repetition harmless."""
    deadline = time.monotonic() + 120
    while True:
        try:
            await js.publish(SUBJECT, name.encode(), headers={"Nats-Msg-Id": name}, timeout=2)
        except RETRY:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            return


async def publish(client: Client, done: list[str], half: asyncio.Event) -> None:
    js, room = client.jetstream(), asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with room:
            await patiently(js, f"record-{number}")
            done.append(f"record-{number}")
            if len(done) == RECORDS // 4:
                half.set()

    await asyncio.gather(*(one(number) for number in range(RECORDS)))


async def read(client: Client, durable: bus.Durable, seen: list[str]) -> None:
    inbox = f"{bus.inbox_prefix(durable.service)}.".encode()
    subscription = await client.jetstream().pull_subscribe_bind(durable.name, stream=durable.stream, inbox_prefix=inbox)
    while len(set(seen)) < RECORDS:
        try:
            for message in await subscription.fetch(50, timeout=2):
                seen.append(message.data.decode())
                await message.ack()
        except RETRY:
            await asyncio.sleep(0.1)


async def leader_of(client: Client, stream: str) -> str:
    info = await client.jetstream().stream_info(stream)
    assert info.cluster is not None
    return info.cluster.leader or ""


async def declared(secure: SecureBus) -> None:
    """Servers that have just begun choose a leader first."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await secure.declare(replicas=3)
        except Exception:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        else:
            return


async def test_the_leader_is_killed_under_load_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    secure = SecureBus(tmp_path / "bus", 3)
    secure.start()
    try:
        await declared(secure)
        forever = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1}
        writer, reader = await secure.connect("modelserver", **forever), await secure.connect("auditor", **forever)
        admin = await secure.connect("admin", **forever)
        done: list[str] = []
        seen: list[str] = []
        quarter = asyncio.Event()
        reading = asyncio.create_task(read(reader, bus.AUDITOR_PREDICTIONS, seen))
        writing = asyncio.create_task(publish(writer, done, quarter))
        await asyncio.wait_for(quarter.wait(), 120)
        leader = await leader_of(admin, "PREDICTIONS")
        secure.kill(int(leader.removeprefix("n")))
        await asyncio.wait_for(writing, 120)
        await asyncio.wait_for(reading, 120)

        info = await admin.jetstream().stream_info("PREDICTIONS")
        assert info.cluster is not None
        assert info.cluster.leader not in ("", leader)
        assert len(done) == RECORDS
        assert info.state.messages == RECORDS  # no record twice
        assert set(seen) == set(done)
        for client in (writer, reader, admin):
            await client.close()
    finally:
        secure.stop()


async def test_the_job_of_a_cluster_declares_everything_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secure = SecureBus(tmp_path / "bus")
    secure.start()
    command = ["bootstrap", "--declare", "--nats", secure.url, "--keys", str(secure.folder), "--wait", "30"]
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            await asyncio.to_thread(main, command)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    secure.stop()
    assert all(f"stream {stream.name} created" in said[0] for stream in bus.STREAMS)
    assert all(f"durable {one.name} created" in said[0] for one in (*bus.DURABLES, *bus.OUTSIDE_DURABLES))
    assert "everything was declared already" in said[1]
