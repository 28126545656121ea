"""The auditor's HTTP door, with the whole service behind it."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from affiant.cli.exporting import LogExport, Range
from affiant.common import bus, wire
from affiant.common.events import CheckpointSigned, Event, PredictionLogged
from affiant.verify import program
from tests.support.nats_server import NatsServer
from tests.unit.auditor import examples, verifier
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio


async def publish(client: Client, event: Event) -> str:
    given = event.prediction_id if isinstance(event, PredictionLogged) else ""
    message = wire.encode(event, owner=event.owner, id=given)
    await client.jetstream().publish(message.subject, message.body, headers=message.headers)
    return message.id


@pytest.fixture
async def auditor(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Auditor]:
    auditor = Auditor(tmp_path / "auditor", nats_server.url)
    auditor.start()
    await auditor.until_ready()
    yield auditor
    auditor.kill()


@pytest.fixture
async def denied(auditor: Auditor, declared: Client) -> str:
    """A denied application, explained, among others; the model was registered."""
    await publish(declared, examples.registered())
    for number in range(1, 9):
        await publish(declared, examples.prediction(number, race="white" if number % 2 else "black"))
    event = examples.prediction(10, race="black", adverse=True)
    await publish(declared, event)
    await publish(declared, examples.explained(event.prediction_id))
    await auditor.until_size(11)
    return event.prediction_id


async def test_nobody_reads_without_a_token(auditor: Auditor) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{auditor.port}/v1/summary")
    assert answer.status_code == 401


async def test_one_decision_is_found_with_all_that_belongs_to_it(auditor: Auditor, denied: str) -> None:
    view = (await auditor.get(f"/v1/predictions/{denied}")).json()
    assert view["record"]["labels"] == ["no"]
    assert [line["event"]["prediction_id"] for line in view["explanations"]] == [denied]
    assert [line["type"] for line in view["lineage"]] == ["affiant.registry.model_registered.v1"]


async def test_a_proof_from_the_api_verifies_with_nothing_of_ours(auditor: Auditor, denied: str) -> None:
    proof = (await auditor.get(f"/v1/predictions/{denied}/proof")).json()
    _, size, root = verifier.opened(proof["checkpoint"], (auditor.data / "log.vkey").read_text().strip())
    path = [bytes.fromhex(step) for step in proof["path"]]
    assert verifier.included(verifier.leaf(proof["leaf"].encode()), proof["index"], size, path, root)
    payload = sha256(bytes.fromhex(proof["salt"]) + base64.b64decode(proof["payload"])).hexdigest()
    assert f'"payload":"{payload}"' in proof["leaf"]


async def test_figures_are_answered(auditor: Auditor, denied: str) -> None:
    page = (await auditor.get("/v1/predictions", model="loans", adverse=True)).json()
    assert [line["prediction_id"] for line in page["predictions"]] == [denied] and page["next"] is None
    summary = (await auditor.get("/v1/summary", model="loans")).json()
    assert {key: summary[key] for key in ("predictions", "explained", "missing")} == {
        "predictions": 9,
        "explained": 1,
        "missing": 1,
    }
    fairness = (await auditor.get("/v1/fairness", model="loans", column="race")).json()
    assert (fairness["favourable"], fairness["reference"]) == ("yes", "black")
    complete = (await auditor.get("/v1/completeness")).json()
    assert [(gap["first"], gap["last"]) for gap in complete["replicas"][0]["missing"]] == [(9, 9)]


async def test_a_question_without_an_answer_says_why(auditor: Auditor) -> None:
    for path, status in (
        ("/v1/predictions/nobody", 404),
        ("/v1/predictions?limit=0", 422),
        ("/v1/predictions?since=yesterday", 400),
        ("/v1/predictions?cursor=x", 400),
        ("/v1/fairness?model=loans&column=shoes", 404),
        ("/v1/checkpoint", 404),
    ):
        answer = await auditor.get(path)
        assert (path, answer.status_code) == (path, status)
        assert answer.json()["error"]


async def test_checkpoints_are_published_and_metrics_told(auditor: Auditor, denied: str, declared: Client) -> None:
    note = (await auditor.get("/v1/checkpoint")).text
    assert note.startswith("affiant.local/")
    subscription = await declared.jetstream().pull_subscribe("affiant.auditor.>", stream="AUDIT")
    (message, *_) = await subscription.fetch(1, timeout=10)
    event = wire.decode(message.subject, message.data, message.headers).event
    assert isinstance(event, CheckpointSigned) and event.size <= 11
    metrics = (await auditor.get("/metrics")).text
    assert 'affiant_auditor_events_total{result="kept"} 11.0' in metrics
    assert f'affiant_auditor_pending_events{{durable="{bus.AUDITOR_PREDICTIONS.name}"}}' in metrics


async def test_openapi_names_every_answer(auditor: Auditor) -> None:
    document = (await auditor.get("/openapi.json")).json()
    assert {path for path in document["paths"] if path.startswith("/v1")} >= {"/v1/predictions", "/v1/fairness"}
    assert "PredictionView" in document["components"]["schemas"]


def alter(auditor: Auditor, statement: str, *values: object) -> None:
    """Change the store behind the running auditor's back."""
    with sqlite3.connect(auditor.data / "audit.db", timeout=5) as connection:
        assert connection.execute(statement, values).rowcount == 1
    connection.close()


async def test_one_byte_that_was_changed_by_hand_is_named_by_its_entry(auditor: Auditor, denied: str) -> None:
    whole = (await auditor.get("/v1/integrity")).json()
    assert (whole["intact"], whole["checked"], whole["size"], whole["checkpoint_size"]) == (True, 11, 11, 11)
    [(index, body)] = auditor.rows(
        f"SELECT idx, body FROM entries WHERE event_id = '{denied}' AND type LIKE '%logged%'"
    )
    forged = body.replace(b'"labels":["no"]', b'"labels":["na"]')
    assert forged != body
    alter(auditor, "UPDATE entries SET body = ? WHERE idx = ?", forged, index)
    for path in (f"/v1/predictions/{denied}", f"/v1/predictions/{denied}/proof"):
        answer = await auditor.get(path)
        assert answer.status_code == 500
        assert f"entry {index} of the log was altered" in answer.json()["error"]
        assert "evidence" in answer.json()["hint"]
    found = (await auditor.get("/v1/integrity")).json()
    assert (found["intact"], [one["index"] for one in found["damage"]]) == (False, [index])
    assert "an entry of the log was altered" in auditor.log()


async def test_a_row_that_was_deleted_is_named_by_its_entry(auditor: Auditor, denied: str) -> None:
    [(index,)] = auditor.rows(f"SELECT idx FROM entries WHERE event_id = '{denied}' AND type LIKE '%logged%'")
    alter(auditor, "DELETE FROM entries WHERE idx = ?", index)
    answer = await auditor.get(f"/v1/predictions/{denied}")
    assert (answer.status_code, f"entry {index} of the log was altered" in answer.json()["error"]) == (500, True)
    found = (await auditor.get("/v1/integrity")).json()
    assert [one["said"] for one in found["damage"]] == [f"entry {index} of the log was altered: it was removed"]


async def test_whoever_reads_a_payload_is_on_record_and_an_erased_one_is_verified_from_an_export(
    auditor: Auditor, denied: str, tmp_path: Path
) -> None:
    await auditor.get(f"/v1/predictions/{denied}")

    async def noted() -> bool:
        return bool((await auditor.get(f"/v1/predictions/{denied}/reads")).json()["reads"])

    await auditor.until(noted, "noted who read")
    async with httpx.AsyncClient(headers={"Authorization": "Bearer omar-token"}, timeout=30) as http:
        wish = {"prediction_id": denied, "reason": "logged by mistake"}
        done = await http.post(f"http://127.0.0.1:{auditor.port}/v1/erasures", json=wish)
    assert (done.status_code, done.json()["entries"]) == (200, 2), done.text
    view = (await auditor.get(f"/v1/predictions/{denied}")).json()
    assert (view["record"], view["erased"]["by"]) == (None, "omar")
    services: Any = SimpleNamespace(ask=partial(_ask, auditor), get=partial(_get, auditor))
    key = (auditor.data / "log.vkey").read_text().strip()
    await asyncio.to_thread(LogExport(services, tmp_path / "log", Range(), lambda _done, _of: None).run, key)
    notes = tuple(program.read_witness(str(auditor.folder / "witness")))
    report = program.verify(program.Question(str(tmp_path / "log"), key, notes, older=True))
    assert (report.ok, report.erased, report.missing) == (True, 2, 1), list(report.lines())


def _ask(auditor: Auditor, _service: str, method: str, path: str, timeout: float = 30, **given: Any) -> httpx.Response:
    headers = {"Authorization": "Bearer iris-token"}
    return httpx.request(
        method, f"http://127.0.0.1:{auditor.port}{path}", headers=headers, timeout=timeout, **given
    ).raise_for_status()


def _get(auditor: Auditor, service: str, path: str, **parameters: Any) -> Any:
    return _ask(auditor, service, "GET", path, params=parameters).json()
