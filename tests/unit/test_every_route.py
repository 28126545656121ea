"""One choke point for authentication: every route of every service, walked."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from affiant.common import auth, bus, service as services
from affiant.common.http import make_app


async def no_problems() -> list[str]:
    return []


def application(name: str) -> auth.Guard:
    app = make_app(services.find(name)(), no_problems, lambda: True, auth.People([]))
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


@pytest.mark.parametrize("name", bus.SERVICES)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic YTpi"}])
async def test_no_route_of_a_service_answers_somebody_unknown(
    name: str, headers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AFFIANT_{name.upper()}_DATA_DIR", str(tmp_path))
    guard = application(name)
    walked = doors(guard)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=guard), base_url="http://service") as http:
        statuses = {door: (await http.request(*door, headers=headers)).status_code for door in walked}
    assert set(statuses.values()) == {401}, statuses
    assert len(walked) > 2
