"""`/sinks/kserve`, `/v1/events`: what other systems send by HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from affiant.auditor.actions.sink import Sink, told
from affiant.auditor.domain.kserve import MOST_BYTES
from affiant.common.auth import needs
from affiant.common.errors import Problem

SENDERS = ("service", "operator")


def make_sinks(sink: Sink) -> APIRouter:
    """The routes, for services. KServe's logger can only say who it is in its URL: `http://kserve:TOKEN@host/…`."""
    api = APIRouter(dependencies=[Depends(needs(*SENDERS))])

    @api.post("/sinks/kserve", response_class=PlainTextResponse)
    async def kserve(request: Request) -> str:
        """One half of a request, as a CloudEvent in binary mode. The logger takes all but 200 for an error."""
        await sink.take(dict(request.headers), await _body(request))
        return "kept\n"

    @api.post("/v1/events", status_code=202)
    async def events(request: Request) -> dict[str, object]:
        """CloudEvents about predictions that were made elsewhere, structured, batched or in binary mode."""
        return told(await sink.accept(dict(request.headers), await _body(request)))

    return api


async def _body(request: Request) -> bytes:
    """What was sent, as far as it is not larger than is taken. Raises `Problem` (413)."""
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > MOST_BYTES:
            raise Problem(f"at most {MOST_BYTES} bytes are taken at once", status=413, hint="send fewer events at once")
    return bytes(found)
