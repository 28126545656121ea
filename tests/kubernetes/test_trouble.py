"""API servers that are away, overloaded, forgetful, or shared with others; and two hundred models."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from affiant.common.events import ModelDeployed
from affiant.deployer.backends.kubernetes import cluster as api
from affiant.deployer.domain.situation import Limits
from tests.kubernetes.fake_apiserver import FakeApiServer
from tests.kubernetes.world import Deployer, Namespace

Start = Callable[..., Awaitable[Deployer]]

MODELS = 200


def _fake(namespace: Namespace) -> FakeApiServer:
    if not isinstance(namespace.world.server, FakeApiServer):
        pytest.skip("a real API server does not misbehave on demand")
    return namespace.world.server


@pytest.mark.parametrize("answer", [(429, "1"), (429, ""), (500, ""), (503, "1"), (409, "")])
async def test_an_answer_that_will_pass_is_only_waited_for(
    deployer: Deployer, namespace: Namespace, answer: tuple[int, str]
) -> None:
    fake = _fake(namespace)
    await deployer.promote(1)
    await deployer.until_serving(1)
    fake.refuse_with += [answer] * 6
    await deployer.promote(2)
    await deployer.until(lambda: not fake.refuse_with)
    await deployer.until_serving(2)
    assert len([event for event in deployer.said() if "failed" in event.name]) <= (1 if answer[0] == 409 else 0)


async def test_a_server_that_asks_for_a_pause_gets_it(deployer: Deployer, namespace: Namespace) -> None:
    fake = _fake(namespace)
    await deployer.until(deployer.backend.leads)
    began = time.monotonic()
    fake.refuse_with.append((429, "2"))
    await deployer.until(lambda: not fake.refuse_with)
    await deployer.promote(1)
    await deployer.until_serving(1)
    assert time.monotonic() - began > 2.0


async def test_a_watch_that_fell_too_far_behind_lists_anew(deployer: Deployer, namespace: Namespace) -> None:
    fake = _fake(namespace)
    await deployer.promote(1)
    await deployer.until_serving(1)
    for _ in range(3):
        fake.forget_the_past()
    await deployer.promote(2)
    await deployer.until_serving(2)
    namespace.delete("deployments", "loan-champion-v2")
    await deployer.until(lambda: namespace.get("deployments", "loan-champion-v2"))


async def test_a_deployer_that_starts_while_the_api_server_is_away_waits(
    deployers: Start, namespace: Namespace
) -> None:
    namespace.world.server.stop()
    try:
        deployer = await deployers()
        await deployer.promote(1)
        assert not deployer.backend.leads()
    finally:
        namespace.world.server.start()
    await deployer.until_serving(1)


async def test_another_installation_in_the_namespace_is_left_alone(deployers: Start, namespace: Namespace) -> None:
    labels = {
        "app.kubernetes.io/managed-by": "affiant-deployer",
        "app.kubernetes.io/instance": "another",
        "affiant.dev/model": "loan",
        "affiant.dev/alias": "champion",
        "affiant.dev/version": "7",
    }
    metadata = {"name": "another-v7", "labels": labels}
    namespace.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    deployer = await deployers()
    await deployer.promote(1)
    await deployer.until_serving(1)
    assert "another-v7" in namespace.all("configmaps", "v1")


async def test_two_hundred_models_are_reconciled(deployers: Start, capsys: pytest.CaptureFixture[str]) -> None:
    patient: dict[str, Any] = {"lease_seconds": 60.0, "limits": Limits(ready=600.0, drain=60.0, look=1.0)}
    deployer = await deployers(**patient)
    kind = deployer.namespace.world.kind
    # The fake's controllers look at everything at each change: two hundred would measure them.
    models = MODELS if kind == "real" else MODELS // 5
    await deployer.until(deployer.backend.leads)
    before, began = _calls(), time.monotonic()
    for number in range(models):
        await deployer.promote(1, model=f"model-{number}")
    await deployer.until(lambda: _served(deployer) == models, seconds=280.0)
    rolled_out, calls = time.monotonic() - began, _calls() - before
    looks, before = [], _calls()
    for _ in range(11):
        began = time.monotonic()
        await deployer.reconciler.reconcile()
        looks.append(time.monotonic() - began)
    idle_calls = _calls() - before
    await deployer.stop()
    restarted = await deployers(name="restarted", **patient)
    before, began = _calls(), time.monotonic()
    await restarted.until(restarted.backend.leads)
    known, known_calls = time.monotonic() - began, _calls() - before
    await restarted.reconciler.reconcile()
    with capsys.disabled():
        print(  # noqa: T201 # the figures are what this is for
            f"\n{kind}: {models} models rolled out in {rolled_out:.1f} s with {calls:.0f} calls "
            f"({calls / models:.1f} a model); a look at all {sorted(looks)[5] * 1000:.0f} ms (median of 11) with "
            f"{idle_calls / 11:.1f} calls; a new deployer leads after {known:.2f} s and {known_calls:.0f} calls"
        )
    assert (idle_calls, _served(restarted)) == (0, models)


def _served(deployer: Deployer) -> int:
    return len([event for event in deployer.said() if isinstance(event, ModelDeployed)])


def _calls() -> float:
    samples = [sample for metric in api.calls.collect() for sample in metric.samples]
    return sum(
        sample.value for sample in samples if sample.name.endswith("_total") and sample.labels["kind"] != "Lease"
    )
