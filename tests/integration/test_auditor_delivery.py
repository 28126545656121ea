"""Once each and durable before the ack: the auditor against a real server, real kills and a full disk."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from affiant.auditor.log import proofs, tiles
from affiant.common import bus, ids, wire
from affiant.common.events import ModelArchived, PredictionLogged, TensorData
from tests.support.nats_server import NatsServer
from tests.unit.auditor import verifier
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio

SMALL_BATCHES = {"BATCH_EVENTS": "100", "LINGER_SECONDS": "0.005"}


async def shorten_ack_wait(client: Client) -> None:
    """What a killed process held is delivered again after `ack_wait`; a test need not wait for a minute."""
    durable = bus.AUDITOR_PREDICTIONS
    info = await client.jetstream().consumer_info(durable.stream, durable.name)
    await client.jetstream().add_consumer(durable.stream, replace(info.config, ack_wait=3.0))


@pytest.fixture
async def auditor(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Auditor]:
    auditor = Auditor(tmp_path / "auditor", nats_server.url, **SMALL_BATCHES)
    yield auditor
    auditor.kill()


def prediction(sequence: int, **fields: object) -> PredictionLogged:
    event = PredictionLogged(
        prediction_id=ids.uuid7(),
        model="loans",
        version=1,
        digest="sha256:" + "0" * 64,
        received_at=ids.now(),
        status="answered",
        replica="r1",
        epoch=1,
        sequence=sequence,
        context=[TensorData(name="race", datatype="BYTES", shape=[1, 1], data=["white"])],
        labels=["yes"],
        scores=[0.9],
        adverse=[False],
        parameters={"padding": "x" * 400},
    )
    return PredictionLogged(**{**{name: getattr(event, name) for name in event.__struct_fields__}, **fields})


def message(sequence: int, **fields: object) -> wire.Message:
    event = prediction(sequence, **fields)
    return wire.encode(event, owner="modelserver", id=event.prediction_id)


async def publish(client: Client, one: wire.Message, times: int = 1) -> str:
    """Publish until the stream has acked it, as the model server does; returns the id."""
    while times:
        with suppress(NatsError, TimeoutError):
            await client.jetstream().publish(one.subject, one.body, headers=one.headers, timeout=2)
            times -= 1
            continue
        await asyncio.sleep(0.1)
    return one.id


async def publish_many(client: Client, count: int, pause: float = 0.0) -> list[str]:
    """`count` predictions, numbered from 1, a hundred at a time."""
    published: list[str] = []
    for first in range(1, count + 1, 100):
        numbers = range(first, min(first + 100, count + 1))
        published += await asyncio.gather(*[publish(client, message(number)) for number in numbers])
        await asyncio.sleep(pause)
    return published


async def pending(client: Client) -> int:
    info = await client.jetstream().consumer_info("PREDICTIONS", bus.AUDITOR_PREDICTIONS.name)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def until_acked(client: Client, auditor: Auditor) -> None:
    async def acked() -> bool:
        return await pending(client) == 0

    await auditor.until(acked, "acked")


def check_every_proof(auditor: Auditor) -> None:
    """Rebuild every leaf from its row, and prove each one against the newest checkpoint, with other people's code."""
    ((note,),) = auditor.rows("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")
    key = (auditor.data / "log.vkey").read_text().strip()
    _, size, root = verifier.opened(note, key)
    kept = {(level, position): hashes for level, position, hashes in auditor.rows("SELECT * FROM tiles")}
    node = tiles.nodes(lambda level, position: kept[level, position])
    rows = auditor.rows("SELECT idx, event_id, type, source, subject, time, audited_at, salt, body FROM entries")
    assert size == len(rows) == auditor.size()
    for idx, event_id, kind, source, subject, time, audited_at, salt, body in rows:
        leaf = {
            "audited_at": audited_at,
            "event_id": event_id,
            "payload": sha256(salt + body).hexdigest(),
            "source": source,
            "subject": subject,
            "time": time,
            "type": kind,
            "v": 1,
        }
        encoded = json.dumps(leaf, separators=(",", ":"), ensure_ascii=False).encode()
        assert verifier.included(verifier.leaf(encoded), idx, size, proofs.inclusion(idx, size, node), root)


async def until_signed(auditor: Auditor) -> None:
    async def signed() -> bool:
        return auditor.rows("SELECT max(size) FROM checkpoints") == [(auditor.size(),)]

    await auditor.until(signed, "signed")


async def test_predictions_are_kept_acked_and_signed(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    published = await publish_many(declared, 500)
    await auditor.until_size(500)
    await until_acked(declared, auditor)
    await until_signed(auditor)
    assert {row[0] for row in auditor.rows("SELECT event_id FROM entries")} == set(published)
    check_every_proof(auditor)
    assert auditor.stop() == 0


async def test_ten_kills_in_mid_batch_lose_nothing_and_double_nothing(auditor: Auditor, declared: Client) -> None:
    count, kills = 12_000, 10
    await shorten_ack_wait(declared)
    publishing = asyncio.create_task(publish_many(declared, count, pause=0.02))
    for number in range(kills):
        before = auditor.size()
        auditor.start()
        await auditor.until_size(before + 150, seconds=60)
        await asyncio.sleep(random.Random(number).uniform(0.0, 0.08))
        auditor.kill()
    assert auditor.size() < count, "the kills came too late to be in mid-batch"
    auditor.start()
    published = await publishing
    await auditor.until_size(count, seconds=60)
    await until_acked(declared, auditor)
    await until_signed(auditor)
    kept = [row[0] for row in auditor.rows("SELECT event_id FROM entries")]
    assert len(kept) == len(set(kept)) == count
    assert set(kept) == set(published)
    summary = (await auditor.get("/v1/summary")).json()
    assert (summary["predictions"], summary["missing"], summary["size"]) == (count, 0, count)
    assert auditor.rows("SELECT count(*) FROM predictions") == [(count,)]
    assert auditor.rows("SELECT first, last FROM runs") == [(1, count)]
    check_every_proof(auditor)


async def test_a_server_that_is_killed_and_comes_back_costs_nothing(
    auditor: Auditor, declared: Client, nats_server: NatsServer
) -> None:
    # Acks that the dead server never took: those messages come again, and change nothing.
    await shorten_ack_wait(declared)
    auditor.start()
    publishing = asyncio.create_task(publish_many(declared, 4_000, pause=0.03))
    for size in (300, 1_500):
        await auditor.until_size(size)
        await asyncio.to_thread(nats_server.restart)
    published = await publishing
    await auditor.until_size(4_000)
    await until_acked(declared, auditor)
    kept = [row[0] for row in auditor.rows("SELECT event_id FROM entries")]
    assert sorted(kept) == sorted(published)
    await until_signed(auditor)
    check_every_proof(auditor)


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


def replace_headers(one: wire.Message) -> wire.Message:
    return wire.Message(one.subject, one.body, {"content-type": wire.CONTENT_TYPE}, one.id)


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


async def test_an_unknown_type_is_kept_as_it_is(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    kind = "affiant.modelserver.prediction_logged.v9"
    body = json.dumps({"specversion": "1.0", "id": "n1", "source": "s", "type": kind, "data": {"new": 1}}).encode()
    await publish(declared, wire.Message(f"{kind}.loans", body, {"content-type": wire.CONTENT_TYPE}, "n1"))
    await auditor.until_size(1)
    assert auditor.rows("SELECT type, body FROM entries") == [(kind, body)]
    assert auditor.rows("SELECT count(*) FROM quarantine") == [(0,)]


async def test_a_full_disk_holds_everything_back_and_says_so(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    await auditor.until_ready()
    await publish_many(declared, 100)
    await auditor.until_size(100)
    auditor.limit_files(100_000)
    published = await publish_many(declared, 1_000)

    async def says_so() -> bool:
        answer = await auditor.get("/readyz")
        return answer.status_code == 503 and "the store is away" in answer.text

    await auditor.until(says_so, "saying that its store is away")
    assert auditor.size() < 1_100
    assert await pending(declared) >= 1_100 - auditor.size()
    auditor.unlimit_files()
    await auditor.until_size(1_100)
    await auditor.until_ready()
    await until_acked(declared, auditor)
    kept = {row[0] for row in auditor.rows("SELECT event_id FROM entries")}
    assert kept.issuperset(published) and len(kept) == 1_100
    await until_signed(auditor)
    check_every_proof(auditor)


async def test_lifecycle_events_arrive_on_a_durable_of_their_own(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    archived = ModelArchived(model="loans", version=1, digest="sha256:0", by="ben", archived_at=ids.now())
    one = wire.encode(archived, owner="registry")
    await publish(declared, one)
    await auditor.until_size(1)
    (line,) = (await auditor.get("/v1/lifecycle", model="loans")).json()["events"]
    assert (line["event_id"], line["event"]["by"]) == (one.id, "ben")
