"""Once each and durable before the ack: the auditor against a real server and real kills, on both back ends."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client

from affiant.common import bus, ids, wire
from affiant.common.events import ModelArchived
from tests.support.audited import (
    SMALL_BATCHES,
    Publishing,
    check_every_proof,
    check_everything_is_kept_once,
    message,
    pending,
    publish,
    publish_many,
    replace_headers,
    shorten_ack_wait,
    until_acked,
    until_signed,
)
from tests.support.nats_server import NatsServer
from tests.support.postgres import Postgres
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio

KILLS = int(os.environ.get("AFFIANT_TEST_KILLS", "10"))
on_both = pytest.mark.parametrize("auditor", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def databases() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
async def auditor(
    request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer, declared: Client, databases: Postgres
) -> AsyncIterator[Auditor]:
    """On SQLite, unless the test asks for another store."""
    url = ""
    if getattr(request, "param", "sqlite") == "postgresql":
        if databases.process is None:
            databases.start()
        url = databases.new_database()
    auditor = Auditor(tmp_path / "auditor", nats_server.url, url, **SMALL_BATCHES)
    yield auditor
    auditor.kill()


async def test_predictions_are_kept_acked_and_signed(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    published = await publish_many(declared, 500)
    await auditor.until_size(500)
    await until_acked(declared, auditor)
    await until_signed(auditor)
    assert {row[0] for row in auditor.rows("SELECT event_id FROM entries")} == set(published)
    check_every_proof(auditor)
    assert auditor.stop() == 0


@on_both
@pytest.mark.timeout(120 + 30 * KILLS)
async def test_kills_in_mid_batch_lose_nothing_and_double_nothing(auditor: Auditor, declared: Client) -> None:
    await shorten_ack_wait(declared)
    publishing = Publishing(declared, pause=0.02 if KILLS <= 20 else 0.3)
    in_mid_batch = 0
    for number in range(KILLS):
        before = auditor.size()
        auditor.start()
        await auditor.until_size(before + 150, seconds=60)
        await asyncio.sleep(random.Random(number).uniform(0.0, 0.08))
        in_mid_batch += await pending(declared) > 0
        auditor.kill()
    auditor.start()
    published = await publishing.stop()
    await check_everything_is_kept_once(auditor, declared, published)
    assert in_mid_batch >= KILLS // 2, "most kills came when there was nothing to do"
    if KILLS > 20:
        print(f"\n{KILLS} kills, {in_mid_batch} of them with events under way; {len(published)} events, each once")  # noqa: T201


@on_both
async def test_a_server_that_is_killed_and_comes_back_costs_nothing(
    auditor: Auditor, declared: Client, nats_server: NatsServer
) -> None:
    # Acks that the dead server never took: those messages come again, and change nothing.
    await shorten_ack_wait(declared)
    auditor.start()
    publishing = Publishing(declared, pause=0.03)
    for size in (300, 1_500):
        await auditor.until_size(size)
        await asyncio.to_thread(nats_server.restart)
    await auditor.until_size(2_500)
    await check_everything_is_kept_once(auditor, declared, await publishing.stop())


@on_both
async def test_an_event_that_is_published_twice_is_kept_once(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    one = message(1)
    # Without the header the stream itself does not recognise it: as a publisher does after the duplicate window.
    bare = replace_headers(one)
    await publish(declared, bare, times=5)
    await publish(declared, message(2))
    await auditor.until_size(2)
    await until_acked(declared, auditor)
    summary = (await auditor.get("/v1/summary")).json()
    assert (summary["predictions"], summary["doubled_ignored"]) == (2, 4)


@on_both
async def test_poison_among_good_events_ends_in_the_dead_letters(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    good = [message(number) for number in range(1, 21)]
    for number, one in enumerate(good):
        await publish(declared, one)
        if number % 5 == 0:
            await publish(declared, wire.Message(one.subject, b"{broken", {"content-type": wire.CONTENT_TYPE}, "x"))
    forged = replace_headers(message(1, prediction_id=good[3].id, labels=["no"]))
    await publish(declared, forged)
    await auditor.until_size(20)
    await until_acked(declared, auditor)
    dead = await declared.jetstream().stream_info("DEAD")
    assert dead.state.messages == 5
    letter = await declared.jetstream().get_last_msg("DEAD", f"{bus.DEAD_LETTERS}.auditor-predictions")
    assert letter.headers is not None and good[3].id in letter.headers["Affiant-Reason"]
    kinds = [one["kind"] for one in (await auditor.get("/v1/quarantine")).json()["messages"]]
    assert kinds == ["conflict", *["undecodable"] * 4]


async def test_poison_cannot_hold_up_the_record_by_filling_the_dead_letters(auditor: Auditor, declared: Client) -> None:
    js, durable = declared.jetstream(), bus.AUDITOR_PREDICTIONS
    await js.update_stream(replace((await js.stream_info("DEAD")).config, max_bytes=1_000))
    config = (await js.consumer_info(durable.stream, durable.name)).config
    await js.add_consumer(durable.stream, replace(config, max_ack_pending=10))
    auditor.start()
    for number in range(1, 21):
        headers = {"content-type": wire.CONTENT_TYPE}
        await publish(declared, wire.Message(message(1).subject, b"{broken", headers, f"{number}"))
    await publish(declared, message(1))
    await auditor.until_size(1)
    await until_acked(declared, auditor)
    assert auditor.rows("SELECT count(*) FROM quarantine") == [(20,)]


async def test_a_restart_hands_over_without_waiting_or_doubling(auditor: Auditor, declared: Client) -> None:
    publishing = asyncio.create_task(publish_many(declared, 5_000, pause=0.02))
    for size in (300, 1_500, 3_000):
        auditor.start()
        await auditor.until_ready()
        await auditor.until_size(size)
        assert auditor.stop() == 0
    auditor.start()
    await publishing
    # The bus would deliver again what was not acked after a minute; it must not come to that.
    await auditor.until_size(5_000, seconds=15)
    await until_acked(declared, auditor)
    assert (await auditor.get("/v1/summary")).json()["doubled_ignored"] == 0


@on_both
async def test_an_unknown_type_is_kept_as_it_is(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    kind = "affiant.modelserver.prediction_logged.v9"
    body = json.dumps({"specversion": "1.0", "id": "n1", "source": "s", "type": kind, "data": {"new": 1}}).encode()
    await publish(declared, wire.Message(f"{kind}.loans", body, {"content-type": wire.CONTENT_TYPE}, "n1"))
    await auditor.until_size(1)
    assert auditor.rows("SELECT type, body FROM entries") == [(kind, body)]
    assert auditor.rows("SELECT count(*) FROM quarantine") == [(0,)]


async def test_lifecycle_events_arrive_on_a_durable_of_their_own(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    archived = ModelArchived(model="loans", version=1, digest="sha256:0", by="ben", archived_at=ids.now())
    one = wire.encode(archived, owner="registry")
    await publish(declared, one)
    await auditor.until_size(1)
    (line,) = (await auditor.get("/v1/lifecycle", model="loans")).json()["events"]
    assert (line["event_id"], line["event"]["by"]) == (one.id, "ben")
