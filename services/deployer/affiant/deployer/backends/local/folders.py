"""Where the local back end keeps what; private to its user."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from affiant.common.errors import Problem
from affiant.deployer.domain.situation import Slot

SOCKET_PATH_BYTES = 103
"""`sun_path` holds 108 bytes on Linux and 104 on macOS, the closing zero included."""
LONGEST_SOCKET_NAME = len("/0123456789ab.sock")
KEPT_SERVERS = 20


@dataclass(frozen=True)
class Folders:
    """`artifacts/`: model files. `servers/`: one folder for each server. `records/`: what servers must not lose
    (their write-ahead files), one folder for each slot. `run`: control sockets, under a path that is short enough.
    """

    root: Path
    run: Path

    def make(self) -> None:
        """Make the folders that are missing, with mode 0700. Raises `Problem` where `run` is not ours alone."""
        for folder in (self.root, self.artifacts, self.servers, self.root / "records"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(self.run)

    @property
    def artifacts(self) -> Path:
        """Model files, by digest."""
        return self.root / "artifacts"

    @property
    def servers(self) -> Path:
        """One folder for each server."""
        return self.root / "servers"

    def records(self, slot: Slot) -> Path:
        """What the slot's servers keep; shared by all of them, so that one may publish what another left behind."""
        return self.root / "records" / f"{slot.model}.{slot.alias}"

    def control_socket(self, token: str) -> Path:
        """Where the server of this token listens to the deployer."""
        return self.run / f"{token}.sock"

    def prune(self, running: set[Path]) -> None:
        """Remove what servers that ended left, but for the latest: their logs tell what happened."""
        ended = [folder for folder in self.servers.iterdir() if folder not in running]
        ended.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in ended[KEPT_SERVERS:]:
            shutil.rmtree(folder, ignore_errors=True)
            self.control_socket(folder.name).unlink(missing_ok=True)


def folders_below(data_dir: Path) -> Folders:
    """The folders of a back end that keeps its things in `data_dir`; `make` makes them."""
    root = data_dir.resolve()
    return Folders(root, _run_folder(root))


def _run_folder(root: Path) -> Path:
    name = f"affiant-{os.getuid()}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    for folder in (root / "run", Path(tempfile.gettempdir()) / name):
        if len(os.fsencode(folder)) + LONGEST_SOCKET_NAME <= SOCKET_PATH_BYTES:
            return folder
    return Path("/tmp") / name  # noqa: S108 # owner and mode are checked before it is used


def _make_private(folder: Path) -> None:
    """`folder`, ours alone. Below a shared temp folder anybody may have made it before us."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise Problem(f"{folder} is not a private folder of this user", hint="remove it, or set another data_dir")
