"""Child processes: started so that they end with us, known again by pid and start time, ended in two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Plan:
    """How to start one process; its output is added to `log_file`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path


@dataclass(frozen=True)
class Identity:
    """One process for all time: pids come again, pid and start time together do not."""

    pid: int
    started: str


def start(plan: Plan) -> subprocess.Popen[bytes]:
    """Start it as a child that ends when the calling *thread* ends (Linux), in a session of its own.

    The session of its own keeps a terminal's Ctrl-C from it: who stops first is decided by us.
    """
    guarded = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *plan.command]
    plan.log_file.parent.mkdir(parents=True, exist_ok=True)
    with plan.log_file.open("ab") as log:
        return subprocess.Popen(
            guarded,
            env=dict(plan.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; `None` where there is none (or only a zombie)."""
    started = _started_linux(pid) if sys.platform == "linux" else _started_elsewhere(pid)
    return Identity(pid, started) if started else None


def alive(identity: Identity) -> bool:
    """Whether that very process still runs."""
    return identify(identity.pid) == identity


def end(identity: Identity, *, grace_seconds: float) -> bool:
    """SIGTERM, then SIGKILL after `grace_seconds`. True when it ended by itself. Touches no other process."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        if not alive(identity):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        if _gone_within(identity, patience):
            return number is signal.SIGTERM
    return False


def with_argument_below(folder: Path, word: str) -> list[Identity]:
    """Processes whose command line has `word` in it and a path below `folder`."""
    found = [identify(pid) for pid, command in _commands() if word in command and f"{folder}{os.sep}" in command]
    return [identity for identity in found if identity is not None]


def last_lines(file: Path, count: int = 6, since: int = 0) -> str:
    """The end of a log, for an error message; nothing of what was in it before the byte `since`."""
    if not file.exists():
        return ""
    with file.open("rb") as log:
        log.seek(max(since, file.stat().st_size - 8_000))
        lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-count:])


def _commands() -> Iterator[tuple[int, str]]:
    """Every process's pid and command line."""
    if sys.platform == "linux":
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it ended, or is somebody else's
                yield int(file.parent.name), file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return
    listed = subprocess.run(["/bin/ps", "-axo", "pid=,args="], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), command


def _gone_within(identity: Identity, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not alive(identity):
            return True
        time.sleep(0.05)
    return not alive(identity)


def _started_linux(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in brackets may hold spaces; what follows it does not: state is field 3, starttime field 22.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def _started_elsewhere(pid: int) -> str:
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
