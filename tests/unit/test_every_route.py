"""One choke point for authentication: every route of every service, walked."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from affiant.common import auth, bus, service as services
from affiant.common.http import make_app
from affiant.common.oidc import Issuer, Trust
from tests.support.issuer import AUDIENCE, ISSUER, FakeIssuer


async def no_problems() -> list[str]:
    return []


def application(name: str, there: FakeIssuer | None = None) -> auth.Guard:
    issuer = Issuer(Trust(ISSUER, AUDIENCE), there) if there else None
    app = make_app(services.find(name)(), no_problems, lambda: True, auth.People([]), issuer)
    assert isinstance(app, auth.Guard)
    return app


def doors(guard: auth.Guard) -> list[tuple[str, str]]:
    """Every method and path, with each parameter filled in; the document of them too."""
    inner: object = guard
    while not isinstance(inner, FastAPI):
        inner = inner.app  # type: ignore[attr-defined] # each layer of middleware holds the next one
    found = [
        (method, path.replace("{", "").replace("}", ""))
        for path, operations in inner.openapi()["paths"].items()
        for method in operations
    ]
    assert len(found) >= len([one for one in inner.routes if isinstance(one, APIRoute) and one.include_in_schema])
    return [*found, ("get", "/openapi.json"), ("get", "/")]


async def statuses(guard: auth.Guard, headers: dict[str, str]) -> dict[tuple[str, str], int]:
    transport = httpx.ASGITransport(app=guard, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as http:
        return {door: (await http.request(*door)).status_code for door in doors(guard)}


@pytest.fixture(params=bus.SERVICES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found: str = request.param
    monkeypatch.setenv(f"AFFIANT_{found.upper()}_DATA_DIR", str(tmp_path))
    return found


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic YTpi"}])
async def test_no_route_of_a_service_answers_somebody_unknown(name: str, headers: dict[str, str]) -> None:
    walked = await statuses(application(name), headers)
    assert set(walked.values()) == {401}, walked
    assert len(walked) > 2


@pytest.mark.parametrize(
    "kind", ["none", "expired", "another audience", "another issuer", "forged", "without an issuer"]
)
async def test_no_route_of_a_service_takes_a_token_that_does_not_count(name: str, kind: str) -> None:
    there = FakeIssuer()
    token = {
        "none": "",
        "expired": there.token(exp=int(time.time()) - 3600),
        "another audience": there.token(aud="another-program"),
        "another issuer": there.token(iss="https://evil.example.com"),
        "forged": FakeIssuer().token(),
        "without an issuer": there.token(),
    }[kind]
    guard = application(name, None if kind == "without an issuer" else there)
    walked = await statuses(guard, {"Authorization": f"Bearer {token}"})
    assert set(walked.values()) == {401}, walked


async def test_a_token_without_a_role_opens_no_route_that_needs_one(name: str) -> None:
    there = FakeIssuer()
    guard = application(name, there)
    walked = await statuses(guard, {"Authorization": f"Bearer {there.token(roles=[])}"})
    assert 401 not in walked.values()
    assert walked["get", "/openapi.json"] == 200
    changing = {door: status for door, status in walked.items() if door[0] != "get"}
    assert set(changing.values()) <= {403, 422}, changing


async def test_while_the_issuer_is_away_every_route_says_so(name: str) -> None:
    there = FakeIssuer()
    there.away = True
    walked = await statuses(application(name, there), {"Authorization": f"Bearer {there.token()}"})
    assert set(walked.values()) == {503}, walked
