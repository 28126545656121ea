"""Keeps processes running: one thread that starts them, sees them end, and starts them again after a pause.

Everything happens in that thread, because a child ends with the *thread* that started it (see `guard`), and
because then nothing needs a lock.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

from affiant.cli.processes import Plan, start
from affiant.common.errors import NotFound, Problem

T = TypeVar("T")
Say = Callable[[str], None]
State = Literal["running", "waiting", "stopped"]

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A process that ran this long is forgiven its earlier crashes."""


def pause_before(restart: int) -> float:
    """Seconds to wait before the `restart`-th start in a row: doubles, so that a broken service burns no CPU."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** (restart - 1), LONGEST_PAUSE_SECONDS))


@dataclass
class _Kept:
    plan: Plan
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    started_at: float = 0.0
    next_start: float = 0.0
    restarts: int = 0
    crashes_in_a_row: int = 0


@dataclass(frozen=True)
class Status:
    """How one process is at this moment."""

    name: str
    state: State
    pid: int | None
    restarts: int


class Supervisor:
    """`say` is told in words what happens; it is called in the supervisor's thread."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._kept: dict[str, _Kept] = {}
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def launch(self, plan: Plan) -> None:
        """Start a process and keep it running."""
        self._ask(lambda: self._launch(plan))

    def kill(self, name: str) -> None:
        """SIGKILL, and leave it dead until `restart`."""
        self._ask(lambda: self._let_go(name, signal.SIGKILL))
        self._await_end(name, 10.0)

    def stop(self, name: str, grace_seconds: float) -> bool:
        """SIGTERM, then SIGKILL after `grace_seconds`; stays stopped. True when it ended by itself."""
        self._ask(lambda: self._let_go(name, signal.SIGTERM))
        if self._await_end(name, grace_seconds):
            return True
        self._say(f"{name} did not stop within {grace_seconds:.0f} s: killing it")
        self.kill(name)
        return False

    def restart(self, name: str) -> None:
        """Start a process again that was killed or stopped."""
        self._ask(lambda: self._launch(self._find(name).plan))

    def status(self, name: str) -> Status:
        """How `name` is. Raises `NotFound` for a name that was never launched."""
        return self._ask(lambda: self._status(self._find(name)))

    def close(self) -> None:
        """End the thread, and with it whatever still runs."""
        self._ending.set()
        self._thread.join(timeout=15)

    def _ask(self, order: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            raise Problem("the system has been stopped")
        answer: Future[T] = Future()

        def carry_out() -> None:
            try:
                answer.set_result(order())
            except BaseException as error:
                answer.set_exception(error)

        self._orders.put(carry_out)
        return answer.result(timeout=30)

    def _run(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(queue.Empty):
                self._orders.get(timeout=0.1)()
            for kept in self._kept.values():
                self._look_after(kept)
        for kept in self._kept.values():
            if kept.process is not None and kept.process.poll() is None:
                kept.process.kill()
                kept.process.wait()

    def _look_after(self, kept: _Kept) -> None:
        if kept.process is not None and kept.process.poll() is not None:
            self._ended(kept, kept.process.returncode)
        if kept.wanted and kept.process is None and time.monotonic() >= kept.next_start:
            self._start(kept)

    def _ended(self, kept: _Kept, code: int) -> None:
        kept.process = None
        if not kept.wanted:
            return
        steady = time.monotonic() - kept.started_at > STEADY_SECONDS
        kept.crashes_in_a_row = 1 if steady else kept.crashes_in_a_row + 1
        pause = pause_before(kept.crashes_in_a_row)
        kept.next_start = time.monotonic() + pause
        self._say(f"{kept.plan.name} ended ({_how(code)}); starting it again in {pause:g} s. Log: {kept.plan.log_file}")

    def _start(self, kept: _Kept) -> None:
        kept.restarts += kept.started_at > 0
        kept.started_at = time.monotonic()
        kept.process = start(kept.plan)

    def _launch(self, plan: Plan) -> None:
        kept = self._kept.setdefault(plan.name, _Kept(plan))
        kept.plan, kept.wanted = plan, True
        kept.next_start, kept.crashes_in_a_row = 0.0, 0
        if kept.process is None:
            self._start(kept)

    def _let_go(self, name: str, number: signal.Signals) -> None:
        kept = self._find(name)
        kept.wanted = False
        if kept.process is not None and kept.process.poll() is None:
            kept.process.send_signal(number)

    def _await_end(self, name: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.status(name).state == "stopped":
                return True
        return False

    def _find(self, name: str) -> _Kept:
        if name not in self._kept:
            raise NotFound(f"{name} was not started here", hint=f"started: {', '.join(self._kept) or 'nothing'}")
        return self._kept[name]

    @staticmethod
    def _status(kept: _Kept) -> Status:
        if kept.process is not None and kept.process.poll() is None:
            return Status(kept.plan.name, "running", kept.process.pid, kept.restarts)
        return Status(kept.plan.name, "waiting" if kept.wanted else "stopped", None, kept.restarts)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
