"""The HTTP door that all services share: probes, metrics, authentication, and errors that say what to do next."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affiant.common import auth
from affiant.common.errors import Problem
from affiant.common.service import Service

log = structlog.get_logger(__name__)

Problems = Callable[[], Awaitable[list[str]]]


def make_app(
    service: Service,
    problems: Problems,
    started: Callable[[], bool],
    people: auth.People,
    issuer: auth.Tokens | None = None,
) -> ASGIApp:
    """The whole application of a service. `auth.Guard` is outermost: no route can be outside of it."""
    app = FastAPI(
        title=f"Affiant {service.name}",
        version="1",
        # The interactive pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(service.api)
    _add_probes(app, problems, service.state)
    _add_errors(app)
    return auth.Guard(_Gate(_Bound(app), started), people, issuer)


class _Gate:
    """Answers 503 for everything but the probes until the service has opened what it keeps."""

    def __init__(self, app: ASGIApp, started: Callable[[], bool]) -> None:
        self.app = app
        self.started = started

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in auth.OPEN_PATHS and not self.started():
            response = _error("this service is starting", "try again in a moment; /readyz says what it waits for", 503)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


class _Bound:
    """Names the limit where a body was too large: the framework answers that itself, with three words of plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def told(message: Message) -> None:
            nonlocal replaced
            limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
            if message["type"] == "http.response.start" and message["status"] == 413 and limit is not None:
                replaced = True
                error = (
                    f"what was sent is too large: at most {limit / 1024**2:g} MiB are taken here, all files together"
                )
                await _error(error, "ask an operator for a higher limit", 413)(scope, receive, send)
            elif not replaced:
                await send(message)

        await self.app(scope, receive, told)


def _add_probes(app: FastAPI, problems: Problems, state: Callable[[], dict[str, str]]) -> None:
    @app.get("/livez", include_in_schema=False)
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        reasons = await problems()
        content = {"ready": not reasons, "reasons": reasons, **state()}
        return JSONResponse(content, status_code=503 if reasons else 200)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return _error(error.message, error.hint, error.status, error.details)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        hint = f"there is no {request.method} {request.url.path}; see /openapi.json" if error.status_code == 404 else ""
        return _error(str(error.detail), hint, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        return _error("the request is malformed: " + "; ".join(faults), "see /openapi.json", 422)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", path=request.url.path, method=request.method, exc_info=error)
        return _error("something went wrong inside", "the service's log has the details", 500)


def _error(message: str, hint: str, status: int, details: dict[str, Any] | None = None) -> JSONResponse:
    content = {"error": message, **({"hint": hint} if hint else {}), **(details or {})}
    return JSONResponse(json.loads(json.dumps(content, default=str)), status_code=status)
