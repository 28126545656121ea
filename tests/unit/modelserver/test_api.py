"""The routes of the Open Inference Protocol, through the bare ASGI callable."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from affiant.modelserver.api import MAX_BODY_BYTES, OPEN_PATHS, Door, token_hash
from tests.unit.modelserver.fakes import FakeAudit, application, make_inference

pytestmark = pytest.mark.anyio


class Site:
    """A door, and what stands behind it."""

    def __init__(self, folder: Path, tokens: frozenset[bytes] = frozenset()) -> None:
        self.audit = FakeAudit()
        inference = make_inference(folder, self.audit)
        spec = inference._model.spec
        self.door = Door(spec, inference, self.audit.trouble, lambda: b"figures 1\n", tokens)

    async def call(
        self, method: str, path: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        parts = body if isinstance(body, list) else [body]
        incoming = [
            {"type": "http.request", "body": part, "more_body": index < len(parts) - 1}
            for index, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return incoming.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await self.door({"type": "http", "method": method, "path": path, "headers": given}, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        text = sent[1]["body"]
        return sent[0]["status"], json.loads(text) if text[:1] in (b"{", b"[") else text, answered


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


INFER = "/v2/models/loan/infer"


@pytest.mark.parametrize("base", ["/v2/models/loan", "/v2/models/loan/versions/1"])
async def test_a_model_tells_its_inputs_and_outputs_is_ready_and_infers(site: Site, base: str) -> None:
    status, document, _ = await site.call("GET", base)
    assert status == 200
    assert document["inputs"][0] == {"name": "income", "datatype": "FP32", "shape": [-1, 1]}
    assert [one["name"] for one in document["outputs"]] == ["label", "probabilities"]
    assert (document["name"], document["versions"], bool(document["platform"])) == ("loan", ["1"], True)
    assert (await site.call("GET", f"{base}/ready"))[:2] == (200, {"name": "loan", "ready": True})
    status, document, headers = await site.call("POST", f"{base}/infer", json.dumps(application((5, 1))).encode())
    assert (status, headers["content-type"], document["model_name"]) == (200, "application/json", "loan")


async def test_a_server_tells_its_name_and_health(site: Site) -> None:
    assert (await site.call("GET", "/v2"))[1]["name"] == "affiant"
    assert (await site.call("GET", "/v2/health/live"))[:2] == (200, {"live": True})
    assert (await site.call("GET", "/v2/health/ready"))[:2] == (200, {"ready": True})
    assert (await site.call("GET", "/metrics"))[1] == b"figures 1\n"


async def test_a_server_whose_answers_could_not_leave_is_not_ready_and_says_why(site: Site) -> None:
    site.audit.refuse = "the bus is away"
    assert (await site.call("GET", "/v2/health/ready"))[:2] == (503, {"ready": False, "reason": "the bus is away"})
    assert (await site.call("GET", "/v2/models/loan/ready"))[0] == 503
    assert (await site.call("GET", "/v2/health/live"))[0] == 200


async def test_what_triton_clients_ask_besides_is_answered(site: Site) -> None:
    assert (await site.call("GET", "/v2/models/loan/config"))[1]["max_batch_size"] == 0
    assert (await site.call("GET", "/v2/models/loan/stats"))[1]["model_stats"][0]["inference_count"] == 0
    assert (await site.call("POST", "/v2/repository/index"))[1][0]["state"] == "READY"


@pytest.mark.parametrize(
    "path", ["/", "/v2/models/other", "/v2/models/loan/versions/9", "/v2/models/loan/versions/9/infer"]
)
async def test_an_unknown_path_is_an_error_in_words_and_draws_no_number(site: Site, path: str) -> None:
    status, document, _ = await site.call("POST", path, b"{}")
    assert (status, list(document), site.audit.kept) == (404, ["error"], [])


async def test_a_known_path_with_another_method_says_so(site: Site) -> None:
    assert (await site.call("GET", INFER))[0] == 405
    assert (await site.call("POST", "/v2/health/live"))[0] == 405


async def test_a_body_may_come_in_parts_and_packed(site: Site) -> None:
    body = json.dumps(application((5, 1))).encode()
    assert (await site.call("POST", INFER, [body[:10], body[10:], b""]))[0] == 200
    assert (await site.call("POST", INFER, gzip.compress(body), {"content-encoding": "gzip"}))[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ([b" " * MAX_BODY_BYTES, b" "], {}, 413),
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1)), {"content-encoding": "gzip"}, 413),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (b"{}", {"content-encoding": "br"}, 415),
        (b"{}", {"inference-header-content-length": "2"}, 400),
        (b"\xff\xfe", {}, 400),
        (b"", {}, 400),
    ],
)
async def test_a_body_that_is_not_taken_is_refused_in_words_and_recorded(
    site: Site, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, document, _ = await site.call("POST", INFER, body, headers)
    assert (found, bool(document["error"])) == (status, True)
    assert [(one.status, one.sequence) for one in site.audit.records()] == [("failed", 1)]


async def test_while_draining_each_answer_asks_to_close_the_connection(site: Site) -> None:
    assert "connection" not in (await site.call("GET", "/v2"))[2]
    site.door.draining = True
    assert (await site.call("GET", "/v2"))[2]["connection"] == "close"
    assert (await site.call("GET", "/nothing"))[2]["connection"] == "close"


async def test_a_client_that_gets_503_is_told_when_to_come_back(site: Site) -> None:
    site.audit.refuse = "the bus is away"
    status, _, headers = await site.call("POST", INFER, json.dumps(application((5, 1))).encode())
    assert (status, headers["retry-after"]) == (503, "1")


async def test_where_tokens_are_wanted_nothing_but_health_and_figures_answers_without_one(tmp_path: Path) -> None:
    site = Site(tmp_path, frozenset({token_hash(b"new"), token_hash(b"old")}))
    walked = [("POST", INFER), *site.door._routes, ("GET", "/metrics"), ("GET", "/nowhere")]
    for given in ({}, {"authorization": "Bearer guessed"}, {"authorization": "Basic new"}, {"authorization": "Bearer"}):
        answers = {path: await site.call(method, path, headers=given) for method, path in walked}
        assert {path for path, (status, *_) in answers.items() if status != 401} == OPEN_PATHS
        assert answers[INFER][2]["www-authenticate"] == "Bearer"
    assert site.audit.kept == []
    for token in ("new", "old"):
        answered, *_ = await site.call("GET", "/v2", headers={"authorization": f"Bearer {token}"})
        assert answered == 200
