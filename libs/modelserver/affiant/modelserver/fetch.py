"""`python -m affiant.modelserver.fetch <url> <digest> <bytes> <file> [<token file>]`: brings a model into a pod.

For clusters that cannot mount an image, and versions that have none: an init container runs this. The file appears
under its name only when its SHA-256 is the one that was registered.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import httpx
import structlog

from affiant.common import logs
from affiant.common.errors import Problem
from affiant.common.settings import read_secret

log = structlog.get_logger(__name__)

ATTEMPTS = 5
_FOREVER_WRONG = 2


def main(arguments: list[str]) -> int:
    """Fetch one file. Exit codes: 0; 1 when the registry cannot be asked now; 2 for what will never work."""
    logs.configure("modelserver")
    if len(arguments) not in (4, 5):
        log.error("usage: python -m affiant.modelserver.fetch <url> <digest> <bytes> <file> [<token file>]")
        return _FOREVER_WRONG
    url, digest, size, file = arguments[:4]
    try:
        token = read_secret(arguments[4]) if len(arguments) == 5 else ""
        return _fetch_in_the_end(url, digest, int(size), Path(file), token)
    except Problem as problem:
        log.error("the model was refused", reason=problem.message)  # noqa: TRY400 # the reason is the whole story
        return _FOREVER_WRONG


def _fetch_in_the_end(url: str, digest: str, size_bytes: int, file: Path, token: str) -> int:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fetch(url, digest, size_bytes, file, token)
        except httpx.HTTPError as error:
            log.warning("the model cannot be fetched", url=url, reason=str(error) or repr(error), attempt=attempt)
            time.sleep(min(2.0**attempt / 4, 8.0))
        else:
            log.info("model fetched", digest=digest, file=str(file))
            return 0
    return 1


def fetch(url: str, digest: str, size_bytes: int, file: Path, token: str = "") -> None:
    """Download `url` to `file`. Raises `Problem` where the bytes are others, `httpx.HTTPError` where it cannot now."""
    partial = file.with_suffix(".partial")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    hashed, received = hashlib.sha256(), 0
    with (
        httpx.Client(headers=headers, timeout=30, trust_env=False) as http,
        http.stream("GET", url) as response,
        partial.open("wb") as target,
    ):
        response.raise_for_status()
        for chunk in response.iter_bytes():
            received += len(chunk)
            if received > size_bytes:
                raise Problem(f"the registry's file is larger than the {size_bytes} registered bytes")
            hashed.update(chunk)
            target.write(chunk)
    if f"sha256:{hashed.hexdigest()}" != digest:
        raise Problem(f"the registry's file has the digest sha256:{hashed.hexdigest()}, but {digest} was registered")
    partial.replace(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
