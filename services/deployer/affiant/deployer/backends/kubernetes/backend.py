"""The back end `kubernetes`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from affiant.common import ids
from affiant.common.delivery import retry_delay
from affiant.common.errors import Problem, Unavailable
from affiant.common.events import ModelSpec
from affiant.deployer.backends.kubernetes import cluster as api, kserve, manifests, names, reading, shares
from affiant.deployer.backends.kubernetes.cluster import Cluster, Kind, Object, Refusal
from affiant.deployer.backends.kubernetes.drift import differences
from affiant.deployer.backends.kubernetes.election import Election
from affiant.deployer.backends.kubernetes.manifests import Delivery, Installation, Workload
from affiant.deployer.backends.kubernetes.mirror import Mirror
from affiant.deployer.backends.kubernetes.reading import Group
from affiant.deployer.domain.situation import Instance, Phase, Route, Slot
from affiant.deployer.domain.steps import Kept

log = structlog.get_logger(__name__)

_SERVING = (
    api.DEPLOYMENT,
    api.AUTOSCALER,
    api.DISRUPTION_BUDGET,
    api.CONFIG_MAP,
    api.SERVICE_ACCOUNT,
    api.NETWORK_POLICY,
)
"""The kinds of a version's objects, in the order to delete them."""

_IMAGE_VOLUMES_SINCE = (1, 36)
_LOG_LINES = 5

Key = tuple[Slot, int]


class KubernetesBackend:
    """Model servers as Deployments. `changed` is called when something is worth another look.

    All that it knows of the cluster comes from mirrors of the API server's objects, so that looking costs nothing;
    every change is a server-side apply or a delete of this very object.
    """

    name = "kubernetes"

    def __init__(
        self,
        cluster: Cluster,
        installation: Installation,
        *,
        delivery: Delivery | None,
        identity: str,
        lease_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        """`delivery`: how models get into pods; `None`: as an image volume where the cluster is new enough."""
        self._cluster = cluster
        self._installation = installation
        self._delivery = delivery
        self._changed = changed
        self._weighs = False
        self._mirrors: dict[Kind, Mirror] = {}
        lease = f"{installation.name}-deployer"
        self._election = Election(cluster, lease, identity, seconds=lease_seconds, changed=changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._groups: dict[Key, Group] = {}
        self._replicas: dict[Slot, dict[int, str]] = {}
        self._draining: dict[Key, float] = {}
        self._refused: dict[Key, Instance] = {}
        self._logs: dict[tuple[str, str, int], str] = {}
        self._stubborn: dict[tuple[str, str], str] = {}
        # What was compared already and was right: comparing is most of the work of a look.
        self._settled: dict[str, tuple[Workload, tuple[str, ...]]] = {}
        self._addresses: dict[Slot, tuple[str, ...]] = {}
        self._attempts = 0

    @property
    def no_shares(self) -> str:
        """Why a challenger cannot be given a share, where it cannot."""
        if self._installation.runtime != "kserve":
            return ""
        return (
            "with the runtime kserve each version is an InferenceService with an address of its own: nothing splits it"
        )

    @property
    def shares_by(self) -> str:
        """Weights of an HTTPRoute where there is a gateway, else numbers of replicas."""
        if self.no_shares:
            return ""
        return "weights" if self._weighs else "replicas"

    # --- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read how the cluster is reached. What is there is learned in the background, also while it is away."""
        await self._cluster.open()
        self._installation = replace(self._installation, namespace=self._cluster.namespace)
        self._background(self._begin())

    async def close(self, *, stop: bool) -> None:
        """Let another deployer lead. Models go on: a deployer that is replaced must not take them along."""
        del stop
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._election.resign()
        await self._cluster.close()

    def leads(self) -> bool:
        """Whether this deployer holds the Lease and knows what there is."""
        filled = bool(self._mirrors) and all(mirror.is_filled.is_set() for mirror in self._mirrors.values())
        return filled and self._election.leads()

    async def _begin(self) -> None:
        await self._learn()
        selector = names.selector(names.owned(self._installation.name))
        kinds = [*_SERVING, api.SERVICE, api.POD]
        if self._weighs:
            kinds.append(api.HTTP_ROUTE)
        if self._installation.runtime == "kserve":
            kinds = [api.INFERENCE_SERVICE, api.POD]
        self._mirrors = {kind: Mirror(self._cluster, kind, selector, self._changed) for kind in kinds}
        for mirror in self._mirrors.values():
            self._background(mirror.run())
        self._background(self._election.run())

    async def _learn(self) -> None:
        """What the API server can do; asked until it answers."""
        failures = 0
        while True:
            try:
                version = await self._cluster.look_up_version()
                self._weighs = await self._has_gateway()
            except (Unavailable, Refusal) as trouble:
                failures += 1
                log.warning("the cluster cannot be asked yet", reason=str(trouble), failures=failures)
                await asyncio.sleep(min(retry_delay(failures), 30.0))
                continue
            log.info("cluster found", version=".".join(map(str, version)), shares_by=self.shares_by)
            return

    async def _has_gateway(self) -> bool:
        if not self._installation.gateway:
            return False
        found = await self._cluster.has(api.HTTP_ROUTE)
        if not found:
            log.warning("there is no Gateway API here: shares of the traffic are given by numbers of replicas")
        return found

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_of_an_end)
        self._tasks.append(task)

    # --- looking ------------------------------------------------------------------------------------------------

    async def observe(self) -> list[Instance]:
        """Every version of which there is anything at all."""
        self._groups = self._group()
        for key in [key for key in self._draining if key not in self._groups]:
            del self._draining[key]
        await self._read_logs()
        found = {key: self._instance(key, group) for key, group in self._groups.items()} | self._refused
        self._replicas = {}
        for (slot, version), instance in found.items():
            self._replicas.setdefault(slot, {})[version] = instance.replica
        return list(found.values())

    def address(self, slot: Slot) -> str:
        """The base URL of the slot's Service or route, or what KServe says of the version that is ready."""
        if self._installation.runtime == "kserve":
            return self._kserve_address(slot)
        if names.of_slot(slot) not in self._objects(api.SERVICE):
            return ""
        return manifests.url(self._installation, slot, routed=self._weighs)

    def route(self, slot: Slot) -> Route | None:
        """Where the slot's Service leads; nowhere, while it (or the route before it) is not as it was applied."""
        service = self._objects(api.SERVICE).get(names.of_slot(slot))
        if service is None:
            return None
        route = manifests.route_of(service, self._replicas.get(slot, {}))
        if route is None:
            return None
        return route if self._leads_right(slot, service, route.percent) else None

    def _leads_right(self, slot: Slot, service: Object, percent: int) -> bool:
        """Whether the Service, and the route before it, are as they would be applied."""
        revisions = self._revisions(names.of_slot(slot))
        if self._addresses.get(slot) != revisions:
            version = int(service["metadata"]["annotations"][names.VERSION])
            if any(self._differs(manifest) for manifest in self._address_manifests(slot, version, percent)):
                return False
            self._addresses[slot] = revisions
        return True

    def share_in_words(self, slot: Slot) -> str:
        """How the challenger gets its share at this moment."""
        if self._weighs:
            return "weights of an HTTPRoute"
        champion, challenger = (self._current(Slot(slot.model, alias)) for alias in ("champion", "challenger"))
        return f"{challenger} of {champion + challenger} replicas"

    def _group(self) -> dict[Key, Group]:
        groups: dict[Key, Group] = {}
        for kind, mirror in self._mirrors.items():
            for found in mirror.objects.values():
                labels = found["metadata"].get("labels", {})
                slot, version = names.slot_of(labels), names.version_of(labels)
                if slot is None or version is None:
                    continue
                group = groups.setdefault((slot, version), Group())
                if kind is api.POD:
                    group.pods.append(found)
                else:
                    group.objects[kind.name] = found
        return groups

    def _instance(self, key: Key, group: Group) -> Instance:
        (slot, version), now = key, time.time()
        deployment = group.deployment or group.objects.get("InferenceService")
        if deployment is None:
            return self._remains(key, group, now)
        phase, reason, cause, text = self._how(key, group, deployment)
        metadata = deployment["metadata"]
        began = reading.seconds(metadata["creationTimestamp"])
        return Instance(
            slot=slot,
            version=version,
            digest=metadata.get("annotations", {}).get(names.DIGEST, ""),
            replica=f"{metadata['name']}-{metadata['uid'][:8]}",
            phase=phase,
            started_at=began,
            changed_at=reading.since(deployment),
            heard_at=now,
            drain_asked_at=self._draining.setdefault(key, now) if phase == "draining" else None,
            reason=reason,
            cause=cause,
            log=text,
            copies=tuple(pod["metadata"]["name"] for pod in group.live_pods()),
            recovers=True,
            settled=deployment["kind"] != "Deployment" or reading.is_rolled_out(deployment),
            image=_server_image(deployment),
        )

    def _remains(self, key: Key, group: Group, now: float) -> Instance:
        """What there is of a version without a Deployment: on its way out, or missing the most important part."""
        (slot, version), asked = key, self._draining.get(key)
        phase: Phase = "starting" if asked is None else "draining" if group.pods else "failed"
        some = next(iter([*group.objects.values(), *group.pods]))
        return Instance(
            slot=slot,
            version=version,
            digest=some["metadata"].get("annotations", {}).get(names.DIGEST, ""),
            replica=f"{names.of_version(slot, version)}-remains",
            phase=phase,
            started_at=asked or now,
            changed_at=asked or now,
            heard_at=now,
            drain_asked_at=asked,
            reason="its Deployment is gone",
            recovers=asked is None,
        )

    def _how(self, key: Key, group: Group, deployment: Object) -> tuple[Phase, str, str, str]:
        """Its phase; the reason, the cause and the last lines of its log, where it is not well."""
        if deployment["kind"] == "InferenceService":
            phase, reason = kserve.phase(deployment)
            return phase, reason, "kserve" if phase == "failed" else "", ""
        phase = reading.phase(deployment, answers=self._answers(key))
        trouble = reading.trouble(deployment, group.live_pods())
        if trouble is None or phase in ("draining", "idle"):
            return phase, "", "", ""
        if phase == "starting" and trouble.grave:
            phase = "failed"
        text = self._logs.get(trouble.crashed, "") if trouble.crashed else ""
        return phase, trouble.words, trouble.cause, text

    def _answers(self, key: Key) -> bool:
        slot, version = key
        service = self._objects(api.SERVICE).get(names.of_slot(slot))
        return service is not None and service["metadata"].get("annotations", {}).get(names.VERSION) == str(version)

    async def _read_logs(self) -> None:
        """The last lines of what crashed, asked for once for each crash."""
        crashed = {
            trouble.crashed
            for group in self._groups.values()
            if group.deployment is not None
            and (trouble := reading.trouble(group.deployment, group.live_pods())) is not None
            and trouble.crashed is not None
        }
        self._logs = {crash: text for crash, text in self._logs.items() if crash in crashed}
        for crash in crashed - set(self._logs):
            pod, container, _ = crash
            try:
                text = await self._cluster.log(pod, container, previous=True, lines=_LOG_LINES)
            except (Refusal, Unavailable) as trouble:
                text = f"(its log cannot be read: {trouble})"
            self._logs[crash] = text.strip()

    # --- doing --------------------------------------------------------------------------------------------------

    async def start(self, slot: Slot, spec: ModelSpec) -> None:
        """Apply every object of the version. A refusal is a failure of that version, seen at the next look."""
        self._draining.pop((slot, spec.version), None)
        self._refused.pop((slot, spec.version), None)
        workload = self._workload(slot, spec, percent=0, asleep=False)
        try:
            if api.SERVICE in self._mirrors and names.of_slot(slot) not in self._objects(api.SERVICE):
                await self._check_owner(api.SERVICE, names.of_slot(slot))
            for manifest in self._manifests(workload):
                await self._apply(manifest)
            await self._give_replicas(workload)
        except (Refusal, Problem) as refusal:
            if isinstance(refusal, Unavailable):
                raise
            self._refused[slot, spec.version] = self._refusal(slot, spec, str(refusal))
            self._changed()

    async def maintain(self, slot: Slot, kept: Kept) -> list[str]:
        """Put right what is not as it should be; no request where all is well."""
        if (slot, kept.spec.version) in self._refused:
            return []
        workload = self._workload(slot, kept.spec, percent=kept.percent, asleep=kept.asleep)
        if self._settled.get(workload.name) == (workload, self._revisions(workload.name)):
            return []
        put_right: list[str] = []
        try:
            for manifest in self._manifests(workload):
                if words := self._differs(manifest):
                    wakes = self._lacks_replicas(manifest)
                    put_right.append(words + await self._apply(manifest))
                    if wakes:
                        await self._give_replicas(workload)
            if workload.replicas is not None and workload.name in self._objects(api.AUTOSCALER):
                await self._delete(api.AUTOSCALER, workload.name)
        except Refusal as refusal:
            log.warning("cannot be put right", name=workload.name, reason=refusal.message)
        else:
            self._settled[workload.name] = (workload, self._revisions(workload.name))
        return put_right

    async def redirect(self, slot: Slot, route: Route) -> None:
        """Apply the slot's Service, and the route before it."""
        version = next(number for number, replica in self._replicas[slot].items() if replica == route.replica)
        for manifest in self._address_manifests(slot, version, route.percent):
            await self._apply(manifest)

    async def drain(self, instance: Instance) -> None:
        """Delete what makes its pods; they get SIGTERM, finish what is under way, and publish what they have."""
        key = (instance.slot, instance.version)
        self._draining.setdefault(key, time.time())
        for kind in self._kinds():
            # The policy stays as long as a pod: it must still reach the bus.
            if kind is not api.NETWORK_POLICY:
                await self._delete(kind, names.of_version(*key))

    async def discard(self, instance: Instance) -> None:
        """Delete everything of it, whatever it is doing."""
        key = (instance.slot, instance.version)
        refused = self._refused.pop(key, None)
        for kind in self._kinds():
            await self._delete(kind, names.of_version(*key))
        if refused is None:
            for pod in self._groups.get(key, Group()).pods:
                await self._cluster.delete(api.POD, pod["metadata"]["name"], pod["metadata"]["uid"])

    async def release(self, slot: Slot) -> None:
        """Delete the slot's Service and route."""
        for kind in (api.HTTP_ROUTE, api.SERVICE):
            if kind in self._mirrors:
                await self._delete(kind, names.of_slot(slot))

    # --- manifests ----------------------------------------------------------------------------------------------

    def _workload(self, slot: Slot, spec: ModelSpec, *, percent: int, asleep: bool) -> Workload:
        installation = self._installation
        floor, ceiling, replicas, pooled = installation.min_replicas, installation.max_replicas, None, False
        if percent and self.shares_by == "replicas":
            champion, challenger = self._share_out(slot, percent)
            pooled = slot.alias == "challenger"
            floor, ceiling, replicas = (floor, ceiling, challenger) if pooled else (champion, champion, None)
        since = self._asleep_since(slot, spec) if asleep else ""
        return Workload(
            slot=slot,
            spec=spec,
            delivery=self._delivery_of(spec),
            replicas=0 if asleep else replicas,
            floor=floor,
            ceiling=ceiling,
            pooled=pooled,
            asleep_since=since,
        )

    def _share_out(self, slot: Slot, percent: int) -> tuple[int, int]:
        most = self._installation.max_replicas
        total = sum(self._current(Slot(slot.model, alias)) for alias in ("champion", "challenger"))
        return shares.replicas_for(percent, min(total, most), most)

    def _current(self, slot: Slot) -> int:
        """How many replicas the version has that the slot's address leads to."""
        for (of, version), group in self._groups.items():
            if of == slot and group.deployment is not None and self._answers((of, version)):
                return int(group.deployment["spec"].get("replicas", 1))
        return 0

    def _asleep_since(self, slot: Slot, spec: ModelSpec) -> str:
        group = self._groups.get((slot, spec.version), Group())
        known = group.deployment or group.objects.get("InferenceService") or {"metadata": {}}
        since: str = known["metadata"].get("annotations", {}).get(names.ASLEEP_SINCE, "")
        return since or ids.timestamp(datetime.now(UTC))

    def _delivery_of(self, spec: ModelSpec) -> Delivery:
        if not spec.image:
            return "download"
        if self._delivery is not None:
            return self._delivery
        return "image-volume" if self._cluster.version >= _IMAGE_VOLUMES_SINCE else "image-copy"

    def _manifests(self, workload: Workload) -> list[Object]:
        if self._installation.runtime != "kserve":
            return manifests.of_version(self._installation, workload)
        if not workload.spec.image:
            raise Problem("KServe serves images, and this version has none", hint="affiant package makes one")
        return [kserve.inference_service(self._installation, workload)]

    def _address_manifests(self, slot: Slot, version: int, percent: int) -> list[Object]:
        pooled = bool(percent) and not self._weighs
        service = manifests.address(self._installation, slot, version, percent=percent, pooled=pooled)
        return [service, manifests.http_route(self._installation, slot, percent)] if self._weighs else [service]

    # --- requests -----------------------------------------------------------------------------------------------

    def _differs(self, manifest: Object) -> str:
        """In words how the object differs from its manifest; empty where it does not."""
        kind, name = api.KINDS[manifest["kind"]], manifest["metadata"]["name"]
        known = self._objects(kind).get(name)
        if known is None:
            return f"{kind.name} {name} was not there"
        if self._stubborn.get((kind.name, name)) == known["metadata"]["resourceVersion"]:
            return ""
        found = differences(manifest, known)
        return f"{kind.name} {name}: {', '.join(found)}" if found else ""

    async def _apply(self, manifest: Object) -> str:
        """Apply it, also against another manager's will; says whose. Raises `Problem` for an object of others."""
        kind, name = api.KINDS[manifest["kind"]], manifest["metadata"]["name"]
        if name not in self._objects(kind):
            await self._check_owner(kind, name)
        said = ""
        try:
            applied = await self._cluster.apply(manifest)
        except Refusal as refusal:
            if not refusal.managed:
                raise
            said = f", changed by others: {'; '.join(refusal.managed)}"
            log.warning("taking fields back from other managers", kind=kind.name, name=name, fields=refusal.managed)
            applied = await self._cluster.apply(manifest, force=True)
        self._mirrors[kind].note(applied)
        if left := differences(manifest, applied):
            # Something changes it on its way in. To apply it again and again would help nobody.
            log.error("the cluster does not keep what was applied", kind=kind.name, name=name, fields=left)
            self._stubborn[kind.name, name] = applied["metadata"]["resourceVersion"]
        return said

    async def _check_owner(self, kind: Kind, name: str) -> None:
        found = await self._cluster.find(kind, name)
        if found is None:
            return
        labels = found["metadata"].get("labels", {})
        if not names.is_owned(labels, self._installation.name):
            by = labels.get(names.MANAGED_BY, "somebody else")
            raise Problem(
                f"there is a {kind.name} {name} already, which belongs to {by}",
                hint=f"rename or delete it: kubectl -n {self._installation.namespace} delete {kind.plural} {name}",
            )

    def _lacks_replicas(self, manifest: Object) -> bool:
        """Whether a Deployment is made or woken by this: then nobody has said yet how many replicas it has."""
        if manifest["kind"] != "Deployment" or "replicas" in manifest["spec"]:
            return False
        known = self._objects(api.DEPLOYMENT).get(manifest["metadata"]["name"])
        return known is None or known["spec"].get("replicas", 1) == 0

    async def _give_replicas(self, workload: Workload) -> None:
        """As many replicas to begin with as the version has that answers now: it takes over all of its traffic."""
        if self._installation.runtime == "kserve" or workload.replicas is not None:
            return
        count = min(max(workload.floor, self._current(workload.slot)), workload.ceiling)
        manifest = manifests.starting_replicas(self._installation, workload, count)
        applied = await self._cluster.apply(manifest, manager=f"{api.MANAGER}-start", force=True)
        self._mirrors[api.DEPLOYMENT].note(applied)

    async def _delete(self, kind: Kind, name: str) -> None:
        known = self._objects(kind).get(name)
        if known is None or "deletionTimestamp" in known["metadata"]:
            return
        await self._cluster.delete(kind, name, known["metadata"]["uid"])
        self._mirrors[kind].forget(name)

    def _refusal(self, slot: Slot, spec: ModelSpec, reason: str) -> Instance:
        now = time.time()
        self._attempts += 1
        return Instance(
            slot=slot,
            version=spec.version,
            digest=spec.digest,
            replica=f"{names.of_version(slot, spec.version)}-attempt-{self._attempts}",
            phase="failed",
            started_at=now,
            changed_at=now,
            heard_at=now,
            reason=f"the cluster refuses it: {reason}",
            cause="refused",
        )

    def _kserve_address(self, slot: Slot) -> str:
        for (of, _), group in self._groups.items():
            service = group.objects.get("InferenceService")
            if of == slot and service is not None and kserve.phase(service)[0] == "ready":
                return kserve.url(service)
        return ""

    def _revisions(self, name: str) -> tuple[str, ...]:
        """Of every object of that name which revision is known."""
        found = (mirror.objects.get(name) for kind, mirror in self._mirrors.items() if kind is not api.POD)
        return tuple("" if one is None else one["metadata"]["resourceVersion"] for one in found)

    def _kinds(self) -> list[Kind]:
        return [kind for kind in (api.INFERENCE_SERVICE, *_SERVING) if kind in self._mirrors]

    def _objects(self, kind: Kind) -> dict[str, Object]:
        mirror = self._mirrors.get(kind)
        return mirror.objects if mirror else {}


def _server_image(deployment: Object) -> str:
    if deployment["kind"] != "Deployment":
        return ""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((str(one["image"]) for one in containers if one["name"] == manifests.SERVER), "")


def _tell_of_an_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a part of the kubernetes back end ended", exc_info=task.exception())
