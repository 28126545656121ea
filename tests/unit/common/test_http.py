"""The door that all services share: who may come in, and what an error looks like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends
from faststream.nats import NatsRouter
from starlette.types import ASGIApp

from affiant.common.auth import People, Person, needs, token_hash
from affiant.common.errors import Conflict, Problem
from affiant.common.http import make_app
from affiant.common.service import Runtime, Service
from affiant.common.settings import ServiceSettings


def make_service() -> Service:
    api = APIRouter()

    @api.get("/v1/who")
    async def who(person: Annotated[Person, Depends(needs())]) -> str:
        return person.name

    @api.post("/v1/approve")
    async def approve(person: Annotated[Person, Depends(needs("approver"))]) -> str:
        raise Conflict(f"{person.name}, it is approved already", hint="nothing is left to do")

    @api.get("/v1/broken")
    async def broken() -> str:
        raise RuntimeError("secret details")

    @asynccontextmanager
    async def lifespan(_: Runtime) -> AsyncIterator[None]:
        yield

    async def ready() -> list[str]:
        return []

    return Service("mine", ServiceSettings(), NatsRouter(), api, lifespan, ready)


@pytest.fixture
def people(tmp_path: Path) -> People:
    path = tmp_path / "people.json"
    lines = [
        {"name": "ana", "roles": ["author"], "token_sha256": token_hash("ana-token")},
        {"name": "ben", "roles": ["approver"], "token_sha256": token_hash("ben-token")},
    ]
    path.write_text(json.dumps(lines))
    return People.read(str(path))


def app(people: People, *, started: bool = True, problems: list[str] | None = None) -> ASGIApp:
    async def ask() -> list[str]:
        return problems or []

    return make_app(make_service(), ask, lambda: started, people)


def client(app: ASGIApp, token: str = "") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://mine", headers=headers)


async def test_every_route_but_the_probes_and_metrics_needs_a_token(people: People) -> None:
    async with client(app(people)) as http:
        for path in ("/v1/who", "/v1/approve", "/openapi.json", "/nowhere"):
            assert (await http.get(path)).status_code == 401, path
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await http.get(path)).status_code == 200, path


async def test_a_known_token_is_its_person(people: People) -> None:
    async with client(app(people), "ana-token") as http:
        assert (await http.get("/v1/who")).json() == "ana"


async def test_a_wrong_token_is_nobody(people: People) -> None:
    async with client(app(people), "ana-toke") as http:
        assert (await http.get("/v1/who")).status_code == 401


async def test_a_role_that_is_missing_is_named(people: People) -> None:
    async with client(app(people), "ana-token") as http:
        answer = await http.post("/v1/approve")
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "ana may not do this: it needs the role approver",
        "hint": "ana has: author",
    }


async def test_a_problem_says_what_to_do_next(people: People) -> None:
    async with client(app(people), "ben-token") as http:
        answer = await http.post("/v1/approve")
    assert answer.status_code == 409
    assert answer.json()["hint"] == "nothing is left to do"


async def test_an_unforeseen_error_shows_nothing_of_its_inside(people: People) -> None:
    async with client(app(people), "ben-token") as http:
        answer = await http.get("/v1/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_an_unknown_route_is_a_clear_error(people: People) -> None:
    async with client(app(people), "ben-token") as http:
        answer = await http.get("/v1/nowhere")
    assert answer.status_code == 404
    assert "/openapi.json" in answer.json()["hint"]


async def test_a_service_that_starts_answers_its_probes_and_nothing_else(people: People) -> None:
    async with client(app(people, started=False, problems=["starting"]), "ben-token") as http:
        assert (await http.get("/v1/who")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["starting"]}


async def test_without_a_people_file_nobody_is_known() -> None:
    async with client(app(People.read("")), "ana-token") as http:
        assert (await http.get("/v1/who")).status_code == 401


def test_an_unknown_role_in_the_people_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    path.write_text(json.dumps([{"name": "eve", "roles": ["god"], "token_sha256": "0"}]))
    with pytest.raises(Problem, match="unknown roles"):
        People.read(str(path))


class Somebody:
    """An issuer that knows everybody by the name of `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def person(self, token: str) -> Person:
        return Person(self.name, frozenset({"approver"}))


async def test_an_issuer_may_not_name_somebody_of_the_people_file(people: People) -> None:
    async def ask() -> list[str]:
        return []

    for name, status in (("ana", 401), ("eve", 200)):
        guarded = make_app(make_service(), ask, lambda: True, people, Somebody(name))
        async with client(guarded, "a.b.c") as http:
            assert (await http.get("/v1/who")).status_code == status
