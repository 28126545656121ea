"""A part of the champion's requests for the challenger; challengers that sleep; KServe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from affiant.common.events import ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from affiant.deployer.domain.situation import Limits
from tests.kubernetes.kubelet import MERGE
from tests.kubernetes.world import Deployer, Namespace, is_ready

Start = Callable[..., Awaitable[Deployer]]

GATEWAY, KSERVE = "gateway.networking.k8s.io/v1", "serving.kserve.io/v1beta1"


def _behind(namespace: Namespace) -> dict[str, int]:
    """How many ready pods of each version the champion's Service picks."""
    picks = namespace.get("services", "loan-champion", "v1")["spec"]["selector"].items()
    versions = [
        pod["metadata"]["labels"]["affiant.dev/version"]
        for pod in namespace.pods()
        if picks <= pod["metadata"]["labels"].items() and is_ready(pod)
    ]
    return {version: versions.count(version) for version in sorted(set(versions))}


async def _canary(deployer: Deployer, traffic: int) -> ModelDeployed:
    await deployer.promote(1)
    await deployer.until_serving(1)
    await deployer.promote(2, alias="challenger", traffic=traffic)
    event: ModelDeployed = await deployer.until_said(lambda event: event.traffic == traffic, ModelDeployed)
    return event


async def test_without_a_gateway_a_share_is_given_by_replicas_and_that_is_said(
    deployer: Deployer, namespace: Namespace
) -> None:
    event = await _canary(deployer, 25)
    assert (event.version, event.alias) == (2, "challenger")
    await deployer.until(lambda: _behind(namespace) == {"1": 3, "2": 1})
    assert event.traffic_by.endswith("replicas")
    champion = await deployer.view()
    challenger = await deployer.view(alias="challenger")
    assert champion and challenger and (champion.state, challenger.traffic) == ("serving", 25)


async def test_a_share_that_is_taken_away_is_gone_at_once_and_said(deployer: Deployer, namespace: Namespace) -> None:
    await _canary(deployer, 25)
    await deployer.promote(2, alias="challenger", traffic=0)
    await deployer.until_said(lambda event: (event.version, event.traffic) == (2, 0), ModelDeployed)
    await deployer.until(lambda: set(_behind(namespace)) == {"1"})


async def test_a_challenger_that_is_not_well_loses_its_share(deployer: Deployer, namespace: Namespace) -> None:
    await _canary(deployer, 25)
    namespace.fate(2, "crash")
    await deployer.until_said(lambda event: event.version == 2, ModelDeploymentFailed)
    await deployer.until(lambda: set(_behind(namespace)) == {"1"})
    namespace.fate(2, "ready")
    await deployer.until(lambda: set(_behind(namespace)) == {"1", "2"})


async def test_with_a_gateway_a_share_is_given_by_weights(deployers: Start, namespace: Namespace) -> None:
    namespace.world.install("httproutes", GATEWAY, "HTTPRoute")
    deployer = await deployers(settings={"gateway": "gateways/public", "domain": "models.example.com"})
    event = await _canary(deployer, 10)
    assert event.traffic_by == "weights of an HTTPRoute"
    route = namespace.get("httproutes", "loan-champion", GATEWAY)["spec"]
    weights = [(one["name"], one["weight"]) for one in route["rules"][0]["backendRefs"]]
    assert weights == [("loan-champion", 90), ("loan-challenger", 10)]
    assert route["hostnames"] == ["loan-champion.models.example.com"]
    champion = await deployer.view()
    assert champion is not None and champion.url == "https://loan-champion.models.example.com"
    assert _behind(namespace) == {"1": 1}


async def test_an_idle_challenger_is_scaled_to_zero_and_comes_back(deployers: Start, namespace: Namespace) -> None:
    deployer = await deployers(limits=Limits(ready=60.0, drain=60.0, look=0.2, idle=1.0))
    await deployer.promote(1)
    await deployer.promote(2, alias="challenger")
    event = await deployer.until_said(lambda event: event.version == 2, ModelUndeployed)
    assert event.reason.startswith("scaled to zero")
    await deployer.until(lambda: not namespace.pods(alias="challenger"))
    asleep = await deployer.view(alias="challenger")
    assert asleep is not None and asleep.state == "idle"
    assert "loan-challenger-v2" not in namespace.all("horizontalpodautoscalers", "autoscaling/v2")
    await deployer.promote(2, alias="challenger", traffic=50)
    await deployer.until_said(lambda event: event.traffic == 50, ModelDeployed)
    await deployer.until(lambda: set(_behind(namespace)) == {"1", "2"})


async def test_with_kserve_a_version_is_an_inference_service(deployers: Start, namespace: Namespace) -> None:
    namespace.world.install("inferenceservices", KSERVE, "InferenceService")
    sink = "http://affiant-auditor:8404/sinks/kserve"
    deployer = await deployers(settings={"runtime": "kserve", "sink_url": sink})
    await deployer.promote(1)
    made = await deployer.until(lambda: namespace.get("inferenceservices", "loan-champion-v1", KSERVE))
    predictor = made["spec"]["predictor"]
    assert predictor["logger"] == {"mode": "all", "url": sink}
    assert predictor["model"]["storageUri"].startswith("oci://registry.example.com/models/loan@sha256:")
    _kserve_says(namespace, "loan-champion-v1", "True")
    event = await deployer.until_said(lambda event: event.version == 1, ModelDeployed)
    assert event.url == "http://loan-champion-v1.example.com"


async def test_what_kserve_says_of_a_failure_is_told(deployers: Start, namespace: Namespace) -> None:
    namespace.world.install("inferenceservices", KSERVE, "InferenceService")
    deployer = await deployers(settings={"runtime": "kserve", "sink_url": "http://affiant-auditor:8404/sinks/kserve"})
    await deployer.promote(1)
    await deployer.until(lambda: namespace.get("inferenceservices", "loan-champion-v1", KSERVE))
    failure = {"lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such operator"}}
    _kserve_says(namespace, "loan-champion-v1", "False", modelStatus=failure)
    event = await deployer.until_said(lambda _: True, ModelDeploymentFailed)
    assert event.reason == "KServe cannot serve it (ModelLoadFailed): no such operator"


def _kserve_says(namespace: Namespace, name: str, ready: str, **more: object) -> None:
    found = namespace.get("inferenceservices", name, KSERVE)
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "conditions": [{"type": "Ready", "status": ready}],
        "url": f"http://{name}.example.com",
        **more,
    }
    path = f"/apis/{KSERVE}/namespaces/{namespace.name}/inferenceservices/{name}/status"
    answer = namespace.world.http.patch(path, json={"status": status}, headers=MERGE)
    assert answer.is_success, answer.text
