"""Checkpoints in an object store: each under its size, the newest under `checkpoint` too; by HTTP PUT.

With the keys of an S3-compatible store in `witness_s3_key_file` (`access:secret`) requests are signed by AWS Signature
Version 4; with a token in `witness_token_file` they carry it as a bearer; otherwise nothing. A store that keeps what
was written (object lock) is a witness even against its owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import httpx

from affiant.auditor.actions.witness import NEWEST
from affiant.auditor.domain.sigv4 import Credentials, signed_headers
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store.checkpoints import Signed
from affiant.common.errors import Problem
from affiant.common.settings import read_secret

SECONDS = 20.0
TYPE = "text/plain; charset=utf-8"


class Bucket:
    """Writes checkpoints below `witness_url`."""

    def __init__(self, settings: AuditorSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = settings.witness_url.rstrip("/")
        self._token = read_secret(settings.witness_token_file)
        self._keys = _keys(settings)
        self._http = httpx.AsyncClient(timeout=SECONDS, transport=transport)

    async def append(self, signed: Sequence[Signed]) -> None:
        """Add checkpoints, oldest first; kept by the store when this returns. Raises `httpx.HTTPError`."""
        for one in signed:
            await self._put(f"{one.size}", one.note)
        if signed:
            await self._put(NEWEST, signed[-1].note)

    async def _put(self, name: str, note: str) -> None:
        url, body = f"{self.url}/{name}", note.encode()
        headers = {"content-type": TYPE}
        if self._keys is not None:
            headers = signed_headers("PUT", url, body, self._keys, datetime.now(UTC), headers)
        elif self._token:
            headers["authorization"] = f"Bearer {self._token}"
        answer = await self._http.put(url, content=body, headers=headers)
        answer.raise_for_status()


def _keys(settings: AuditorSettings) -> Credentials | None:
    secret = read_secret(settings.witness_s3_key_file)
    if not secret:
        return None
    access, colon, key = secret.partition(":")
    if not (access and colon and key):
        raise Problem(f"{settings.witness_s3_key_file} must hold <access key>:<secret key>", status=500)
    return Credentials(access, key, settings.witness_s3_region)
