"""What a command does where nobody answers it, and where nobody listens any more; as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affiant.cli import home as homes, record
from affiant.cli.home import Home
from affiant.cli.record import Entry, Record
from affiant.common import bus
from tests.unit.cli.fake_services import FakeServices


@pytest.fixture
def services() -> Iterator[FakeServices]:
    fake = FakeServices()
    fake.start()
    yield fake
    fake.stop()


def home_of(folder: Path, nats_url: str, services_url: str) -> Home:
    home = Home(folder / "home")
    homes.prepare(home)
    record.write(home, Record(nats_url, dict.fromkeys(bus.SERVICES, Entry(services_url))))
    return home


def affiant(home: Home, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "affiant.cli", *arguments, "--home", str(home.path)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)


def test_doctor_says_soon_that_the_bus_hangs(tmp_path: Path, services: FakeServices) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        home = home_of(tmp_path, f"nats://127.0.0.1:{silent.getsockname()[1]}", services.url)
        began = time.monotonic()
        done = affiant(home, "doctor")
    said = done.stdout.decode()
    assert done.returncode == 1
    assert time.monotonic() - began < 10
    assert "does not let operator in: " in said
    assert "does not let operator in: \n" not in said
    assert "look: affiant doctor" not in said


@pytest.mark.parametrize("models", [1, 10_000])
def test_a_reader_that_has_enough_ends_a_command_quietly(tmp_path: Path, services: FakeServices, models: int) -> None:
    one = {"model": "loan", "latest_version": 1, "aliases": {}, "version_count": 1}
    services.answers["GET /v1/models"] = (200, {"models": [one] * models})
    reading, writing = os.pipe()
    os.close(reading)
    done = affiant(home_of(tmp_path, "nats://127.0.0.1:1", services.url), "models", "-o", "json", stdout=writing)
    os.close(writing)
    assert done.stderr == b""
