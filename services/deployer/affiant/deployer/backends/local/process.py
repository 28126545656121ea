"""One model server process: started so that it outlives the deployer, and found again by a later one.

Whether it lives is told by a lock that it inherits and that the kernel gives back when it ends: unlike a process
id, that cannot come to mean another process. It also works for a process that is not our child.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from affiant.common.serving import ServerConfig, read_config

LOG_LINES = 12
LOG_BYTES = 8_192


@dataclass
class Process:
    """A model server and its folder. `child` is there only where this deployer started it."""

    folder: Path
    config: ServerConfig
    pid: int
    started_at: float
    child: subprocess.Popen[bytes] | None = None

    def runs(self) -> bool:
        """Whether it has not ended. Collects its exit status where it is our child."""
        if self.child is not None:
            return self.child.poll() is None
        return _is_locked(self.folder / "lock")

    def ending(self) -> str:
        """How it ended, in words."""
        code = None if self.child is None else self.child.poll()
        if code is None:
            return "the model server ended"
        if code < 0:
            return f"the model server was ended by {signal.Signals(-code).name}"
        return f"the model server ended with exit code {code}"

    async def ended(self, timeout: float) -> bool:
        """Wait until it ended, for at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.runs():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def clear_away(self) -> None:
        """Remove what it leaves behind outside its folder."""
        Path(self.config.control_socket).unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.pid and self.runs():
            os.kill(self.pid, number)

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        with (self.folder / "server.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-LOG_LINES:])

    def let_go(self) -> None:
        """Stop watching a child that goes on after us."""
        if self.child is not None and self.child.poll() is None:
            # Else Popen warns, when it is collected, that its child still runs: that is what is meant here.
            self.child.returncode = 0


def spawn(
    command: Sequence[str],
    folder: Path,
    config: ServerConfig,
    *,
    listen_fd: int,
    environ: Mapping[str, str],
    started_at: float,
) -> Process:
    """Start a model server in `folder` (which is there), in a session of its own.

    No parent-death signal: it is to go on when the deployer ends. Raises `OSError` where it cannot be started.
    """
    write_private(folder / "config.json", msgspec.json.encode(config))
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (folder / "server.log").open("ab") as output:
            child = subprocess.Popen(
                [*command, str(folder / "config.json")],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(listen_fd, lock),
                start_new_session=True,
            )
    finally:
        # The copy that the child inherited holds the lock from here on.
        os.close(lock)
    write_private(folder / "pid", str(child.pid).encode())
    return Process(folder, config, child.pid, started_at, child)


def find(folder: Path) -> Process | None:
    """The server that runs in `folder`, started by an earlier deployer; `None` where it ended.

    Raises `msgspec.ValidationError` where its configuration cannot be read.
    """
    if not _is_locked(folder / "lock"):
        return None
    config = read_config((folder / "config.json").read_bytes())
    return Process(folder, config, _pid(folder), (folder / "config.json").stat().st_mtime)


def _pid(folder: Path) -> int:
    # Missing where the earlier deployer was killed in between; then the server tells its pid when it is asked.
    path = folder / "pid"
    return int(path.read_text()) if path.exists() else 0


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)
