"""What KServe's payload logger and other systems send by HTTP becomes a record, exactly once, or says why not."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from affiant.auditor.actions.sink import Sink
from affiant.auditor.api.sinks import make_sinks
from affiant.auditor.domain import kserve
from affiant.auditor.store import outbox
from affiant.common import auth, http, wire
from affiant.common.errors import Problem
from affiant.common.events import PredictionLogged
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

V2 = {"inputs": [{"name": "income", "datatype": "FP32", "shape": [2, 1], "data": [[4.5], [None]]}]}
ANSWER = {"model_name": "m", "outputs": [{"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}]}


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


class FakeBus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[wire.Message] = []

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        self.sent.append(wire.Message(subject, body, headers, ""))


def made(auditor: Auditor) -> Sink:
    sink = Sink(auditor.writer, auditor.settings)
    sink.open(FakeBus())  # type: ignore[arg-type]
    return sink


def headers(side: str, event_id: str = "r1", **more: str) -> dict[str, str]:
    return {
        "Ce-Id": event_id,
        "Ce-Type": f"org.kubeflow.serving.inference.{side}",
        "Ce-Source": "http://localhost:9081/",
        "Ce-Time": "2026-11-24T10:00:00.5Z",
        "Ce-Inferenceservicename": "income",
        "Ce-Namespace": "bank",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "default",
        "Ce-Specversion": "1.0",
    } | more


async def records(auditor: Auditor) -> list[PredictionLogged]:
    """What waits for the relay, as everybody will read it off the bus."""
    waiting = await auditor.lookup.ask(lambda connection: outbox.waiting(connection, 100))
    ours = [one for one in waiting if one.subject.startswith("affiant.outside.")]
    found = [wire.decode(one.subject, one.body, one.headers).event for one in ours]
    return [event for event in found if isinstance(event, PredictionLogged)]


@pytest.mark.parametrize("order", [("request", "response"), ("response", "request")])
async def test_two_halves_in_any_order_are_one_record(auditor: Auditor, order: tuple[str, str]) -> None:
    sink = made(auditor)
    bodies = {"request": json.dumps(V2).encode(), "response": gzip.compress(json.dumps(ANSWER).encode())}
    for side in order:
        assert await records(auditor) == []
        await sink.take(headers(side), bodies[side])
    (event,) = await records(auditor)
    assert (event.model, event.version, event.status, event.request_id) == ("income", None, "answered", "r1")
    assert (event.inputs[0].data, event.outputs[0].data) == ([4.5, None], [1, 0])
    assert event.received_at == "2026-11-24T10:00:00.500000Z"
    assert event.parameters["kserve"] == {"namespace": "bank", "source": "http://localhost:9081/"}


async def test_a_half_that_is_sent_again_changes_nothing(auditor: Auditor) -> None:
    sink = made(auditor)
    for _ in range(2):
        await sink.take(headers("request"), json.dumps(V2).encode())
        await sink.take(headers("response"), json.dumps(ANSWER).encode())
    assert len(await records(auditor)) == 1
    assert await sink.give_up(datetime.now(UTC) + timedelta(hours=1)) == 0


async def test_the_record_enters_the_log_like_any_other(auditor: Auditor) -> None:
    sink = made(auditor)
    await sink.take(headers("request"), json.dumps(V2).encode())
    await sink.take(headers("response"), json.dumps(ANSWER).encode())
    waiting = await auditor.lookup.ask(lambda connection: outbox.waiting(connection, 100))
    await auditor.writer.record([examples.raw(one.subject, one.body, one.headers) for one in waiting])
    (line,) = (await auditor.prover.prediction((await records(auditor))[0].prediction_id)).proof.leaf.splitlines()
    assert json.loads(line)["source"] == "urn:kserve:bank:income"


@pytest.mark.parametrize(("side", "missing"), [("request", "response"), ("response", "request")])
async def test_a_half_whose_other_half_never_comes_becomes_a_failed_record(
    auditor: Auditor, side: str, missing: str
) -> None:
    sink = made(auditor)
    await sink.take(headers(side), json.dumps(V2 if side == "request" else ANSWER).encode())
    assert await sink.give_up(datetime.now(UTC)) == 0
    assert await sink.give_up(datetime.now(UTC) + timedelta(seconds=61)) == 1
    (event,) = await records(auditor)
    assert (event.status, event.error) == ("failed", f"the {missing} never arrived")
    assert bool(event.inputs) == (side == "request")


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([[1, 2.5], [3, 4]], [("instances", "FP64", [2, 2], [1, 2.5, 3, 4])]),
        ([1, 2], [("instances", "INT64", [2], [1, 2])]),
        ([{"b": "x", "a": 1}, {"a": 2}], [("a", "INT64", [2, 1], [1, 2]), ("b", "BYTES", [2, 1], ["x", None])]),
        ([True, False], [("instances", "BOOL", [2], [True, False])]),
    ],
)
def test_rows_of_protocol_v1_become_tensors(instances: Any, expected: list[tuple[Any, ...]]) -> None:
    one = half("request", {"instances": instances})
    event = kserve.record(one, half("response", {"predictions": [0, 1]}))
    assert [(t.name, t.datatype, t.shape, t.data) for t in event.inputs] == expected
    assert event.outputs[0].name == "predictions"


def half(side: str, body: Any) -> kserve.Half:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.lower(): value for name, value in headers(side).items()}
    return kserve.half(given, sent, "2026-11-24T10:00:00.000000Z")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (gzip.compress(bytes(20 * 1024**2)), "larger than"),
        ({"instances": [[1, 2], [3]]}, "differ in length"),
        ({"inputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1]}]}, "1 values for the shape [3]"),
        ({"inputs": [{"name": "a", "datatype": "FP32", "shape": [3]}]}, "no data in JSON"),
        ({"error": "no such model"}, "the model answered: no such model"),
        ({"x": 1}, "neither inputs nor instances"),
        ({"inputs": 7}, "cannot be read"),
    ],
)
def test_a_body_that_cannot_be_read_makes_a_failed_record_that_says_why(body: Any, said: str) -> None:
    event = kserve.record(half("request", body), half("response", ANSWER))
    assert (event.status, said in event.error) == ("failed", True), event.error


async def test_a_record_too_large_for_a_message_is_kept_without_its_tensors(auditor: Auditor) -> None:
    sink = made(auditor)
    many = {"inputs": [{"name": "a", "datatype": "FP64", "shape": [200_000], "data": [0.123456] * 200_000}]}
    await sink.take(headers("request"), gzip.compress(json.dumps(many).encode()))
    await sink.take(headers("response"), json.dumps(ANSWER).encode())
    (event,) = await records(auditor)
    assert (event.status, event.inputs, "at most" in event.error) == ("failed", [], True)


@pytest.mark.parametrize("changed", [{"Ce-Type": "x"}, {"Ce-Id": ""}, {"Ce-Inferenceservicename": "A.b"}])
async def test_what_is_no_half_is_refused(auditor: Auditor, changed: dict[str, str]) -> None:
    with pytest.raises(Problem):
        await made(auditor).take(headers("request", **changed), b"{}")


# --- whole events, and the door -------------------------------------------------------------------------------


def event(event_id: str = "p1", **changes: Any) -> dict[str, Any]:
    data = {"prediction_id": event_id, "model": "loan", "version": None, "digest": "", "status": "answered"}
    data |= {"received_at": "2026-11-24T10:00:00Z"}
    found = {"specversion": "1.0", "id": event_id, "source": "urn:bank", "data": data}
    return found | {"type": "affiant.outside.prediction_logged.v1"} | changes


async def posted(auditor: Auditor, path: str, content: bytes, **given: str) -> tuple[httpx.Response, FakeBus]:
    """The answer to a service's request, through the one choke point."""
    sink, bus = Sink(auditor.writer, auditor.settings), FakeBus()
    sink.open(bus)  # type: ignore[arg-type]
    api = APIRouter()
    api.include_router(make_sinks(sink))
    service: Any = SimpleNamespace(name="auditor", api=api, state=dict)
    known = [
        auth.KnownPerson(name, [role], auth.token_hash(name)) for name, role in (("kf", "service"), ("ana", "author"))
    ]
    app = http.make_app(service, _no_problems, lambda: True, auth.People(known))
    sent = {"authorization": "Bearer kf"} | {name.replace("_", "-"): value for name, value in given.items()}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://auditor") as client:
        return await client.post(path, content=content, headers=sent), bus


async def _no_problems() -> list[str]:
    return []


async def test_a_structured_event_and_a_batch_are_published_as_they_came(auditor: Auditor) -> None:
    body = json.dumps(event()).encode()
    answer, bus = await posted(auditor, "/v1/events", body, content_type="application/cloudevents+json")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "ids": ["p1"]})
    assert (bus.sent[0].subject, bus.sent[0].body) == ("affiant.outside.prediction_logged.v1.loan", body)
    batch = json.dumps([event("a"), event("b")]).encode()
    answer, bus = await posted(auditor, "/v1/events", batch, content_type="application/cloudevents-batch+json")
    assert answer.json()["ids"] == ["a", "b"]
    assert len({one.headers["Nats-Msg-Id"] for one in bus.sent}) == 2


async def test_an_event_in_binary_mode_is_published_with_its_attributes(auditor: Auditor) -> None:
    whole = event()
    answer, bus = await posted(
        auditor, "/v1/events", json.dumps(whole["data"]).encode(), content_type="application/json",
        ce_id="p1", ce_source="urn:bank", ce_type=whole["type"], ce_specversion="1.0",
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    found = wire.decode(bus.sent[0].subject, bus.sent[0].body, bus.sent[0].headers)
    assert (found.source, isinstance(found.event, PredictionLogged)) == ("urn:bank", True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "affiant.registry.model_promoted.v1"}, "none that an outside system may publish"),
        ({"source": "affiant://modelserver"}, "comes from affiant://modelserver"),
        ({"id": "other"}, "must be its prediction_id"),
        ({"data": {"model": "a.b"}}, "no model name"),
        ({"data": {"model": "loan"}}, "malformed"),
        ({"type": "affiant.outside.prediction_logged.v1.x>"}, "no model name"),
    ],
)
async def test_one_malformed_event_of_a_batch_refuses_all_of_it_by_its_place(
    auditor: Auditor, changes: dict[str, Any], said: str
) -> None:
    body = json.dumps([event("a"), event("b") | changes]).encode()
    answer, bus = await posted(auditor, "/v1/events", body, content_type="application/cloudevents-batch+json")
    assert (answer.status_code, bus.sent) == (422, [])
    assert "event 2 is refused" in answer.json()["error"] and said in answer.json()["error"], answer.text


async def test_the_logger_is_known_by_the_password_in_its_url_and_nobody_else_is_let_in(auditor: Auditor) -> None:
    body = json.dumps(V2).encode()

    async def status(authorization: str) -> int:
        answer, _ = await posted(auditor, "/sinks/kserve", body, **headers("request"), authorization=authorization)
        return answer.status_code

    assert await status(f"Basic {base64.b64encode(b'kserve:kf').decode()}") == 200
    assert await status(f"Basic {base64.b64encode(b'kf:guessed').decode()}") == 401
    assert await status("Basic !!!") == 401
    assert await status("Bearer ana") == 403


async def test_more_than_is_taken_at_once_is_refused_with_the_limit(auditor: Auditor) -> None:
    answer, _ = await posted(auditor, "/v1/events", bytes(kserve.MOST_BYTES + 1), content_type="application/json")
    assert answer.status_code == 413
