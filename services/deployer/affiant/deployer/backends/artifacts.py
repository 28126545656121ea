"""Model files from the registry, kept by their digest. No file is handed out whose bytes were not hashed just now."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import defaultdict
from pathlib import Path

import httpx
import structlog

from affiant.common.errors import Problem, Unavailable
from affiant.common.settings import read_secret

log = structlog.get_logger(__name__)

_DIGEST = re.compile(r"^sha256:([0-9a-f]{64})$")


class WrongDigest(Problem):
    """The registry has other bytes than those that were registered: trying again will not help."""


class Artifacts:
    """A folder of files named by digest, filled from the registry's `GET /v1/artifacts/{digest}`."""

    def __init__(self, folder: Path, registry_url: str, token_file: str) -> None:
        self._folder = folder
        self._registry_url = registry_url.rstrip("/")
        self._token_file = token_file
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def fetch(self, digest: str, size_bytes: int) -> Path:
        """The file with this digest, downloaded where it is not here yet.

        Raises `WrongDigest` where the registry's bytes are others, `Unavailable` where it cannot be asked now.
        """
        found = _DIGEST.match(digest)
        if not found:
            raise WrongDigest(f"{digest!r} is not a digest (sha256:<64 hex digits>)")
        path = self._folder / found[1]
        async with self._locks[digest]:
            if await asyncio.to_thread(_is_intact, path, found[1]):
                return path
            await self._download(digest, size_bytes, path)
        return path

    async def _download(self, digest: str, size_bytes: int, path: Path) -> None:
        partial = path.with_suffix(".partial")
        try:
            actual = await self._receive(f"{self._registry_url}/v1/artifacts/{digest}", size_bytes, partial)
            if actual != digest:
                raise WrongDigest(f"the registry's file has the digest {actual}, but {digest} was registered")
            partial.chmod(0o400)
            partial.replace(path)
        except httpx.HTTPError as error:
            raise Unavailable(f"cannot fetch {digest} from the registry: {error or type(error).__name__}") from error
        finally:
            partial.unlink(missing_ok=True)
        log.info("model fetched", digest=digest, bytes=size_bytes)

    async def _receive(self, url: str, size_bytes: int, partial: Path) -> str:
        token = read_secret(self._token_file)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        hashed, received = hashlib.sha256(), 0
        async with (
            httpx.AsyncClient(timeout=30, headers=headers, trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            await _raise_for_status(response)
            with partial.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    received += len(chunk)
                    if received > size_bytes:
                        raise WrongDigest(f"the registry's file is larger than the {size_bytes} registered bytes")
                    hashed.update(chunk)
                    file.write(chunk)
        return f"sha256:{hashed.hexdigest()}"


async def _raise_for_status(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.OK:
        return
    await response.aread()
    hint = "is service_token_file right?" if response.status_code in (401, 403) else ""
    raise Unavailable(
        f"the registry answered {response.status_code} for the model file: {response.text[:200]}", hint=hint
    )


def _is_intact(path: Path, hexdigest: str) -> bool:
    """Whether the file is there and still what it was; one that was altered is removed."""
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == hexdigest:
                return True
    except FileNotFoundError:
        return False
    log.error("a kept model file was altered; fetching it again", file=path.name)
    path.unlink()
    return False
