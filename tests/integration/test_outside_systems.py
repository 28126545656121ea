"""Systems that are not Affiant's, in Python and in JavaScript, against a server with the permissions of a laptop."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg

from affiant.cli import home as homes, plans, probes
from affiant.cli.connection import connected, declare, wait_for
from affiant.cli.home import Home
from affiant.cli.supervisor import Supervisor
from affiant.cli.system import System
from affiant.common import wire
from affiant.common.events import PredictionLogged
from tests.support import node

EXAMPLES = Path(__file__).parents[2] / "examples" / "outside"


@pytest.fixture(scope="module")
def bus_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose nats-server runs, with users, accounts, streams and durables; no services."""
    home = Home(tmp_path_factory.mktemp("outside") / "home")
    homes.prepare(home)
    supervisor = Supervisor(lambda _: None)
    supervisor.launch(plans.of_nats(home))
    deadline = time.monotonic() + 20
    while probes.nats_unready(plans.monitor_url(home)) and time.monotonic() < deadline:
        time.sleep(0.05)
    declare(home, plans.nats_url(home))
    yield home
    supervisor.stop("nats", 10)
    supervisor.close()


def run(command: list[str], home: Home, *more: str) -> str:
    """Run an example as a user would; its standard output."""
    access = [
        "--nats",
        plans.nats_url(home),
        "--user",
        "outside",
        "--password-file",
        str(home.password_file),
    ]
    done = subprocess.run([*command, *access, *more], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish_python(home: Home, *more: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run([sys.executable, str(EXAMPLES / "publish_python.py")], home, *more))
    return found


def publish_node(home: Home, *more: str) -> dict[str, object]:
    program = node.installed(EXAMPLES / "publish_node") / "publish.js"
    found: dict[str, object] = json.loads(run([shutil.which("node") or "node", str(program)], home, *more))
    return found


def consume(home: Home) -> list[str]:
    return run([sys.executable, str(EXAMPLES / "consume_audit.py")], home, "--idle", "1").splitlines()


def stored(home: Home, sequence: object) -> wire.Envelope:
    """What the stream holds, as every service would read it."""

    async def read() -> RawStreamMsg:
        async with connected(home, "admin", plans.nats_url(home)) as client:
            return await client.jetstream().get_msg("PREDICTIONS", int(str(sequence)))

    message = wait_for(read())
    return wire.decode(message.subject or "", message.data or b"", message.headers)


def test_a_prediction_published_from_python_is_one_that_affiant_reads(bus_home: Home) -> None:
    acked = publish_python(bus_home)

    envelope = stored(bus_home, acked["sequence"])
    assert isinstance(envelope.event, PredictionLogged)
    assert envelope.id == acked["id"] == envelope.event.prediction_id
    assert envelope.source == "urn:example:core-banking"
    assert envelope.event.adverse == [True]


def test_a_prediction_published_from_javascript_is_one_that_affiant_reads(bus_home: Home) -> None:
    acked = publish_node(bus_home)

    envelope = stored(bus_home, acked["sequence"])
    assert isinstance(envelope.event, PredictionLogged)
    assert envelope.id == acked["id"] == envelope.event.prediction_id
    assert envelope.source == "urn:example:web-shop"
    assert envelope.event.labels == ["approved"]


def test_sending_a_decision_again_with_its_id_changes_nothing(bus_home: Home) -> None:
    first = publish_python(bus_home)
    again = publish_python(bus_home, "--id", str(first["id"]))

    assert again == first | {"duplicate": True}


def test_a_consumer_resumes_where_it_stopped(bus_home: Home) -> None:
    first = publish_python(bus_home)
    assert str(first["id"]) in "\n".join(consume(bus_home))

    second = publish_python(bus_home)
    lines = consume(bus_home)
    assert len(lines) == 1
    assert str(second["id"]) in lines[0]


@pytest.mark.parametrize(
    "subject",
    [
        "affiant.modelserver.prediction_logged.v1.loan",
        "affiant.registry.model_promoted.v1",
        "affiant.dead.auditor-predictions",
        "$JS.API.STREAM.DELETE.PREDICTIONS",
        "$JS.API.CONSUMER.CREATE.PREDICTIONS.mine",
        "AFFIANT.API.CONSUMER.MSG.NEXT.PREDICTIONS.auditor-predictions",
    ],
)
async def test_an_outside_system_may_not_publish_as_somebody_else(bus_home: Home, subject: str) -> None:
    client, refusals = await outside(bus_home)
    await client.publish(subject, b"{}")
    await client.flush()
    await eventually(lambda: any("permissions violation" in refusal.lower() for refusal in refusals))
    await client.close()


@pytest.mark.parametrize("way", ["AFFIANT.API.CONSUMER.MSG.NEXT.PREDICTIONS.outside-predictions", "affiant.outside.x"])
async def test_no_reply_subject_puts_anything_into_another_stream(bus_home: Home, way: str) -> None:
    publish_python(bus_home)
    client, _ = await outside(bus_home)
    await client.publish(way, b"", reply="affiant.registry.model_promoted.v1")
    await client.flush()
    await asyncio.sleep(0.3)
    await client.close()

    async with connected(bus_home, "operator", plans.nats_url(bus_home)) as operator:
        assert (await operator.jetstream().stream_info("MODELS")).state.messages == 0


async def test_nobody_is_let_in_without_a_name(bus_home: Home) -> None:
    with pytest.raises(NatsError, match="Authorization Violation"):
        await nats.connect(plans.nats_url(bus_home), allow_reconnect=False, error_cb=ignore)


async def outside(home: Home) -> tuple[Client, list[str]]:
    refusals: list[str] = []

    async def on_error(error: Exception) -> None:
        refusals.append(str(error))

    password = home.password()
    url = plans.nats_url(home)
    inbox = b"_INBOX_outside"
    return await nats.connect(url, user="outside", password=password, inbox_prefix=inbox, error_cb=on_error), refusals


async def ignore(_: Exception) -> None:
    """An error that the test expects."""


async def eventually(fact: object, seconds: float = 30.0) -> None:
    assert callable(fact)
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.e2e
def test_what_others_decided_is_in_the_audit_log_and_comes_out_of_the_audit_stream(tmp_path: Path) -> None:
    with System(tmp_path / "home") as system:
        published = [publish_python(system.home), publish_node(system.home)]

        for one in published:
            assert audited(system, str(one["id"]))["record"]["prediction_id"] == one["id"]
        heard = "\n".join(consume(system.home))
        assert all(str(one["id"]) in heard for one in published)


def audited(system: System, prediction_id: str, seconds: float = 60.0) -> dict[str, dict[str, object]]:
    deadline = time.monotonic() + seconds
    while True:
        answer = httpx.get(
            f"{system.urls['auditor']}/v1/predictions/{prediction_id}",
            headers={"Authorization": f"Bearer {system.token('iris')}"},
        )
        if answer.is_success or time.monotonic() > deadline:
            found: dict[str, dict[str, object]] = answer.raise_for_status().json()
            return found
        time.sleep(0.1)
