"""Keeping processes running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from affiant.cli import processes
from affiant.cli.processes import Plan
from affiant.cli.supervisor import Supervisor, pause_before


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append)
    yield supervisor
    supervisor.close()


def plan(tmp_path: Path, code: str) -> Plan:
    return Plan("sleeper", [sys.executable, "-I", "-S", "-c", code], dict(os.environ), tmp_path / "log")


def eventually(fact: Callable[[], bool], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [pause_before(n) for n in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]


def test_what_crashes_is_started_again_and_said(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.launch(plan(tmp_path, SLEEP))
    first = supervisor.status("sleeper").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)

    eventually(lambda: supervisor.status("sleeper").pid not in (None, first))
    assert supervisor.status("sleeper").restarts == 1
    assert "killed by SIGKILL" in said[0]


def test_what_was_killed_on_purpose_stays_dead_until_it_is_restarted(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.launch(plan(tmp_path, SLEEP))
    supervisor.kill("sleeper")
    time.sleep(0.7)
    assert supervisor.status("sleeper").state == "stopped"

    supervisor.restart("sleeper")
    assert supervisor.status("sleeper").state == "running"


def test_what_does_not_stop_is_killed(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    supervisor.launch(plan(tmp_path, STUBBORN))
    eventually(lambda: "up" in processes.last_lines(tmp_path / "log"))

    assert not supervisor.stop("sleeper", 0.3)
    assert "did not stop" in said[0]
    assert supervisor.status("sleeper").pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from affiant.cli.processes import Plan, start
plan = Plan("c", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, Path({str(tmp_path / "c")!r}))
print(start(plan).pid, flush=True)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    child = int(parent.stdout)
    eventually(lambda: processes.identify(child) is None)


def test_a_process_is_known_by_pid_and_start_time() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert processes.alive(me)
    assert not processes.alive(processes.Identity(me.pid, "another time"))


def test_ending_a_process_touches_no_other_with_the_same_pid() -> None:
    assert processes.end(processes.Identity(os.getpid(), "another time"), grace_seconds=1)
