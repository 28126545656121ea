"""Predictions published to a real bus, and what the auditor made of them: each once, with a proof."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256

from nats.aio.client import Client
from nats.errors import Error as NatsError

from affiant.auditor.log import proofs, tiles
from affiant.common import bus, ids, wire
from affiant.common.events import PredictionLogged, TensorData
from tests.unit.auditor import verifier
from tests.unit.auditor.process import Auditor

SMALL_BATCHES = {"BATCH_EVENTS": "100", "LINGER_SECONDS": "0.005"}


async def shorten_ack_wait(client: Client, seconds: float = 3.0) -> None:
    """What a killed process held is delivered again after `ack_wait`; a test need not wait for a minute."""
    durable = bus.AUDITOR_PREDICTIONS
    info = await client.jetstream().consumer_info(durable.stream, durable.name)
    await client.jetstream().add_consumer(durable.stream, replace(info.config, ack_wait=seconds))


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


class Publishing:
    """Publishes predictions, numbered from 1, until it is told to stop; `published` has the ids that the bus acked."""

    def __init__(self, client: Client, pause: float = 0.02) -> None:
        self.published: list[str] = []
        self._client = client
        self._pause = pause
        self._enough = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        first = 1
        while not self._enough:
            numbers = range(first, first + 100)
            self.published += await asyncio.gather(*[publish(self._client, message(number)) for number in numbers])
            first += 100
            await asyncio.sleep(self._pause)

    async def stop(self) -> list[str]:
        """Everything that was published, once the last of it is acked."""
        self._enough = True
        await self._task
        return self.published


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


async def check_everything_is_kept_once(auditor: Auditor, client: Client, published: list[str]) -> None:
    """Wait for the last event and the last signature, then count: lost 0, doubled 0, and a proof of each."""
    await auditor.until_size(len(published), seconds=120)
    await until_acked(client, auditor)
    await until_signed(auditor)
    kept = [row[0] for row in auditor.rows("SELECT event_id FROM entries")]
    assert len(kept) == len(set(kept)) == len(published)
    assert set(kept) == set(published)
    assert auditor.rows("SELECT count(*) FROM predictions") == [(len(published),)]
    assert auditor.rows("SELECT first, last FROM runs") == [(1, len(published))]
    summary = (await auditor.get("/v1/summary")).json()
    assert (summary["predictions"], summary["missing"], summary["size"]) == (len(published), 0, len(published))
    check_every_proof(auditor)


def replace_headers(one: wire.Message) -> wire.Message:
    return wire.Message(one.subject, one.body, {"content-type": wire.CONTENT_TYPE}, one.id)
