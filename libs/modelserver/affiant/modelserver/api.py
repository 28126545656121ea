"""The door: a bare ASGI callable that routes, reads bodies and writes JSON. No framework stands on the way.

Routes are exact paths, looked up in a table. Errors are `{"error": "<text>"}`, on unknown routes too.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from affiant.common.errors import Problem
from affiant.common.events import ModelSpec
from affiant.modelserver import protocol
from affiant.modelserver.inference import Answer, Call, Inference

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 16 * 1024**2
"""A record holds at most 1 MB; JSON with many blanks or a gzip body may be larger."""

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_CLOSE = (b"connection", b"close")
_RETRY = (b"retry-after", b"1")
_CHALLENGE = (b"www-authenticate", b"Bearer")
_encode = msgspec.json.Encoder().encode

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready", "/metrics"})
"""What an orchestrator and a scraper ask; nothing of a request or of the model is in it."""

Route = Callable[[], Answer]


class Door:
    """The ASGI application. While `draining`, each answer asks the client to close its connection.

    With `tokens` (as `token_hash` gives them), everything but `OPEN_PATHS` needs one of them.
    """

    def __init__(
        self,
        spec: ModelSpec,
        inference: Inference,
        not_ready: Callable[[], str],
        metrics: Callable[[], bytes],
        tokens: frozenset[bytes] = frozenset(),
    ) -> None:
        self._tokens = tokens
        self._inference = inference
        self._not_ready = not_ready
        self._metrics = metrics
        self._spec = spec
        self.draining = False
        bases = [f"/v2/models/{spec.model}", f"/v2/models/{spec.model}/versions/{spec.version}"]
        self._infer = frozenset(f"{base}/infer" for base in bases)
        self._routes = self._make_routes(bases)
        self._paths = frozenset(path for _, path in self._routes) | self._infer

    def _make_routes(self, bases: list[str]) -> dict[tuple[str, str], Route]:
        spec = self._spec
        routes: dict[tuple[str, str], Route] = {
            ("GET", "/v2"): _fixed(protocol.SERVER),
            ("GET", "/v2/health/live"): _fixed({"live": True}),
            ("GET", "/v2/health/ready"): self._ready,
            ("POST", "/v2/repository/index"): _fixed(
                [{"name": spec.model, "version": str(spec.version), "state": "READY", "reason": ""}]
            ),
        }
        for base in bases:
            routes["GET", base] = _fixed(protocol.model_metadata(spec))
            routes["GET", f"{base}/ready"] = self._model_ready
            routes["GET", f"{base}/config"] = _fixed(protocol.model_config(spec))
            routes["GET", f"{base}/stats"] = self._stats
        return routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        path, method = scope["path"], scope["method"]
        if self._tokens and path not in OPEN_PATHS and not self._knows(scope):
            refusal = _answer(401, {"error": "this needs a token: send `Authorization: Bearer <token>`"})
            await self._send(send, refusal.status, _JSON, refusal.body)
        elif path in self._infer and method == "POST":
            answer = await self._inference.answer(await _call(scope, receive))
            await self._send(send, answer.status, _JSON, answer.body)
        elif path == "/metrics" and method == "GET":
            await self._send(send, 200, _TEXT, self._metrics())
        else:
            answer = self._look_up(method, path)
            await self._send(send, answer.status, _JSON, answer.body)

    def _knows(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        return kind.lower() == b"bearer" and token_hash(token.strip()) in self._tokens

    def _look_up(self, method: str, path: str) -> Answer:
        route = self._routes.get((method, path))
        if route is not None:
            return route()
        if path in self._paths:
            return _answer(405, {"error": f"{path} does not take {method}"})
        spec = self._spec
        return _answer(404, {"error": f"nothing is at {path}; this server has {spec.model} version {spec.version}"})

    def _ready(self) -> Answer:
        reason = self._not_ready()
        return _answer(503, {"ready": False, "reason": reason}) if reason else _answer(200, {"ready": True})

    def _model_ready(self) -> Answer:
        answer = {"name": self._spec.model, "ready": not self._not_ready()}
        return _answer(200 if answer["ready"] else 503, answer)

    def _stats(self) -> Answer:
        spec = self._spec
        stats = {"name": spec.model, "version": str(spec.version), "inference_count": self._inference.requests}
        return _answer(200, {"model_stats": [stats]})

    async def _send(self, send: Send, status: int, kind: tuple[bytes, bytes], body: bytes) -> None:
        headers = [kind, (b"content-length", b"%d" % len(body))]
        if self.draining:
            headers.append(_CLOSE)
        if status == 503:
            headers.append(_RETRY)
        elif status == 401:
            headers.append(_CHALLENGE)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def token_hash(token: bytes) -> bytes:
    """By what a token is looked up: the time that takes tells nothing about the token itself."""
    return hashlib.sha256(token).digest()


def _answer(status: int, document: object) -> Answer:
    return Answer(status, _encode(document))


def _fixed(document: object) -> Route:
    answer = _answer(200, document)
    return lambda: answer


async def _call(scope: Scope, receive: Receive) -> Call:
    """The request to infer. What is wrong with it travels in it: it must be numbered all the same."""
    encoding = traceparent = b""
    binary = False
    for name, value in scope["headers"]:
        if name == b"traceparent":
            traceparent = value
        elif name == b"content-encoding":
            encoding = value
        elif name == b"inference-header-content-length":
            binary = True
    trace = traceparent.decode("latin-1")
    try:
        body = await _body(receive)
        if binary:
            raise Problem("binary tensors are not taken here; send JSON tensors (tritonclient: binary_data=False)")
        return Call(_unpacked(body, encoding), trace)
    except Problem as problem:
        return Call(b"", trace, problem)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            parts.clear()  # read on to the end, so that the client hears why, but keep nothing
    if size > MAX_BODY_BYTES:
        raise Problem(f"the body has {size} bytes; at most {MAX_BODY_BYTES} are taken", status=413)
    return b"".join(parts)


def _unpacked(body: bytes, encoding: bytes) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise Problem(f"content-encoding {encoding.decode('latin-1')!r} is not taken; gzip and deflate are", status=415)
    # 15: the largest window; +32: zlib finds out by itself whether there is a gzip or a zlib header.
    unpacker = zlib.decompressobj(15 + 32)
    try:
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise Problem(f"the body is not {encoding.decode()}: {error}") from error
    if unpacker.unconsumed_tail:
        raise Problem(f"the body unpacks to more than {MAX_BODY_BYTES} bytes", status=413)
    return unpacked
