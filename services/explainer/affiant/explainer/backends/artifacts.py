"""Model files and backgrounds: fetched from the registry once, verified, kept on disk by digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import structlog

from affiant.common.errors import NotFound, Problem, Unavailable
from affiant.common.events import ModelSpec

log = structlog.get_logger(__name__)

_DIGEST = re.compile(r"^sha256:([0-9a-f]{64})$")


@dataclass(frozen=True)
class Files:
    """A version's files on this machine."""

    model: Path
    background: Path


class ArtifactSource(Protocol):
    """Where the files of a version come from."""

    async def files(self, spec: ModelSpec) -> Files:
        """The version's files on this machine. Raises `Unavailable` to be tried again, another `Problem` for good."""
        ...


class RegistryArtifacts:
    """Artifacts of the registry's HTTP API (`GET /v1/artifacts/{digest}`), cached in `folder`."""

    def __init__(self, http: httpx.AsyncClient, folder: Path) -> None:
        """`http` has the registry as its base URL and shows this service's token."""
        self._http = http
        self._folder = folder
        self._fetching: dict[str, asyncio.Lock] = {}

    async def files(self, spec: ModelSpec) -> Files:
        """See `ArtifactSource`."""
        if spec.background_digest is None:
            raise Problem(f"{spec.model} version {spec.version} was registered without a background")
        return Files(await self._path(spec.digest), await self._path(spec.background_digest))

    async def _path(self, digest: str) -> Path:
        found = _DIGEST.match(digest)
        if found is None:
            raise Problem(f"{digest!r} is not a digest: it cannot be asked for")
        path = self._folder / found[1]
        async with self._fetching.setdefault(digest, asyncio.Lock()):
            if not await asyncio.to_thread(_intact, path, digest):
                data = await self._fetch(digest)
                await asyncio.to_thread(_keep, path, data)
        return path

    async def _fetch(self, digest: str) -> bytes:
        try:
            answer = await self._http.get(f"/v1/artifacts/{digest}")
        except httpx.HTTPError as error:
            raise Unavailable(f"the registry cannot be reached: {error!r}") from error
        if answer.status_code == 404:
            raise NotFound(f"the registry has no artifact {digest}")
        if answer.status_code != 200:
            raise Unavailable(f"the registry answered {answer.status_code} for artifact {digest}")
        if _digest(answer.content) != digest:
            raise Problem(f"the registry's artifact {digest} has the digest {_digest(answer.content)}")
        log.info("artifact fetched", digest=digest, bytes=len(answer.content))
        return answer.content


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _intact(path: Path, digest: str) -> bool:
    return path.exists() and _digest(path.read_bytes()) == digest


def _keep(path: Path, data: bytes) -> None:
    """Write beside and rename: a crash leaves no half a file under the digest's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_bytes(data)
    beside.replace(path)
