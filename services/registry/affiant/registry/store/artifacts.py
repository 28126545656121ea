"""Files by the SHA-256 of their bytes: `artifacts/sha256/ab/ab12…`. What is there is whole, and never changes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from affiant.common.errors import NotFound, Problem
from affiant.common.ids import uuid7

DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
CHUNK = 1024 * 1024
LEFT_OVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Incoming:
    """A file that was received whole, but is not kept yet."""

    path: Path
    digest: str
    size: int


class Artifacts:
    """Every method blocks on the disk: call from a thread."""

    def __init__(self, data_dir: Path) -> None:
        self.kept = data_dir / "artifacts" / "sha256"
        self.incoming = data_dir / "artifacts" / "incoming"

    def open(self, now: float) -> None:
        """Make the folders; remove what an earlier process received and never kept. `now`: seconds since 1970."""
        self.kept.mkdir(parents=True, exist_ok=True)
        self.incoming.mkdir(parents=True, exist_ok=True)
        for left_over in self.incoming.iterdir():
            # Another registry may share the folder and be receiving right now.
            if left_over.stat().st_mtime < now - LEFT_OVER_SECONDS:
                left_over.unlink(missing_ok=True)

    def receive(self, source: BinaryIO) -> Incoming:
        """Write `source` into a temporary file, on the disk when this returns."""
        path = self.incoming / uuid7()
        digest = hashlib.sha256()
        size = 0
        with path.open("xb") as file:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return Incoming(path, f"sha256:{digest.hexdigest()}", size)

    def keep(self, file: Incoming) -> None:
        """Give the file its name. The same bytes again are the same file."""
        target = self._path(file.digest)
        target.parent.mkdir(exist_ok=True)
        file.path.chmod(0o444)
        file.path.replace(target)
        for folder in (target.parent, self.kept):
            _sync(folder)

    def discard(self, *files: Incoming | None) -> None:
        """Remove what was received; no error when it was kept."""
        for file in files:
            if file is not None:
                file.path.unlink(missing_ok=True)

    def find(self, digest: str) -> Path:
        """The file with this digest. Raises `Problem` for a malformed digest, `NotFound` for an unknown one."""
        path = self._path(digest)
        if not path.exists():
            raise NotFound(f"there is no artifact {digest}", hint="Digests stand in the views of model versions.")
        return path

    def _path(self, digest: str) -> Path:
        match = DIGEST.fullmatch(digest)
        if match is None:
            raise Problem(f"{digest[:80]!r} is no digest", status=422, hint="A digest is sha256: and 64 hex digits.")
        return self.kept / match[1][:2] / match[1]


def _sync(folder: Path) -> None:
    """A new name is durable only when its folder is written too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
