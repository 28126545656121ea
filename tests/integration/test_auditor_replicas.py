"""Several auditors on one PostgreSQL: one writes the log, the others stand by, and nothing is written twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from affiant.auditor.actions.record import Recorder
from affiant.auditor.store.database import Database, Standby
from affiant.auditor.store.location import locate
from tests.support.audited import (
    SMALL_BATCHES,
    check_every_proof,
    publish_many,
    shorten_ack_wait,
    until_acked,
    until_signed,
)
from tests.support.nats_server import NatsServer
from tests.support.postgres import Postgres
from tests.unit.auditor import examples
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def pair(
    tmp_path: Path, nats_server: NatsServer, declared: Client, server: Postgres
) -> AsyncIterator[tuple[Auditor, Auditor]]:
    """A leader, and another auditor that stands by; each with a folder of its own, and the same key."""
    url = server.new_database()
    leader, standby = [Auditor(tmp_path / name, nats_server.url, url, **SMALL_BATCHES) for name in ("first", "second")]
    leader.start()
    await leader.until_ready()
    standby.data.mkdir(parents=True)
    shutil.copy(leader.data / "log.key", standby.data / "log.key")
    standby.start()
    await standby.until_ready()
    yield leader, standby
    for one in (leader, standby):
        one.kill()


async def role(auditor: Auditor) -> str:
    return str((await auditor.get("/readyz")).json()["role"])


async def until_it_leads(auditor: Auditor) -> None:
    async def leads() -> bool:
        return await role(auditor) == "leader"

    await auditor.until(leads, "leading")


async def test_one_leads_and_the_other_stands_by_and_answers(pair: tuple[Auditor, Auditor], declared: Client) -> None:
    leader, standby = pair
    [first, *_] = await publish_many(declared, 300)
    await leader.until_size(300)
    await until_signed(leader)
    assert [await role(one) for one in pair] == ["leader", "standby"]
    for one, leads in ((leader, "1.0"), (standby, "0.0")):
        assert f"affiant_auditor_leader {leads}" in (await one.get("/metrics")).text
        assert (await one.get(f"/v1/predictions/{first}/proof")).status_code == 200
        assert (await one.get("/v1/integrity")).json()["intact"]


async def test_the_standby_leads_when_the_leader_is_killed_and_nothing_is_lost_or_doubled(
    pair: tuple[Auditor, Auditor], declared: Client
) -> None:
    leader, standby = pair
    count = 6_000
    await shorten_ack_wait(declared)
    publishing = asyncio.create_task(publish_many(declared, count, pause=0.02))
    for size in (500, 2_000, 3_500):
        await leader.until_size(size)
        leader.kill()
        await until_it_leads(standby)
        leader.start()
        leader, standby = standby, leader
    published = await publishing
    await leader.until_size(count, seconds=60)
    await until_acked(declared, leader)
    await until_signed(leader)
    kept = [row[0] for row in leader.rows("SELECT event_id FROM entries")]
    assert sorted(kept) == sorted(published)
    check_every_proof(leader)


async def test_a_leader_that_was_paused_and_replaced_writes_nothing_and_stands_by(
    pair: tuple[Auditor, Auditor], declared: Client, server: Postgres
) -> None:
    leader, standby = pair
    await shorten_ack_wait(declared)
    await publish_many(declared, 200)
    await leader.until_size(200)
    assert leader.process is not None
    os.kill(leader.process.pid, signal.SIGSTOP)
    try:
        # What the server does by itself when a session has been silent for half a minute.
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        assert leader.rows(ended) == [(True,)]
        await until_it_leads(standby)
        published = await publish_many(declared, 500)
        await standby.until_size(700)
    finally:
        os.kill(leader.process.pid, signal.SIGCONT)

    async def stands_by() -> bool:
        return await role(leader) == "standby"

    await leader.until(stands_by, "standing by")
    await until_acked(declared, standby)
    kept = [row[0] for row in standby.rows("SELECT event_id FROM entries")]
    assert len(kept) == len(set(kept)) == 700
    assert set(kept).issuperset(published)


async def test_a_standby_with_another_key_says_so_and_ends(pair: tuple[Auditor, Auditor]) -> None:
    _, standby = pair
    standby.stop()
    (standby.data / "log.key").unlink()
    standby.start()
    assert standby.process is not None
    assert await asyncio.to_thread(standby.process.wait, 60) != 0
    assert "log.key is gone" in standby.log()


def test_a_session_that_lost_its_lock_cannot_write(server: Postgres, tmp_path: Path) -> None:
    url = server.new_database()
    first, second = locate(url, tmp_path), locate(url, tmp_path)
    first.open()
    with pytest.raises(Standby):
        second.open()
    with pytest.raises(Standby, match="does not write"):
        Recorder(second).record([examples.arrival(examples.prediction())])
    unlock(first)
    second.open()
    with pytest.raises(Standby, match="no pooler"):
        Recorder(first).record([examples.arrival(examples.prediction())])
    assert Recorder(second).record([examples.arrival(examples.prediction())]).kept == 1
    first.close()
    second.close()


def unlock(database: Database) -> None:
    """What a pooler does that hands out a session to another client."""
    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_unlock_all()")
