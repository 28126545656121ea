"""What the objects of a version mean: how it is, and what ails it, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from affiant.deployer.backends.kubernetes import names
from affiant.deployer.backends.kubernetes.cluster import Object
from affiant.deployer.domain.situation import Phase

_PULLING = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ErrImageInspect",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CREATING = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"}
_LONGEST_WORDS = 400


@dataclass(frozen=True)
class Trouble:
    """What ails a version: the kind of `cause` (one word) and the words. `crashed`: whose log tells more."""

    cause: str
    words: str
    crashed: tuple[str, str, int] | None = None
    """Pod, container, and how often it was started anew."""
    grave: bool = True
    """Whether it is a failure at once, or only what is waited for."""


@dataclass
class Group:
    """All objects of one version under one alias, by kind; its pods separately."""

    objects: dict[str, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)

    @property
    def deployment(self) -> Object | None:
        """What its pods come from."""
        return self.objects.get("Deployment")

    def live_pods(self) -> list[Object]:
        """Those that are not on their way out, by name."""
        live = [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"]]
        return sorted(live, key=lambda pod: str(pod["metadata"]["name"]))


def phase(deployment: Object, *, answers: bool) -> Phase:
    """How a Deployment is, but for its troubles.

    One that has not answered yet is ready when every replica is; one that `answers` already stays ready while any
    replica is available, whatever is being changed of it.
    """
    metadata, status = deployment["metadata"], deployment.get("status", {})
    if "deletionTimestamp" in metadata:
        return "draining"
    if names.ASLEEP_SINCE in metadata.get("annotations", {}):
        return "idle"
    available = status.get("availableReplicas", 0)
    if answers and available:
        return "ready"
    return "ready" if available and is_rolled_out(deployment) else "starting"


def is_rolled_out(deployment: Object) -> bool:
    """Whether all replicas are of the newest template and available, and no older one is left."""
    wanted = deployment["spec"].get("replicas", 1)
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas"))
    return seen and all(count == wanted for count in counts)


def since(deployment: Object) -> float:
    """Since when it is available or not (seconds since 1970); since it was made, where that is not said."""
    metadata = deployment["metadata"]
    asleep = metadata.get("annotations", {}).get(names.ASLEEP_SINCE)
    if asleep:
        return seconds(asleep)
    conditions = {each["type"]: each for each in deployment.get("status", {}).get("conditions", [])}
    changed = conditions.get("Available", {}).get("lastTransitionTime") or metadata["creationTimestamp"]
    return seconds(changed)


def trouble(deployment: Object, pods: Iterable[Object]) -> Trouble | None:
    """What keeps it from being as it should be: what the pods say, else what the Deployment says of itself."""
    found = [each for pod in pods if (each := _trouble_of_pod(pod)) is not None]
    # A crash tells more than a pod that waits for its image; what is only waited for comes last.
    found.sort(key=lambda each: (not each.grave, each.cause != "crash", each.words))
    told = _trouble_of_deployment(deployment)
    if told is not None and told.grave:
        return told
    return found[0] if found else told


def _trouble_of_deployment(deployment: Object) -> Trouble | None:
    conditions = {each["type"]: each for each in deployment.get("status", {}).get("conditions", [])}
    refused = conditions.get("ReplicaFailure")
    if refused and refused["status"] == "True":
        return _why_no_pod(str(refused.get("message", "")))
    stuck = conditions.get("Progressing")
    if stuck and stuck["status"] == "False" and stuck.get("reason") == "ProgressDeadlineExceeded":
        return Trouble("stuck", f"the roll-out does not get on: {stuck.get('message', '')}")
    return None


def _why_no_pod(message: str) -> Trouble:
    words = _short(message)
    if "exceeded quota" in message or "failed quota" in message:
        return Trouble("quota", f"the namespace's quota allows no more pods: {words}")
    return Trouble("refused", f"the API server admits no pod of it: {words}")


def _trouble_of_pod(pod: Object) -> Trouble | None:
    spec, status = pod["spec"], pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        found = _trouble_of_container(pod, container)
        if found is not None:
            return found
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            words = f"no node takes the pod {pod['metadata']['name']}: {_short(condition.get('message', ''))}"
            # A node may be on its way: it is a failure when the patience for getting ready is over.
            return Trouble("unschedulable", words, grave=False)
    if status.get("phase") == "Failed":
        why = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
        return Trouble("pod", f"a pod failed: {_short(why) or 'no reason was given'}", grave=bool(spec))
    return None


def _trouble_of_container(pod: Object, container: Object) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in _PULLING:
        image = container.get("image") or "its image"
        return Trouble("pull", f"the image {image} cannot be pulled ({reason}): {_short(message) or 'no message'}")
    if reason in _CREATING:
        words = f"the container {container['name']} cannot be started ({reason}): {_short(message)}"
        return Trouble("start", words)
    if reason == "CrashLoopBackOff":
        who = (str(pod["metadata"]["name"]), str(container["name"]), int(container.get("restartCount", 0)))
        return Trouble("crash", f"the container {container['name']} crashes again and again ({_how(container)})", who)
    return None


def _how(container: Object) -> str:
    ended = container.get("lastState", {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "CrashLoopBackOff: killed because it used more memory than its limit"
    code = ended.get("exitCode")
    return "CrashLoopBackOff" if code is None else f"CrashLoopBackOff: exit code {code}"


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST_WORDS else f"{line[:_LONGEST_WORDS]}…"


def seconds(timestamp: str) -> float:
    """RFC 3339 as seconds since 1970."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
