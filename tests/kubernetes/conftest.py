"""The same tests on a fake API server, always, and on a real one (marker `k8s`), where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from affiant.deployer.store import Store
from tests.kubernetes import control_plane
from tests.kubernetes.world import Deployer, Namespace, World

MISSING = (
    "NO REAL kube-apiserver: build one with tests/kubernetes/build.sh (Go 1.26, about fifteen minutes once), "
    "or set KUBEBUILDER_ASSETS to a folder with " + ", ".join(control_plane.PROGRAMS)
)


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.k8s)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An API server with a node."""
    assets = control_plane.assets() if request.param == "real" else None
    if request.param == "real" and assets is None:
        pytest.skip(MISSING)
    made = World(request.param, tmp_path_factory.mktemp(request.param), assets)
    yield made
    made.close()


@pytest.fixture
def namespace(world: World) -> Namespace:
    """A namespace of its own for each test."""
    return world.namespace()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "data")
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
async def deployers(namespace: Namespace, store: Store) -> AsyncIterator[Callable[..., Awaitable[Deployer]]]:
    """Starts deployers, and ends those that still run."""
    started: list[Deployer] = []

    async def start(**more: Any) -> Deployer:
        started.append(Deployer(namespace, store, **more))
        return await started[-1].start()

    yield start
    for deployer in started:
        await deployer.stop()


@pytest.fixture
async def deployer(deployers: Callable[..., Awaitable[Deployer]]) -> Deployer:
    """One deployer."""
    return await deployers()
