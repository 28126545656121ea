"""What a promotion comes to in a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from affiant.common.events import ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from affiant.deployer.backends.kubernetes import cluster as api
from tests.kubernetes.kubelet import CORES, LAST_WORDS
from tests.kubernetes.world import SERVER_IMAGE, Deployer, Namespace

Start = Callable[..., Awaitable[Deployer]]

KINDS = [
    ("deployments", "apps/v1"),
    ("services", "v1"),
    ("serviceaccounts", "v1"),
    ("configmaps", "v1"),
    ("horizontalpodautoscalers", "autoscaling/v2"),
    ("poddisruptionbudgets", "policy/v1"),
    ("networkpolicies", "networking.k8s.io/v1"),
]


async def test_a_promoted_version_is_rolled_out_and_told_of(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    view = await deployer.until_serving(1)
    [event] = deployer.said()
    assert isinstance(event, ModelDeployed)
    assert (event.version, event.backend, event.url) == (1, "kubernetes", view.url)
    assert event.url == f"http://loan-champion.{namespace.name}.svc:8080"
    assert (event.image, event.model_image.split("@")[0]) == (SERVER_IMAGE, "registry.example.com/models/loan")
    assert event.replicas == [pod["metadata"]["name"] for pod in namespace.pods(version="1")]
    assert namespace.behind("loan-champion") == {"1"}


async def test_every_kind_of_object_is_there_and_has_its_owners_labels(
    deployer: Deployer, namespace: Namespace
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    for plural, kind in KINDS:
        name = "loan-champion" if plural == "services" else "loan-champion-v1"
        labels = namespace.get(plural, name, kind)["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "affiant-deployer", plural
        assert (labels["affiant.dev/model"], labels["affiant.dev/alias"]) == ("loan", "champion")


async def test_a_version_is_not_reached_before_it_is_rolled_out(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.fate(2, "never ready")
    await deployer.promote(2)
    await deployer.until(lambda: namespace.pods(version="2"))
    assert namespace.behind("loan-champion") == {"1"}
    namespace.fate(2, "ready")
    await deployer.until_serving(2)
    assert namespace.behind("loan-champion") == {"2"}
    told = [(event.version, event.previous_version) for event in deployer.said() if isinstance(event, ModelDeployed)]
    assert told == [(1, None), (2, 1)]


async def test_of_the_version_before_nothing_is_left(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    await deployer.promote(2)
    await deployer.until_serving(2)
    for plural, kind in KINDS:
        await deployer.until(lambda plural=plural, kind=kind: "loan-champion-v1" not in namespace.all(plural, kind))
    await deployer.until(lambda: not namespace.pods(version="1"))


async def test_a_new_version_begins_with_as_many_replicas_as_the_old_one_has(
    deployer: Deployer, namespace: Namespace
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.edit("deployments", "loan-champion-v1", {"spec": {"replicas": 3}}, manager="autoscaler")
    await deployer.until(lambda: len(namespace.pods(version="1")) == 3)
    await deployer.promote(2)
    await deployer.until_serving(2)
    assert len(namespace.pods(version="2")) == 3


async def test_an_image_that_cannot_be_pulled_is_told_of_and_the_old_version_serves_on(
    deployer: Deployer, namespace: Namespace
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.fate(2, "pull")
    await deployer.promote(2)
    event = await deployer.until_said(lambda event: event.version == 2, ModelDeploymentFailed)
    assert f"the image {SERVER_IMAGE} cannot be pulled (ImagePullBackOff): Back-off pulling image" in event.reason
    assert event.still_serving == 1
    assert namespace.behind("loan-champion") == {"1"}


async def test_a_crash_is_told_of_with_its_last_words(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.fate(2, "crash")
    await deployer.promote(2)
    event = await deployer.until_said(lambda event: event.version == 2, ModelDeploymentFailed)
    assert "the container model-server crashes again and again (CrashLoopBackOff: exit code 2)" in event.reason
    assert event.reason.endswith(f"it wrote: {LAST_WORDS.strip()}")
    assert (event.still_serving, namespace.behind("loan-champion")) == (1, {"1"})


async def test_what_failed_and_got_well_takes_over_without_a_new_promotion(
    deployer: Deployer, namespace: Namespace
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.fate(2, "pull")
    await deployer.promote(2)
    await deployer.until_said(lambda event: event.version == 2, ModelDeploymentFailed)
    namespace.fate(2, "ready")
    await deployer.until_serving(2)
    assert sum(isinstance(event, ModelDeploymentFailed) for event in deployer.said()) == 1


async def test_pods_that_no_node_takes_are_told_of_when_patience_is_over(deployers: Start) -> None:
    from affiant.deployer.domain.situation import Limits

    limits = Limits(ready=2.0, drain=60.0, look=0.2)
    deployer = await deployers(settings={"cpu_request": str(CORES + 1)}, limits=limits)
    await deployer.promote(1)
    event = await deployer.until_said(lambda _: True, ModelDeploymentFailed)
    assert "the model server was not ready within 2 s: no node takes the pod loan-champion-v1-" in event.reason
    assert "Insufficient cpu" in event.reason


async def test_a_quota_that_is_used_up_is_told_of(deployer: Deployer, namespace: Namespace) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    namespace.create("resourcequotas", quota)
    await deployer.promote(1)
    event = await deployer.until_said(lambda _: True, ModelDeploymentFailed)
    assert event.reason.startswith("the namespace's quota allows no more pods: ")
    assert "exceeded quota: none" in event.reason


async def test_an_object_of_somebody_else_is_not_taken(deployer: Deployer, namespace: Namespace) -> None:
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "loan-champion-v1", "labels": labels}}
    namespace.create("configmaps", {**theirs, "data": {"precious": "yes"}})
    await deployer.promote(1)
    event = await deployer.until_said(lambda _: True, ModelDeploymentFailed)
    said = "there is a ConfigMap loan-champion-v1 already, which belongs to Helm"
    assert event.reason == f"the cluster refuses it: {said}"
    kept = namespace.get("configmaps", "loan-champion-v1", "v1")
    assert (kept["data"], kept["metadata"]["labels"]) == ({"precious": "yes"}, labels)


async def test_what_is_archived_is_taken_away_with_its_address(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    await deployer.archive(1, "champion")
    await deployer.until_said(lambda event: event.version == 1, ModelUndeployed)
    for plural, kind in KINDS:
        await deployer.until(lambda plural=plural, kind=kind: not _of_models(namespace.all(plural, kind)))


@pytest.mark.parametrize(
    ("plural", "name", "kind"),
    [
        ("deployments", "loan-champion-v1", "apps/v1"),
        ("services", "loan-champion", "v1"),
        ("networkpolicies", "loan-champion-v1", "networking.k8s.io/v1"),
        ("horizontalpodautoscalers", "loan-champion-v1", "autoscaling/v2"),
    ],
)
async def test_what_somebody_deletes_is_made_again(
    deployer: Deployer, namespace: Namespace, plural: str, name: str, kind: str
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    uid = namespace.get(plural, name, kind)["metadata"]["uid"]
    namespace.delete(plural, name, kind)
    await deployer.until(lambda: namespace.get(plural, name, kind)["metadata"]["uid"] != uid)
    await deployer.until_serving(1)


async def test_what_somebody_edits_is_put_right_and_the_editor_is_named(
    deployer: Deployer, namespace: Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    other = "registry.example.com/affiant/other@sha256:" + "6" * 64
    containers = namespace.get("deployments", "loan-champion-v1")["spec"]["template"]["spec"]["containers"]
    edited = [{**containers[0], "image": other}]
    namespace.edit("deployments", "loan-champion-v1", {"spec": {"template": {"spec": {"containers": edited}}}})
    assert _image(namespace) in (other, SERVER_IMAGE)
    await deployer.until(lambda: _image(namespace) == SERVER_IMAGE)
    await deployer.until_serving(1)
    assert "kubectl-edit" in capsys.readouterr().out


async def test_a_service_that_somebody_turned_elsewhere_is_turned_back(
    deployer: Deployer, namespace: Namespace
) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.edit("services", "loan-champion", {"spec": {"selector": {"affiant.dev/version": "9"}}}, "v1")
    await deployer.until(lambda: namespace.behind("loan-champion") == {"1"})


async def test_fields_of_others_that_we_do_not_set_are_left_alone(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    note = {"metadata": {"annotations": {"example.com/cost-centre": "42"}}}
    namespace.edit("deployments", "loan-champion-v1", note)
    namespace.delete("networkpolicies", "loan-champion-v1", "networking.k8s.io/v1")
    await deployer.until(lambda: namespace.get("networkpolicies", "loan-champion-v1", "networking.k8s.io/v1"))
    kept = namespace.get("deployments", "loan-champion-v1")["metadata"]["annotations"]
    assert kept["example.com/cost-centre"] == "42"


async def test_what_a_dead_deployer_left_behind_is_taken_away(deployers: Start, namespace: Namespace) -> None:
    first = await deployers()
    await first.promote(1)
    await first.until_serving(1)
    await first.kill()
    await first.promote(2)
    second = await deployers(name="deployer-2")
    await second.until_serving(2)
    labels = namespace.get("deployments", "loan-champion-v2")["metadata"]["labels"]
    stray = {"name": "loan-champion-v9", "labels": labels | {"affiant.dev/version": "9"}}
    namespace.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": stray})
    await second.until(lambda: "loan-champion-v9" not in namespace.all("configmaps", "v1"))
    await second.until(lambda: "loan-champion-v1" not in namespace.all("deployments"))


async def test_of_two_deployers_one_leads_and_the_other_takes_over(deployers: Start, namespace: Namespace) -> None:
    first = await deployers(name="first")
    await first.until(first.backend.leads)
    second = await deployers(name="second")
    await first.promote(1)
    await first.until_serving(1)
    assert not second.backend.leads()
    await first.kill()
    await first.promote(2)
    await second.until(second.backend.leads)
    assert not first.backend.leads()
    await second.until_serving(2)
    lease = namespace.get("leases", "affiant-deployer", "coordination.k8s.io/v1")
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("second", 1)


async def test_a_deployer_that_is_stopped_hands_over_at_once(deployers: Start) -> None:
    first = await deployers(name="first", lease_seconds=600.0)
    await first.until(first.backend.leads)
    await first.stop()
    second = await deployers(name="second", lease_seconds=600.0)
    await second.until(second.backend.leads)


async def test_an_api_server_that_was_away_is_caught_up_with(deployer: Deployer, namespace: Namespace) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    namespace.world.server.stop()
    try:
        await deployer.promote(2)
        await deployer.until(lambda: not deployer.backend.leads())
    finally:
        namespace.world.server.start()
    await deployer.until_serving(2)
    assert namespace.behind("loan-champion") == {"2"}


async def test_nothing_is_asked_while_nothing_changes(deployer: Deployer) -> None:
    await deployer.promote(1)
    await deployer.until_serving(1)
    before = _calls()
    for _ in range(20):
        await deployer.reconciler.reconcile()
    # The Lease is renewed all the same.
    assert _calls() == before


def _calls() -> float:
    samples = [sample for metric in api.calls.collect() for sample in metric.samples]
    return sum(
        sample.value for sample in samples if sample.name.endswith("_total") and sample.labels["kind"] != "Lease"
    )


def _image(namespace: Namespace) -> str:
    [container] = namespace.get("deployments", "loan-champion-v1")["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def _of_models(found: dict[str, dict[str, object]]) -> list[str]:
    return [name for name in found if name.startswith("loan-")]
