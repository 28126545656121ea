"""The deployer with the real model server: what one writes and the other reads fits, under load and under kills."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from affiant.common.events import ModelDeployed, ModelDeploymentFailed
from tests.support.deployer import Bus, Deployer, traffic
from tests.support.model import loan_model, loan_spec
from tests.support.nats_server import NatsServer

FIRST, SECOND = loan_model(1.0), loan_model(2.0)
BODY = {
    "inputs": [{"name": name, "datatype": "FP32", "shape": [1, 1], "data": [3.0]} for name in ("income", "debt")],
}


@pytest.fixture
async def deployer(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Deployer]:
    running = Deployer(tmp_path / "deployer", nats_server.url, command=())
    running.start()
    yield running
    running.clear_away()


@pytest.fixture
def bus(declared: Client, deployer: Deployer) -> Bus:
    return Bus(declared, deployer)


def inferring(url: str):  # type: ignore[no-untyped-def]
    async def ask(http: httpx.AsyncClient) -> int:
        answer = await http.post(f"{url}/v2/models/loan/infer", json=BODY)
        return int(answer.raise_for_status().json()["model_version"])

    return ask


async def test_two_versions_swap_under_load_without_a_failed_request(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(loan_spec(FIRST, 1), FIRST)
    url = (await deployer.until_serving(1))["url"]
    async with traffic(inferring(url)) as load:
        await load.more(100)
        for version, data in ((2, SECOND), (1, FIRST), (2, SECOND)):
            await bus.promotes(loan_spec(data, version), data)
            assert (await deployer.until_serving(version))["url"] == url
            await load.more(100)
    assert load.failures == []
    events = [said.event for said in await bus.said(at_least=4)]
    assert [event.version for event in events if isinstance(event, ModelDeployed)] == [1, 2, 1, 2]


async def test_a_killed_deployer_takes_over_and_no_request_fails(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(loan_spec(FIRST, 1), FIRST)
    found = await deployer.until_serving(1)
    async with traffic(inferring(found["url"])) as load:
        await load.more(50)
        deployer.kill()
        await load.more(100)
        deployer.start()
        after = await deployer.until_serving(1)
        assert after["replicas"] == found["replicas"]
        await bus.promotes(loan_spec(SECOND, 2), SECOND)
        assert (await deployer.until_serving(2))["url"] == found["url"]
        await load.more(50)
    assert load.failures == []


async def test_a_killed_model_server_is_repaired_while_requests_wait(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(loan_spec(FIRST, 1), FIRST)
    found = await deployer.until_serving(1)
    os.kill(found["replicas"][0]["pid"], signal.SIGKILL)
    async with httpx.AsyncClient(timeout=20) as http:
        assert await inferring(found["url"])(http) == 1
    again = await deployer.until_serving(1)
    assert (again["url"], again["replicas"][0]["restarts"]) == (found["url"], 1)


async def test_a_file_that_is_no_model_leaves_the_old_version(deployer: Deployer, bus: Bus) -> None:
    await bus.promotes(loan_spec(FIRST, 1), FIRST)
    url = (await deployer.until_serving(1))["url"]
    async with traffic(inferring(url), clients=2) as load:
        await bus.promotes(loan_spec(b"no model", 2), b"no model")
        await deployer.until(lambda found: found[0]["state"] == "failed")
        await load.more(20)
    assert load.failures == []
    [_, said] = await bus.said(at_least=2)
    assert isinstance(said.event, ModelDeploymentFailed)
    assert (said.event.version, said.event.still_serving) == (2, 1)


async def test_records_of_a_version_go_on_the_bus_under_its_replica(
    deployer: Deployer, bus: Bus, declared: Client
) -> None:
    await bus.promotes(loan_spec(FIRST, 1), FIRST)
    found = await deployer.until_serving(1)
    async with httpx.AsyncClient() as http:
        await inferring(found["url"])(http)
    async with asyncio.timeout(30):
        while (await declared.jetstream().stream_info("PREDICTIONS")).state.messages < 1:
            await asyncio.sleep(0.05)
    message = await declared.jetstream().get_msg("PREDICTIONS", 1)
    assert found["replicas"][0]["replica"].encode() in (message.data or b"")
