"""The whole deployer as a process, between a real bus and an API server; and two that share a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client

from affiant.common.events import ModelDeployed, ModelDeploymentFailed
from affiant.deployer.store import Store
from tests.kubernetes.world import SERVER_IMAGE, Namespace, World
from tests.support.deployer import Bus, Deployer, fake_spec
from tests.support.nats_server import NatsServer
from tests.support.postgres import Postgres
from tests.unit.deployer.world import SLOT, wish


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    world = World("fake", tmp_path / "cluster")
    yield world.namespace()
    world.close()


@pytest.fixture
async def deployer(
    tmp_path: Path, nats_server: NatsServer, declared: Client, namespace: Namespace
) -> AsyncIterator[Deployer]:
    settings = {
        "BACKEND": "kubernetes",
        "KUBECONFIG": str(namespace.world.kubeconfig),
        "NAMESPACE": namespace.name,
        "MODELSERVER_IMAGE": SERVER_IMAGE,
        "MIN_REPLICAS": "1",
        "LEASE_SECONDS": "5",
    }
    started = Deployer(tmp_path / "deployer", nats_server.url, (), **settings)
    started.start()
    yield started
    started.clear_away()


async def test_a_promotion_on_the_bus_becomes_a_deployment_and_an_event(
    deployer: Deployer, declared: Client, namespace: Namespace
) -> None:
    bus = Bus(declared, deployer)
    await bus.promotes(fake_spec(1))
    view = await deployer.until(lambda found: found[0]["state"] == "serving")
    assert view["url"] == f"http://loan-champion.{namespace.name}.svc:8080"
    [said] = await bus.said(at_least=1)
    assert isinstance(said.event, ModelDeployed)
    assert (said.event.backend, said.event.image) == ("kubernetes", SERVER_IMAGE)
    [container] = namespace.get("deployments", "loan-champion-v1")["spec"]["template"]["spec"]["initContainers"]
    assert f"{deployer.registry.url}/v1/artifacts/{fake_spec(1).digest}" in container["command"]
    assert deployer.stop() == 0
    assert namespace.behind("loan-champion") == {"1"}


async def test_a_deployer_that_was_killed_finds_everything_again(
    deployer: Deployer, declared: Client, namespace: Namespace
) -> None:
    bus = Bus(declared, deployer)
    await bus.promotes(fake_spec(1))
    await deployer.until(lambda found: found[0]["state"] == "serving")
    deployer.kill()
    namespace.fate(2, "pull")
    await bus.promotes(fake_spec(2))
    deployer.start()
    said = await bus.said(at_least=2)
    assert isinstance(said[-1].event, ModelDeploymentFailed)
    assert said[-1].event.still_serving == 1
    assert [view["url"] for view in await deployer.deployments()] == [f"http://loan-champion.{namespace.name}.svc:8080"]


def test_two_deployers_share_what_they_know_in_postgresql(tmp_path: Path) -> None:
    server = Postgres()
    server.start()
    try:
        url = server.new_database()
        stores = [Store(tmp_path / name, url) for name in ("one", "two")]
        for store in stores:
            store.open()
        wishes = [
            msgspec.structs.replace(wish(number), promoted_at=f"2026-01-01T00:00:{number:02d}Z")
            for number in range(1, 21)
        ]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: stores[number % 2].wish(SLOT, wishes[number]), range(20)))
        for store in stores:
            [situation] = store.situations()
            assert situation.wish == wishes[-1]
            store.close()
    finally:
        server.stop()
