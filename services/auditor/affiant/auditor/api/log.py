"""The log for everybody's tools: C2SP tlog-tiles at the root, and what an export needs beside it."""

from __future__ import annotations

import asyncio
import gzip
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from affiant.auditor.actions.cosign import Cosigners
from affiant.auditor.actions.prove import Prover
from affiant.auditor.actions.publish import Shelf
from affiant.auditor.actions.reads import Reads
from affiant.auditor.domain import views
from affiant.common.auth import ROLES, Person, needs

IMMUTABLE = "private, max-age=31536000, immutable"
"""Private: what lies behind a token is for no shared cache."""
MUTABLE = "no-cache"
BYTES = "application/octet-stream"
MOST = 2**62
Auditor = Annotated[Person, Depends(needs("auditor"))]


class CosignatureBody(BaseModel):
    """One line of a signed note (C2SP tlog-cosignature) under the checkpoint over `size` entries, and whose it is."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=1)]
    line: Annotated[str, Field(max_length=1_000)]
    verifier_key: Annotated[str, Field(max_length=500)]


def make_log_api(shelf: Shelf, prover: Prover, reads: Reads, cosigners: Cosigners) -> APIRouter:
    """The resources of tlog-tiles for whoever has any role; payloads for auditors."""
    api = APIRouter(dependencies=[Depends(needs(*ROLES))])

    @api.get("/checkpoint", response_class=PlainTextResponse)
    async def checkpoint(cosigned: bool = False) -> Response:
        """The newest checkpoint: a C2SP signed note, with its cosignatures; the newest cosigned one where asked for."""
        return PlainTextResponse(await prover.checkpoint(cosigned=cosigned), headers={"Cache-Control": MUTABLE})

    @api.post("/v1/cosignatures", status_code=201)
    async def cosign(body: CosignatureBody) -> views.Cosigned:
        """Bring a cosignature of a checkpoint; whoever has any role may. It is kept if it is what it says."""
        return await cosigners.take(body.size, body.line, body.verifier_key)

    @api.get("/tile/entries/{path:path}", response_class=Response)
    async def leaves(path: str, accept_encoding: Annotated[str, Header()] = "gzip") -> Response:
        """A bundle of leaves."""
        bundle, whole = await shelf.leaves(path)
        headers = {"Cache-Control": IMMUTABLE if whole else MUTABLE, "Vary": "Accept-Encoding"}
        if "gzip" in accept_encoding:
            bundle = await asyncio.to_thread(gzip.compress, bundle, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return Response(bundle, media_type=BYTES, headers=headers)

    @api.get("/tile/{level}/{path:path}", response_class=Response)
    async def tile(level: int, path: str) -> Response:
        """The hashes of a tile."""
        return Response(await shelf.tile(level, path), media_type=BYTES, headers={"Cache-Control": IMMUTABLE})

    @api.get("/entries/{index}", dependencies=[Depends(needs("auditor"))])
    async def entry(index: int, size: Annotated[int, Query(ge=1)]) -> views.EntryProof:
        """One entry with its proof in the log of `size` entries."""
        return await prover.entry(index, size)

    @api.get("/payload/{path:path}", response_class=Response)
    async def payloads(
        path: str, person: Auditor, low: Annotated[int, Query(ge=0)] = 0, high: Annotated[int, Query(ge=0)] = MOST
    ) -> Response:
        """A bundle of payloads; those outside of `low` to below `high` are withheld."""
        bundle, first, last = await shelf.payloads(path, low, high)
        if first < last:
            reads.note(person.name, "export", first=first, last=last)
        return Response(bundle, media_type=BYTES, headers={"Cache-Control": "no-store"})

    return api
