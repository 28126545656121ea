"""Least privilege on the bus: each does its own work, is refused everybody else's, and launders nothing."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

from affiant.cli import natsconf
from affiant.cli.natsconf import Server
from affiant.common import bus
from affiant.common.client import Client
from affiant.common.health import BusHealth
from affiant.common.nkeys import NKey
from tests.support.bus import SecureBus, stored_subjects
from tests.support.nats_server import NatsServer

WORKERS = (*bus.SERVICES, "modelserver", "outside", "core-banking", "operator")
KINDS = {"core-banking": "outside"}
WRITERS = [user for user in WORKERS if user != "operator"]

# A subject of each stream under which nobody publishes by himself in these tests.
LAUNDERED = {
    "MODELS": "affiant.registry.laundered.v1",
    "PREDICTIONS": "affiant.modelserver.laundered.v1.loan",
    "EXPLANATIONS": "affiant.explainer.laundered.v1.loan",
    "AUDIT": "affiant.auditor.laundered.v1",
    "DEAD": "affiant.dead.laundered",
}


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[SecureBus]:
    """A server with users and accounts, every stream and durable declared."""
    server = SecureBus(tmp_path / "bus")
    server.start()
    await server.declare()
    yield server
    server.stop()


def grants(user: str) -> list[bus.Grant]:
    return bus.grants(user, KINDS.get(user, ""))


def own_subject(user: str) -> str:
    return f"affiant.{KINDS.get(user, user)}.prediction_logged.v1.loan"


def concrete(subject: str) -> str:
    return subject.replace(">", "1.1.1.1.1" if subject.startswith("$JS.ACK") else "x.v1")


async def eventually(fact: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# --- the matrix -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", WRITERS)
async def test_a_user_publishes_its_own_events_and_reads_its_own_durables(secure: SecureBus, user: str) -> None:
    for durable in bus.durables_of(user):
        subject = concrete(durable.filters[0])
        client = await secure.connect(subject.split(".")[1])
        await client.jetstream().publish(subject, b"{}", timeout=30)
        await client.close()
    refused: list[str] = []
    client = await secure.connect(user, refused)
    js = client.jetstream()
    assert (await js.publish(own_subject(user), b"{}", timeout=30)).seq
    for durable in bus.durables_of(user):
        await js.consumer_info(durable.stream, durable.name)
        inbox = f"{bus.inbox_prefix(user)}.".encode()
        subscription = await js.pull_subscribe_bind(durable.name, stream=durable.stream, inbox_prefix=inbox)
        (message,) = await subscription.fetch(1, timeout=30)
        await message.ack_sync(timeout=30)
        if durable.service in bus.SERVICES:
            await js.publish(f"{bus.DEAD_LETTERS}.{durable.name}", b"{}", timeout=30)
    await client.close()
    assert refused == []


async def test_the_operator_watches_everything_and_works_with_dead_letters(secure: SecureBus) -> None:
    refused: list[str] = []
    for user in ("registry", "auditor"):
        client = await secure.connect(user)
        await client.jetstream().publish(own_subject(user), b"{}")
        await client.jetstream().publish(f"{bus.DEAD_LETTERS}.{bus.durables_of(user)[0].name}", b"dead")
        await client.close()
    operator = await secure.connect("operator", refused)
    js = operator.jetstream()
    assert [(await js.stream_info(stream.name)).state.messages for stream in bus.STREAMS] == [1, 0, 0, 1, 2]
    for durable in (*bus.DURABLES, *bus.OUTSIDE_DURABLES):
        await js.consumer_info(durable.stream, durable.name)
    assert (await js.get_msg("DEAD", 1)).data == b"dead"
    await js.delete_msg("DEAD", 1)
    await js.publish("affiant.registry.again.v1", b"{}")
    await operator.close()
    assert refused == []


@pytest.mark.parametrize(("account", "listener"), natsconf.LISTENERS.items())
async def test_a_listener_hears_the_events_of_its_account_and_says_nothing(
    secure: SecureBus, account: str, listener: str
) -> None:
    refused: list[str] = []
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    ear = await secure.connect(listener, refused)
    await ear.subscribe("affiant.>", cb=hear)
    await ear.flush()
    for user in ("registry", "auditor"):
        client = await secure.connect(user)
        await client.jetstream().publish(own_subject(user), b"{}")
        await client.close()
    await eventually(lambda: bool(heard))
    assert heard == [own_subject("auditor" if account == bus.AUDIT_ACCOUNT else "registry")]
    assert refused == []
    said = ("affiant.registry.x.v1", "$JS.API.INFO", "$JS.API.CONSUMER.MSG.NEXT.AUDIT.outside-audit", "x")
    for subject in said:
        await ear.publish(subject, b"", reply=LAUNDERED["AUDIT"])
    await eventually(lambda: len(refused) == len(said))
    await ear.close()


@pytest.mark.parametrize("user", WORKERS)
async def test_a_user_is_refused_everybody_elses_work(secure: SecureBus, user: str) -> None:
    own = {grant.called for grant in grants(user)}
    foreign = {concrete(name) for other in WORKERS for grant in grants(other) if grant.called not in own
               for name in (grant.called, grant.subject)}  # fmt: skip
    foreign |= {
        "$JS.API.STREAM.DELETE.AUDIT",
        "$JS.API.STREAM.PURGE.PREDICTIONS",
        "$JS.API.STREAM.UPDATE.AUDIT",
        "$JS.API.CONSUMER.CREATE.PREDICTIONS.mine",
        "AFFIANT.API.CONSUMER.CREATE.PREDICTIONS.mine",
        "AFFIANT.API.STREAM.MSG.GET.PREDICTIONS",
        "$SYS.REQ.SERVER.PING",
    }
    refused: list[str] = []
    client = await secure.connect(user, refused)
    for subject in sorted(foreign):
        await client.publish(subject, b"{}")
        await client.flush(30)
    await eventually(lambda: len(refused) >= len(foreign))
    await client.close()
    assert all("permissions violation for publish" in reason.lower() for reason in refused)
    assert len(foreign) > 40


@pytest.mark.parametrize("user", WORKERS)
async def test_a_user_hears_nobody_elses_answers(secure: SecureBus, user: str) -> None:
    refused: list[str] = []
    client = await secure.connect(user, refused)
    kind = KINDS.get(user, user)
    wanted = [f"{bus.inbox_prefix(other)}.>" for other in WORKERS if KINDS.get(other, other) != kind]
    wanted += ["_INBOX.>", "$JS.>", ">", "affiant.>"]
    for subject in wanted:
        await client.subscribe(subject)
    await eventually(lambda: len(refused) >= len(wanted))
    await client.close()
    assert all("permissions violation for subscription" in reason.lower() for reason in refused)


async def test_nobody_is_let_in_without_a_key_that_the_server_knows(secure: SecureBus) -> None:
    async def ignore(_: Exception) -> None:
        """What is expected."""

    for options in ({}, {"user": "registry", "password": "registry"}):
        with pytest.raises(NatsError, match="Authorization Violation"):
            await nats.connect(secure.url, allow_reconnect=False, error_cb=ignore, **options)  # type: ignore[arg-type]
    secure.seed("registry").write_text(NKey.generate().seed)
    with pytest.raises(NatsError, match="Authorization Violation"):
        await secure.connect("registry", allow_reconnect=False)


async def test_a_key_that_was_replaced_in_its_file_counts_from_the_next_connection_on(secure: SecureBus) -> None:
    client = await secure.connect("registry", reconnect_time_wait=0.1, max_reconnect_attempts=-1)
    new = NKey.generate()
    secure.seed("registry").write_text(new.seed)
    secure.users = [
        natsconf.User("registry", new.public, previous=user.nkey) if user.name == "registry" else user
        for user in secure.users
    ]
    secure.kill(0)
    secure.start()
    await eventually(lambda: client.stats["reconnects"] > 0 and client.is_connected)
    assert (await client.jetstream().publish(own_subject("registry"), b"{}", timeout=30)).seq
    await client.close()


# --- reply laundering -----------------------------------------------------------------------------------------


async def attack(client: Client, user: str, reply: str) -> None:
    """Everything that `user` may send, with a stream's subject as the subject of the reply."""
    for grant in grants(user):
        name = grant.called if client.api == bus.LENT_API else grant.subject
        await client.publish(concrete(name), b"", reply=reply)
    await client.flush(30)


async def fill(secure: SecureBus) -> None:
    """A payload of somebody's choice in every stream, ready to be delivered."""
    for user in ("registry", "deployer", "modelserver", "outside", "explainer", "auditor"):
        client = await secure.connect(user)
        await client.jetstream().publish(own_subject(user), b'{"chosen": "by the attacker"}')
        await client.close()


@pytest.mark.parametrize("user", WORKERS)
async def test_no_reply_subject_stores_anything_in_any_stream(secure: SecureBus, user: str) -> None:
    await fill(secure)
    client = await secure.connect(user)
    for reply in LAUNDERED.values():
        await attack(client, user, reply)
    # Requests of one durable are served in their order: when an honest one was answered, those of the attack were.
    js = client.jetstream()
    await (js.stream_info("DEAD") if user == "operator" else js.publish(own_subject(user), b"{}"))
    for durable in bus.durables_of(user):
        await js.consumer_info(durable.stream, durable.name)
        await client.publish(f"{client.api}.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}", b"", reply=reply)
        await js.consumer_info(durable.stream, durable.name)
    await client.close()

    admins = {account: await secure.connect(admin) for account, admin in natsconf.ADMINS.items()}
    for stream in bus.STREAMS:
        found = await stored_subjects(admins[stream.account], stream.name)
        assert not [subject for subject in found if "laundered" in subject], stream.name
    for admin in admins.values():
        await admin.close()


async def test_inside_one_account_the_same_attacks_do_store_something(tmp_path: Path) -> None:
    """The attacks are real: without accounts, an acknowledgement and a payload of choice reach the audit stream."""
    server = NatsServer(tmp_path / "one-account")
    server.start()
    client = Client()
    await client.connect(server.url)
    js = client.jetstream()
    await bus.declare(js)
    await js.publish("affiant.outside.prediction_logged.v1.loan", b'{"chosen": "by the attacker"}')
    await attack(client, "outside", LAUNDERED["AUDIT"])
    await js.add_consumer("AUDIT", ConsumerConfig(durable_name="look"))

    async def bodies() -> list[bytes]:
        state = (await js.stream_info("AUDIT")).state
        return [(await js.get_msg("AUDIT", n)).data or b"" for n in range(1, state.last_seq + 1)]

    deadline = time.monotonic() + 30
    while b'{"chosen": "by the attacker"}' not in await bodies() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    stored = await bodies()
    assert b'{"chosen": "by the attacker"}' in stored
    assert any(b'"stream":"PREDICTIONS"' in body for body in stored)
    await client.close()
    server.stop()


# --- reasons --------------------------------------------------------------------------------------------------


async def test_what_the_bus_refused_is_said_by_readiness(secure: SecureBus) -> None:
    health = BusHealth("registry")
    client = Client(bus.LENT_API)
    options = {"inbox_prefix": b"_INBOX_deployer", "error_cb": health.on_error}
    await client.connect(secure.url, nkeys_seed=str(secure.seed("deployer")), **options)
    problems = "\n".join(await health.problems(client, client.jetstream()))
    await client.close()
    assert "cannot ask for durable registry-deployments" in problems
    assert "permissions violation for publish" in problems
    assert "consumer.info.models.registry-deployments" in problems


async def test_the_server_itself_finds_nothing_wrong_with_the_configuration(secure: SecureBus, tmp_path: Path) -> None:
    config = tmp_path / "checked.conf"
    server = Server(listen="127.0.0.1:4222", monitor="127.0.0.1:8222", store=str(tmp_path / "store"))
    config.write_text(natsconf.text(server, secure.users))
    command = [natsconf.find_server(), "-t", "-c", str(config)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
