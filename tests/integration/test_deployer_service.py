"""The deployer as a process, with model server processes, a real bus, kills and restarts."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from affiant.common import ids
from affiant.common.events import ModelArchived, ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from tests.support.deployer import Bus, Deployer, answer, asking, fake_file, fake_spec, traffic
from tests.support.nats_server import NatsServer


@pytest.fixture
async def deployer(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Deployer]:
    running = Deployer(tmp_path / "deployer", nats_server.url)
    running.start()
    yield running
    running.clear_away()


@pytest.fixture
def bus(declared: Client, deployer: Deployer) -> Bus:
    return Bus(declared, deployer)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def gone(pid: int, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while alive(pid):
            await asyncio.sleep(0.02)


async def test_a_promoted_version_answers_and_is_announced(deployer: Deployer, bus: Bus) -> None:
    wish = await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    [said] = await bus.said(at_least=1)
    assert isinstance(said.event, ModelDeployed)
    assert (said.event.version, said.event.url, said.event.backend) == (1, found["url"], "local")
    assert said.event.replicas == [found["replicas"][0]["replica"]]
    assert wish != said.id
    assert (await answer(found["url"]))["version"] == 1


async def test_versions_change_under_load_without_a_failed_request(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    url = (await deployer.until_serving(1))["url"]
    async with traffic(asking(url)) as load:
        await load.more(50)
        for version in (2, 3, 1):
            await bus.promotes(fake_spec(version), fake_file(version))
            assert (await deployer.until_serving(version))["url"] == url
            await load.more(50)
    assert load.failures == []
    assert load.versions[-1] == 1
    assert set(load.versions) == {1, 2, 3}
    events = [said.event for said in await bus.said(at_least=4)]
    assert [(e.version, e.previous_version) for e in events if isinstance(e, ModelDeployed)] == [
        (1, None),
        (2, 1),
        (3, 2),
        (1, 3),
    ]


async def test_a_crashed_server_is_started_again_while_its_connections_wait(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    os.kill(found["replicas"][0]["pid"], signal.SIGKILL)
    # Nobody accepts at this moment; the request waits in the queue of the listening socket.
    assert (await answer(found["url"]))["version"] == 1
    again = await deployer.until_serving(1)
    assert again["url"] == found["url"]
    assert again["replicas"][0]["pid"] != found["replicas"][0]["pid"]
    assert again["replicas"][0]["restarts"] == 1
    replicas = [said.event.replicas for said in await bus.said(at_least=2) if isinstance(said.event, ModelDeployed)]
    assert replicas == [[found["replicas"][0]["replica"]], [again["replicas"][0]["replica"]]]


async def test_a_killed_deployer_takes_over_what_still_runs(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    async with traffic(asking(found["url"])) as load:
        await load.more(20)
        deployer.kill()
        await load.more(50)
        deployer.start()
        after = await deployer.until_serving(1)
        assert after["replicas"] == found["replicas"]
        await bus.promotes(fake_spec(2), fake_file(2))
        assert (await deployer.until_serving(2))["url"] == found["url"]
        await load.more(20)
    assert load.failures == []
    # The same server under the same promotion: nothing new, so nothing is said about it.
    said = [one.event for one in await bus.said(at_least=2)]
    assert [event.version for event in said if isinstance(event, ModelDeployed)] == [1, 2]


async def test_a_server_that_died_while_the_deployer_was_away_is_replaced_at_the_same_address(
    deployer: Deployer, bus: Bus
) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    deployer.kill()
    os.kill(found["replicas"][0]["pid"], signal.SIGKILL)
    deployer.start()
    after = await deployer.until_serving(1)
    assert after["url"] == found["url"]
    assert (await answer(found["url"]))["pid"] != found["replicas"][0]["pid"]


async def test_a_promotion_while_the_deployer_is_away_replaces_what_it_finds(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    url = (await deployer.until_serving(1))["url"]
    async with traffic(asking(url)) as load:
        deployer.kill()
        await bus.promotes(fake_spec(2), fake_file(2))
        await load.more(20)
        deployer.start()
        assert (await deployer.until_serving(2))["url"] == url
        await load.more(20)
    assert load.failures == []


async def test_a_version_that_crashes_leaves_the_old_one_and_says_why(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    url = (await deployer.until_serving(1))["url"]
    async with traffic(asking(url)) as load:
        await bus.promotes(fake_spec(2, fake="crash"), fake_file(2))
        found = await deployer.until(lambda found: found[0]["state"] == "failed")
        await load.more(20)
    assert (load.failures, set(load.versions)) == ([], {1})
    assert "exit code 3" in found["reason"]
    [_, said] = await bus.said(at_least=2)
    assert isinstance(said.event, ModelDeploymentFailed)
    assert (said.event.version, said.event.still_serving) == (2, 1)
    assert "the fake model server says why" in said.event.reason
    async with asyncio.timeout(60):
        while len(deployer.pids()) <= 3:
            await asyncio.sleep(0.1)
    # It was tried again; the same reason is not published again.
    assert len(await bus.said()) == 2


async def test_a_version_that_reports_that_it_failed_is_not_served(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1, fake="refuse"), fake_file(1))
    [said] = await bus.said(at_least=1)
    assert isinstance(said.event, ModelDeploymentFailed)
    assert said.event.reason.startswith("the model does not load")


async def test_a_version_that_never_gets_ready_is_given_up_and_the_old_one_goes_on(
    tmp_path: Path, nats_server: NatsServer, declared: Client
) -> None:
    deployer = Deployer(tmp_path / "deployer", nats_server.url, READY_TIMEOUT_SECONDS="1.5")
    deployer.start()
    try:
        bus = Bus(declared, deployer)
        await bus.promotes(fake_spec(1), fake_file(1))
        await deployer.until_serving(1)
        await bus.promotes(fake_spec(2, fake="never-ready"), fake_file(2))
        [_, said] = await bus.said(at_least=2)
        assert isinstance(said.event, ModelDeploymentFailed)
        assert said.event.reason == "the model server was not ready within 1.5 s"
        assert said.event.still_serving == 1
    finally:
        deployer.clear_away()


async def test_a_version_that_keeps_crashing_is_reported_after_the_third_time(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1, fake="crash-later"), fake_file(1))
    said = await bus.said(at_least=4, seconds=20)
    kinds = [type(one.event) for one in said[:4]]
    assert kinds == [ModelDeployed, ModelDeployed, ModelDeployed, ModelDeploymentFailed]
    assert "exit code 4" in said[3].event.reason  # type: ignore[union-attr]


async def test_what_happens_while_the_bus_is_away_is_published_when_it_is_back(
    deployer: Deployer, bus: Bus, nats_server: NatsServer
) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    assert len(await bus.said(at_least=1)) == 1
    nats_server.kill()
    os.kill(found["replicas"][0]["pid"], signal.SIGKILL)
    await deployer.until(lambda now: now[0]["state"] == "serving" and now[0]["replicas"][0]["restarts"] == 1)
    assert (await answer(found["url"]))["version"] == 1
    nats_server.start()
    async with asyncio.timeout(60):
        while not bus.js._nc.is_connected:
            await asyncio.sleep(0.05)
    assert len(await bus.said(at_least=2)) == 2


async def test_a_file_with_another_digest_is_refused_until_a_new_promotion(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    await deployer.until_serving(1)
    await bus.promotes(fake_spec(2), b"the file of version X")
    found = await deployer.until(lambda found: found[0]["state"] == "failed")
    assert "was registered" in found["reason"]
    assert "not tried again" in found["reason"]
    attempts = len(deployer.registry.fetched)
    await asyncio.sleep(1.5)
    assert len(deployer.registry.fetched) == attempts
    assert (await answer(found["url"]))["version"] == 1
    await bus.promotes(fake_spec(2), fake_file(2))
    await deployer.until_serving(2)


async def test_an_archived_version_is_undeployed_and_comes_back_at_the_same_address(
    deployer: Deployer, bus: Bus
) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    digest = fake_spec(1).digest
    await bus.publishes(
        ModelArchived(
            model="loan", version=1, digest=digest, by="ben", archived_at=ids.now(), removed_aliases=["champion"]
        )
    )
    await gone(found["replicas"][0]["pid"])
    said = await bus.said(at_least=2)
    assert isinstance(said[1].event, ModelUndeployed)
    assert await deployer.deployments() == []
    with pytest.raises(httpx.ConnectError):
        await answer(found["url"])
    await bus.promotes(fake_spec(2), fake_file(2))
    assert (await deployer.until_serving(2))["url"] == found["url"]


async def test_models_go_on_when_the_deployer_is_stopped(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    found = await deployer.until_serving(1)
    assert deployer.stop() == 0
    assert (await answer(found["url"]))["version"] == 1


async def test_models_end_with_the_deployer_where_that_is_set(
    tmp_path: Path, nats_server: NatsServer, declared: Client
) -> None:
    deployer = Deployer(tmp_path / "deployer", nats_server.url, STOP_MODELS_ON_EXIT="true")
    deployer.start()
    try:
        await Bus(declared, deployer).promotes(fake_spec(1, slow="0.5"), fake_file(1))
        found = await deployer.until_serving(1)
        async with httpx.AsyncClient() as http:
            under_way = asyncio.create_task(http.get(found["url"]))
            await asyncio.sleep(0.2)
            code = await asyncio.to_thread(deployer.stop)
            assert (await under_way).json()["version"] == 1
        assert code == 0
        assert not alive(found["replicas"][0]["pid"])
    finally:
        deployer.clear_away()


async def test_two_deployers_do_not_share_a_folder(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    await deployer.until_serving(1)
    first, deployer.process = deployer.process, None
    deployer.settings["HTTP_PORT"] = "0"
    deployer.start()
    try:
        assert deployer.process is not None
        assert await asyncio.to_thread(deployer.process.wait, 20) != 0
        assert "another deployer runs" in deployer.log()
    finally:
        deployer.kill()
        deployer.process = first


async def test_a_stranger_is_told_nothing(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(fake_spec(1), fake_file(1))
    await deployer.until_serving(1)
    assert "error" in await answer(f"http://127.0.0.1:{deployer.port}/v1/deployments")
