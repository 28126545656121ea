"""What objects of a cluster mean, how they differ, and which replicas make a share."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from affiant.deployer.backends.kubernetes import kserve, names, reading, shares
from affiant.deployer.backends.kubernetes.drift import differences

Object = dict[str, Any]


def deployment(replicas: int = 2, available: int = 2, **status: Any) -> Object:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available}
    return {
        "metadata": {"name": "loan-champion-v1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, **counts, **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Object:
    container = {"name": "model-server", "image": "example.com/x@sha256:1", "state": {"waiting": {"reason": reason}}}
    container["state"]["waiting"]["message"] = message  # type: ignore[index]
    return {"metadata": {"name": "pod-1"}, "spec": {}, "status": {"containerStatuses": [container | more]}}


def test_a_new_version_is_ready_when_every_replica_is() -> None:
    assert reading.phase(deployment(2, 1), answers=False) == "starting"
    assert reading.phase(deployment(2, 2), answers=False) == "ready"


def test_what_answers_already_stays_ready_while_a_replica_does() -> None:
    assert reading.phase(deployment(2, 1), answers=True) == "ready"
    assert reading.phase(deployment(2, 0), answers=True) == "starting"


def test_what_the_controller_has_not_seen_yet_is_not_ready() -> None:
    assert reading.phase(deployment(observedGeneration=0), answers=False) == "starting"


def test_what_sleeps_is_idle() -> None:
    asleep = deployment(0, 0)
    asleep["metadata"]["annotations"] = {names.ASLEEP_SINCE: "2026-01-01T00:00:01Z"}
    assert reading.phase(asleep, answers=False) == "idle"
    assert reading.since(asleep) == reading.seconds("2026-01-01T00:00:01Z")


@pytest.mark.parametrize(
    ("pod", "cause", "words"),
    [
        (waiting("ErrImagePull", "denied"), "pull", "cannot be pulled (ErrImagePull): denied"),
        (waiting("ImagePullBackOff"), "pull", "the image example.com/x@sha256:1 cannot be pulled"),
        (waiting("CreateContainerConfigError", 'secret "bus" not found'), "start", 'secret "bus" not found'),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "crash",
            "used more memory than its limit",
        ),
        (waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 2}}), "crash", "exit code 2"),
    ],
)
def test_what_a_pod_waits_for_is_said_in_words(pod: Object, cause: str, words: str) -> None:
    trouble = reading.trouble(deployment(), [pod])
    assert trouble is not None and trouble.grave
    assert trouble.cause == cause
    assert words in trouble.words


def test_a_crash_tells_more_than_a_pod_that_waits_for_its_image() -> None:
    trouble = reading.trouble(deployment(), [waiting("ImagePullBackOff"), waiting("CrashLoopBackOff", restartCount=4)])
    assert trouble is not None
    assert trouble.crashed == ("pod-1", "model-server", 4)


def test_a_container_that_is_being_made_is_no_trouble() -> None:
    assert reading.trouble(deployment(), [waiting("ContainerCreating")]) is None


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ('pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1', "quota"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "refused"),
    ],
)
def test_pods_that_may_not_be_made_are_told_apart(message: str, cause: str) -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    trouble = reading.trouble(deployment(conditions=[condition]), [])
    assert trouble is not None
    assert (trouble.cause, trouble.grave) == (cause, True)


def test_a_node_may_be_on_its_way() -> None:
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    pod = {"metadata": {"name": "pod-1"}, "spec": {}, "status": {"conditions": [unschedulable]}}
    trouble = reading.trouble(deployment(), [pod])
    assert trouble is not None
    assert (trouble.grave, trouble.words) == (False, "no node takes the pod pod-1: 0/3 nodes are available")


WANTED: Object = {
    "metadata": {"name": "x", "labels": {"a": "1"}},
    "spec": {"containers": [{"name": "c", "image": "i@sha256:1", "ports": [{"name": "http", "containerPort": 1}]}]},
}


def test_defaults_and_the_fields_of_others_are_no_difference() -> None:
    actual = copy.deepcopy(WANTED)
    actual["metadata"]["labels"]["b"] = "2"
    actual["spec"]["replicas"] = 3
    actual["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP"
    actual["spec"]["containers"].insert(0, {"name": "sidecar"})
    assert differences(WANTED, actual) == []


def test_a_difference_is_named_by_its_path() -> None:
    actual = copy.deepcopy(WANTED)
    actual["metadata"]["labels"] = {}
    actual["spec"]["containers"][0]["image"] = "other"
    assert differences(WANTED, actual) == ["metadata.labels.a", "spec.containers[c].image"]


def test_a_list_without_keys_is_compared_item_by_item() -> None:
    rules = {"spec": {"ingress": [{"ports": [{"port": 53}, {"port": 53, "protocol": "TCP"}]}]}}
    assert differences(rules, copy.deepcopy(rules)) == []
    assert differences(rules, {"spec": {"ingress": [{"ports": [{"port": 53}]}, {}]}}) == ["spec.ingress"]


def test_an_empty_value_that_the_server_leaves_out_is_no_difference() -> None:
    assert differences({"spec": {"emptyDir": {}, "items": []}}, {"spec": {}}) == []


@pytest.mark.parametrize(
    ("percent", "total", "most", "expected"),
    [(10, 2, 10, (9, 1)), (50, 2, 10, (1, 1)), (25, 4, 10, (3, 1)), (1, 2, 10, (9, 1)), (10, 12, 10, (11, 1))],
)
def test_the_nearest_share_with_the_fewest_replicas_is_taken(
    percent: int, total: int, most: int, expected: tuple[int, int]
) -> None:
    assert shares.replicas_for(percent, total, most) == expected


def test_kserves_conditions_are_read() -> None:
    service: Object = {"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "url": "http://x"}
    assert kserve.phase(service | {"status": ready | {"observedGeneration": 1}})[0] == "starting"
    assert kserve.phase(service | {"status": ready | {"observedGeneration": 2}})[0] == "ready"
    assert kserve.url(service | {"status": ready}) == "http://x"
