"""The whole system on one machine, as `affiant up` runs it: real processes, real kills."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from affiant.cli import processes, record, trial
from affiant.cli.app import main
from affiant.cli.connection import connected, wait_for
from affiant.cli.home import Home
from affiant.cli.processes import Identity
from affiant.cli.system import System
from affiant.common import bus
from affiant.common.errors import Conflict, Problem
from affiant.common.serving import BusAccess

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("cli") / "home") as system:
        yield system


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def affiant(home: Home, *arguments: str) -> Done:
    """The command as people run it, but in this process: a new one costs a second."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*arguments, "--home", str(home.path)])
    code = ended.value.code
    return Done(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def eventually(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_service_answers_and_knows_its_people(system: System) -> None:
    for service in bus.SERVICES:
        told = httpx.get(f"{system.urls[service]}/readyz").json()
        assert (told["ready"], told["reasons"]) == (True, [])
    models = f"{system.urls['registry']}/v1/models"
    assert httpx.get(models).status_code == 401
    assert httpx.get(models, headers={"Authorization": f"Bearer {system.token('ana')}"}).status_code == 200


def test_the_doctor_finds_nothing_wrong(system: System) -> None:
    done = affiant(system.home, "doctor", "--output", "json")
    # The system runs inside this test and not in `affiant up`, which the doctor cannot tell apart.
    assert [one for one in done.json["findings"] if one["level"] == "problem"] == []
    assert done.code == 0


def test_a_home_holds_one_system_at_a_time(system: System) -> None:
    with pytest.raises(Conflict, match="already runs"):
        System(system.home).start()
    assert system.reasons("registry") == []


def test_a_service_that_crashes_is_started_again(system: System) -> None:
    first = system.pid("registry")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: system.status("registry").pid not in (None, first))
    eventually(lambda: system.reasons("registry") == [])
    system.refresh_record()
    assert record.read(system.home).services["registry"].pid == system.pid("registry")


def test_a_killed_service_stays_dead_until_it_is_restarted(system: System) -> None:
    system.kill("auditor")
    with pytest.raises(Problem, match="does not run"):
        system.pid("auditor")
    assert system.reasons("auditor") != []
    assert affiant(system.home, "doctor").code == 1

    system.restart("auditor")
    assert system.reasons("auditor") == []


def test_services_come_back_to_a_bus_that_was_killed(system: System) -> None:
    system.kill_nats()
    assert affiant(system.home, "tail", "-n", "1").code == 3
    system.restart_nats()
    for service in bus.SERVICES:
        eventually(functools.partial(ready, system, service))


def ready(system: System, service: str) -> bool:
    return system.reasons(service) == []


def test_a_malformed_event_can_be_looked_at_replayed_and_dropped(system: System) -> None:
    home = system.home
    readers = {"deployer-models", "explainer-models", "auditor-models"}
    publish_malformed(home)
    eventually(lambda: len(numbers_of(home)) == len(readers))
    listed = affiant(home, "dead-letters", "list", "-o", "json").json["dead_letters"]
    numbers = [one["number"] for one in listed]
    assert {one["subject"] for one in listed} == {"affiant.registry.model_promoted.v1"}
    assert {one["durable"] for one in listed} == readers

    number = str(numbers[0])
    shown = affiant(home, "dead-letters", "show", number)
    assert "not a CloudEvent" in shown.out
    assert "{broken" in shown.out
    assert affiant(home, "doctor").code == 1

    # Its cause is not mended: every reader sets it aside again, under another number.
    assert affiant(home, "dead-letters", "replay", number).code == 0
    eventually(lambda: len([one for one in numbers_of(home) if one > max(numbers)]) == len(readers))
    for one in numbers_of(home):
        assert affiant(home, "dead-letters", "drop", str(one)).code == 0
    assert affiant(home, "dead-letters", "list").out.startswith("no dead letters")
    assert affiant(home, "dead-letters", "show", number).code == 5


def numbers_of(home: Home) -> list[int]:
    return [one["number"] for one in affiant(home, "dead-letters", "list", "-o", "json").json["dead_letters"]]


def publish_malformed(home: Home) -> None:
    async def publish() -> None:
        async with connected(home, "operator") as client:
            headers = {"content-type": "application/cloudevents+json"}
            await client.jetstream().publish("affiant.registry.model_promoted.v1", b"{broken", headers=headers)

    wait_for(publish())


def test_tail_shows_what_comes_by(system: System) -> None:
    environment = {**os.environ, "AFFIANT_HOME": str(system.home.path)}
    tail = subprocess.Popen(
        [sys.executable, "-m", "affiant.cli", "tail", "-n", "1", "--events", "dead_letter"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert tail.stderr is not None
    assert "following" in tail.stderr.readline()
    publish_malformed(system.home)
    shown, _ = tail.communicate(timeout=20)
    assert "affiant.registry.model_promoted.v1 set aside: not a CloudEvent" in shown


def test_ctrl_c_ends_tail_at_once(system: System) -> None:
    tail = subprocess.Popen(
        [sys.executable, "-m", "affiant.cli", "tail", "--home", str(system.home.path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tail.stderr is not None
    assert "following" in tail.stderr.readline()
    tail.send_signal(signal.SIGINT)
    _, words = tail.communicate(timeout=60)
    assert tail.returncode == 130
    assert "Traceback" not in words


def test_a_trial_prediction_comes_out_as_an_audit_record(system: System) -> None:
    """What `helm test` runs in a cluster."""
    access = BusAccess(url=system.urls["nats"], user="outside", password_file=str(system.home.password_file))
    event_id = asyncio.run(trial.publish(access))
    found = trial.await_record(system.urls["auditor"], system.token("iris"), event_id, 60.0)
    assert event_id in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end children with their parent")
def test_a_killed_up_leaves_nothing_behind_and_the_next_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    up = affiant(home, "up", "--detach", "--output", "json")
    assert up.code == 0, up.err
    first = record.read(home)
    ours = [entry.identity for entry in first.processes().values()]
    assert all(processes.alive(one) for one in ours)

    os.kill(first.up.pid, signal.SIGKILL)
    eventually(lambda: not any(processes.alive(one) for one in ours))

    assert affiant(home, "up", "--detach").code == 0
    assert record.read(home).nats_url == first.nats_url
    assert ended_by_down(home)
    assert affiant(home, "down").code == 5


def ended_by_down(home: Home) -> bool:
    running: list[Identity] = [entry.identity for entry in record.read(home).processes().values()]
    assert affiant(home, "down").code == 0
    return not any(processes.alive(one) for one in running)


def test_a_start_that_fails_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    system = System(home, settings={"AFFIANT_REGISTRY_HTTP_PORT": "no number"})
    with pytest.raises(Problem, match="AFFIANT_REGISTRY_HTTP_PORT"):
        system.start(timeout_seconds=START_SECONDS)
    assert record.running(record.read(home)) == {}


def test_a_start_can_be_cancelled(tmp_path: Path) -> None:
    system = System(tmp_path / "home")
    system.cancelled.set()
    with pytest.raises(KeyboardInterrupt):
        system.start()
    assert record.running(record.read(system.home)) == {}


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"{port} \\(registry\\)"):
            System(tmp_path / "home", port=port).start()
