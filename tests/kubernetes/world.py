"""A cluster to deploy to, real or fake, and deployers that a test can start, kill and ask."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
import yaml
from sqlalchemy import select

from affiant.common import ids, wire
from affiant.common.events import Event, ModelArchived, ModelPromoted, ModelSpec
from affiant.common.serving import BusAccess
from affiant.deployer.actions.reconcile import Reconciler
from affiant.deployer.actions.view import DeploymentView, deployments
from affiant.deployer.actions.wishes import Wishes
from affiant.deployer.backends.kubernetes.backend import KubernetesBackend
from affiant.deployer.backends.kubernetes.cluster import Cluster
from affiant.deployer.backends.kubernetes.manifests import Installation
from affiant.deployer.domain.situation import Limits
from affiant.deployer.store import Store, outbox_rows
from tests.kubernetes.control_plane import DEPLOYER, ControlPlane
from tests.kubernetes.fake_apiserver import FakeApiServer
from tests.kubernetes.kubelet import LAST_WORDS, MERGE, Fate, Kubelet, Object

SERVER_IMAGE = "registry.example.com/affiant/modelserver@sha256:" + "5" * 64
PATIENCE_SECONDS = 120.0


def _rule(group: str, resources: list[str], verbs: str) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs.split()}


APPLIED = "list watch create patch delete"
RULES = [
    _rule("", ["configmaps", "serviceaccounts", "services"], APPLIED),
    _rule("apps", ["deployments"], APPLIED),
    _rule("autoscaling", ["horizontalpodautoscalers"], APPLIED),
    _rule("policy", ["poddisruptionbudgets"], APPLIED),
    _rule("networking.k8s.io", ["networkpolicies"], APPLIED),
    _rule("", ["pods"], "list watch delete"),
    _rule("", ["pods/log"], "get"),
    _rule("coordination.k8s.io", ["leases"], "get create update"),
    _rule("gateway.networking.k8s.io", ["httproutes"], APPLIED),
    _rule("serving.kserve.io", ["inferenceservices"], APPLIED),
]
"""The rights of the chart's Role for the deployer."""


class Server(Protocol):
    """An API server that can be away for a while."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class World:
    """One API server with one node; `fates` says what becomes of the pods of a version (others get ready)."""

    def __init__(self, kind: str, folder: Path, assets: Path | None = None) -> None:
        self.kind = kind
        self.fates: dict[tuple[str, str], Fate] = {}
        self.server: Server
        if assets is not None:
            plane = ControlPlane(assets, folder)
            self.server, self.kubeconfig, self.http, certificate = (
                plane,
                plane.kubeconfig,
                plane.client(),
                plane.certificate,
            )
        else:
            fake = FakeApiServer()
            fake.log_of = lambda _pod, _container: LAST_WORDS
            self.server, self.kubeconfig, certificate = fake, _kubeconfig(folder, fake.url), None
            self.http = httpx.Client(base_url=fake.url, timeout=30, trust_env=False)
        self.kubelet = Kubelet(self.http, "node-1", self._fate, certificate)

    def install(self, plural: str, api: str, kind: str) -> None:
        """A custom resource, with any fields; the fake knows them already."""
        group, version = api.split("/")
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        versions = [
            {
                "name": version,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": anything},
                "subresources": {"status": {}},
            }
        ]
        names = {"plural": plural, "singular": kind.lower(), "kind": kind}
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{plural}.{group}",
                "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"},
            },
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
        }
        if self.kind == "real":
            self.http.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=body)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not self.http.get(f"/apis/{api}/namespaces/default/{plural}").is_success:
                assert time.monotonic() < deadline, f"{plural} are not served"
                time.sleep(0.05)

    def close(self) -> None:
        self.kubelet.close()
        self.http.close()
        self.server.close()

    def namespace(self) -> Namespace:
        """A new one, in which only restricted pods are admitted."""
        name = f"models-{uuid.uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.http.post("/api/v1/namespaces", json=body).raise_for_status()
        if self.kind == "real":
            self._give_rights(name)
        return Namespace(self, name)

    def _give_rights(self, namespace: str) -> None:
        """The deployer may do what its Role says, and not one thing more."""
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        meta = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": DEPLOYER}}
        self.http.post(f"{rbac}/roles", json={**meta, "kind": "Role", "rules": RULES}).raise_for_status()
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": DEPLOYER}
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DEPLOYER}
        binding = {**meta, "kind": "RoleBinding", "roleRef": role, "subjects": [user]}
        self.http.post(f"{rbac}/rolebindings", json=binding).raise_for_status()

    def _fate(self, pod: Object) -> Fate:
        metadata = pod["metadata"]
        return self.fates.get((metadata["namespace"], metadata["labels"].get("affiant.dev/version", "")), "ready")


@dataclass
class Namespace:
    """What a test sees of the cluster, over HTTP and past the deployer."""

    world: World
    name: str

    def fate(self, version: int, fate: Fate) -> None:
        """From now on the pods of this version fare so."""
        self.world.fates[self.name, str(version)] = fate
        self.world.kubelet.look_again()

    def all(self, plural: str, api: str = "apps/v1") -> dict[str, Object]:
        found = self.world.http.get(f"{self._path(api)}/{plural}").raise_for_status().json()
        return {item["metadata"]["name"]: item for item in found["items"]}

    def get(self, plural: str, name: str, api: str = "apps/v1") -> Object:
        found: Object = self.world.http.get(f"{self._path(api)}/{plural}/{name}").raise_for_status().json()
        return found

    def delete(self, plural: str, name: str, api: str = "apps/v1") -> None:
        self.world.http.delete(f"{self._path(api)}/{plural}/{name}").raise_for_status()

    def create(self, plural: str, body: Object) -> None:
        self.world.http.post(f"{self._path(body['apiVersion'])}/{plural}", json=body).raise_for_status()

    def edit(self, plural: str, name: str, patch: Object, api: str = "apps/v1", manager: str = "kubectl-edit") -> None:
        """As somebody does who thinks he knows better."""
        path = f"{self._path(api)}/{plural}/{name}"
        query = {"fieldManager": manager}
        kind = "application/strategic-merge-patch+json" if self.world.kind == "real" else MERGE["content-type"]
        answer = self.world.http.patch(path, json=patch, params=query, headers={"content-type": kind})
        assert answer.is_success, answer.text

    def pods(self, **labels: str) -> list[Object]:
        """Those with these labels (`version="1"`, …) that are not on their way out."""
        wanted = {f"affiant.dev/{name}": value for name, value in labels.items()}
        return [
            pod
            for pod in self.all("pods", "v1").values()
            if "deletionTimestamp" not in pod["metadata"] and wanted.items() <= pod["metadata"]["labels"].items()
        ]

    def behind(self, service: str) -> set[str]:
        """The versions of the ready pods that a Service picks."""
        picks = self.get("services", service, "v1")["spec"]["selector"].items()
        return {
            pod["metadata"]["labels"]["affiant.dev/version"]
            for pod in self.pods()
            if picks <= pod["metadata"]["labels"].items() and is_ready(pod)
        }

    def _path(self, api: str) -> str:
        group = f"/apis/{api}" if "/" in api else f"/api/{api}"
        return f"{group}/namespaces/{self.name}"


@dataclass
class Deployer:
    """A deployer without a bus: wishes are noted as the event doors do, events are read from its outbox.

    Two deployers share `store`, as they share a database in a cluster.
    """

    namespace: Namespace
    store: Store
    settings: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits(ready=60.0, drain=60.0, look=0.2))
    name: str = "deployer-1"
    lease_seconds: float = 4.0
    work: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        woken = asyncio.Event()
        installation = {"min_replicas": 1, "max_replicas": 4} | self.settings
        self.cluster = Cluster(str(self.namespace.world.kubeconfig), self.namespace.name)
        self.backend = KubernetesBackend(
            self.cluster,
            Installation(
                name="affiant",
                namespace=self.namespace.name,
                image=SERVER_IMAGE,
                bus=BusAccess(url="nats://nats:4222"),
                **installation,
            ),
            delivery=None,
            identity=self.name,
            lease_seconds=self.lease_seconds,
            changed=woken.set,
        )
        self.wishes = Wishes(self.store, woken.set, no_shares=self.backend.no_shares)
        self.reconciler = Reconciler(
            self.store, self.backend, self.limits, woken=woken, published=lambda: None, reconcile_seconds=2.0
        )

    async def start(self) -> Deployer:
        await self.backend.open()
        self.work = asyncio.create_task(self.reconciler.run())
        return self

    async def kill(self) -> None:
        """It ends without a word: nobody gives the Lease back."""
        for task in [self.work, *self.backend._tasks]:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
        await self.cluster.close()

    async def stop(self) -> None:
        """SIGTERM."""
        if self.work is not None and not self.work.done():
            self.work.cancel()
            await asyncio.wait({self.work})
            await self.backend.close(stop=False)

    # --- the registry's side ------------------------------------------------------------------------------------

    async def promote(self, version: int, *, model: str = "loan", alias: str = "champion", traffic: int = 0) -> None:
        event = ModelPromoted(
            model=model,
            version=version,
            alias=alias,  # type: ignore[arg-type]
            spec=spec(version, model),
            approved_by="ben",
            promoted_at=ids.now(),
            traffic=traffic,
        )
        await self.wishes.promoted(event, event_id=str(uuid.uuid4()), traceparent="")

    async def archive(self, version: int, *aliases: str) -> None:
        await self.wishes.archived(
            ModelArchived(
                model="loan",
                version=version,
                digest=spec(version).digest,
                by="ben",
                archived_at=ids.now(),
                removed_aliases=list(aliases),
            )
        )

    # --- what it says -------------------------------------------------------------------------------------------

    def said(self) -> list[Event]:
        """Everything that waits for the bus, oldest first."""
        columns = outbox_rows.c
        with self.store.engine.connect() as connection:
            query = select(columns.subject, columns.body, columns.headers).order_by(columns.sequence)
            rows = connection.execute(query).all()
        return [wire.decode(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str])).event for row in rows]

    async def until_said(self, wanted: Callable[[Any], object], kind: type[Event]) -> Any:
        """The first event of that kind that is as wanted."""

        def found() -> object:
            return next((event for event in self.said() if isinstance(event, kind) and wanted(event)), None)

        return await self.until(found)

    async def until_serving(self, version: int, model: str = "loan", alias: str = "champion") -> DeploymentView:
        """What it says of the slot, once this version serves there."""

        async def look() -> DeploymentView | None:
            view = await self.view(model, alias)
            return view if view is not None and (view.state, view.version) == ("serving", version) else None

        found: DeploymentView = await self.until(look)
        return found

    async def view(self, model: str = "loan", alias: str = "champion") -> DeploymentView | None:
        views = deployments(await self.reconciler.situations()).deployments
        return next((view for view in views if (view.model, view.alias) == (model, alias)), None)

    async def until(self, wanted: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        """What `wanted` finds, as soon as it is true."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = wanted()
                if asyncio.iscoroutine(found):
                    found = await found
            except (httpx.HTTPError, KeyError):
                found = None
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"it never came true; {await self.view()}; said {self.said()}")
            await asyncio.sleep(0.05)


def spec(version: int, model: str = "loan") -> ModelSpec:
    return ModelSpec(
        model=model,
        version=version,
        digest=f"sha256:{version:064d}",
        size_bytes=1,
        author="ana",
        inputs=[],
        outputs=[],
        columns=[],
        image=f"registry.example.com/models/{model}@sha256:{version:064d}",
    )


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _kubeconfig(folder: Path, url: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "admin", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
