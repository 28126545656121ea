"""The manifests of what serves a version. Pure: the same words give the same objects.

Everything runs under the restricted Pod Security Standard, on images named by digest. The pods of a version reach
the bus (and the registry, where they download their model), answer on one port, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from affiant.common.events import ModelSpec
from affiant.common.serving import BusAccess, ServerConfig
from affiant.deployer.backends.kubernetes import names
from affiant.deployer.backends.kubernetes.cluster import Object
from affiant.deployer.domain.situation import Route, Slot

Delivery = Literal["image-volume", "image-copy", "download"]

PORT = 8080
SERVER = "model-server"
FETCHER = "fetch-model"
PROGRAM = ["python", "-m", "affiant.modelserver"]
STARTING_SECONDS = 600
"""How long the model server may take to load its model before the kubelet starts it anew."""
PRE_STOP_SECONDS = 5
"""Endpoints take a moment to leave every node's rules; until then requests still arrive."""
FLUSH_SECONDS = 15
"""How much longer than its drain a model server may take to publish its last records."""

_USER = 65532
_CONFIG_DIR, _MODEL_DIR, _DATA_DIR = "/etc/affiant/model", "/mnt/model", "/var/lib/affiant"
_BUS_DIR, _REGISTRY_DIR = "/etc/affiant/bus", "/etc/affiant/registry"
_MODEL_FILE = f"{_MODEL_DIR}/models/model.onnx"


@dataclass(frozen=True)
class Installation:
    """What is the same for every model of an installation.

    `image` is the model server's, by digest. Files of `bus` and `token_file` are named as the pods see them:
    `bus_secret` is mounted at /etc/affiant/bus, `registry_secret` (key
    `token`) at /etc/affiant/registry; `pull_secret` pulls images. `bus_port` and `registry_port` are what pods may
    connect to. `gateway` ("namespace/name") and `domain` put an HTTPRoute before each address.
    """

    name: str
    namespace: str
    image: str
    bus: BusAccess
    token_file: str = ""
    bus_port: int = 4222
    registry_url: str = ""
    registry_port: int = 8401
    bus_secret: str = ""
    registry_secret: str = ""
    pull_secret: str = ""
    min_replicas: int = 2
    max_replicas: int = 10
    cpu_percent: int = 70
    cpu_request: str = "250m"
    memory_request: str = "256Mi"
    memory_limit: str = "1Gi"
    drain_seconds: float = 20.0
    gateway: str = ""
    domain: str = ""
    scheme: str = "https"
    runtime: Literal["modelserver", "kserve"] = "modelserver"
    sink_url: str = ""


@dataclass(frozen=True)
class Workload:
    """One version under one alias, as it should run.

    `replicas`: exactly so many (0: asleep); `None`: an autoscaler decides between `floor` and `ceiling`. `pooled`:
    the champion's Service may pick its pods, too.
    """

    slot: Slot
    spec: ModelSpec
    delivery: Delivery = "image-volume"
    replicas: int | None = None
    floor: int = 2
    ceiling: int = 10
    pooled: bool = False
    asleep_since: str = ""

    @property
    def name(self) -> str:
        """What all of its objects are called."""
        return names.of_version(self.slot, self.spec.version)


def of_version(installation: Installation, workload: Workload) -> list[Object]:
    """Every object of a version, in the order to apply them: the network's lock before the pods that it is for."""
    config = _config_map(installation, workload)
    objects = [
        config,
        _service_account(installation, workload),
        _network_policy(installation, workload),
        _deployment(installation, workload, config["data"]["config.json"]),
        _disruption_budget(installation, workload),
    ]
    return objects if workload.replicas is not None else [*objects, _autoscaler(installation, workload)]


def starting_replicas(installation: Installation, workload: Workload, count: int) -> Object:
    """The number of replicas to begin with, for a field manager of its own that says it once and never again.

    Were it in the Deployment's manifest, every repair would undo what the autoscaler has decided.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": workload.name, "namespace": installation.namespace},
        "spec": {"replicas": count},
    }


def address(installation: Installation, slot: Slot, version: int, *, percent: int, pooled: bool) -> Object:
    """The Service of a slot. It picks the pods of `version`, or all of the pool that the challenger's are in, too."""
    mine = names.owned(installation.name) | {names.MODEL: slot.model}
    picks = mine | ({names.POOL: slot.alias} if pooled else {names.ALIAS: slot.alias, names.VERSION: str(version)})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **_metadata(installation, names.of_slot(slot), names.labels(installation.name, slot)),
            "annotations": {names.VERSION: str(version), names.PERCENT: str(percent)},
        },
        "spec": {
            "type": "ClusterIP",
            "selector": picks,
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def http_route(installation: Installation, slot: Slot, percent: int) -> Object:
    """The HTTPRoute before a slot's Service; `percent` of the requests go to the challenger's."""
    gateway_namespace, gateway = installation.gateway.split("/", 1)
    backends = [_backend(slot, 100 - percent)]
    if percent:
        backends.append(_backend(Slot(slot.model, "challenger"), percent))
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            **_metadata(installation, names.of_slot(slot), names.labels(installation.name, slot)),
            "annotations": {names.PERCENT: str(percent)},
        },
        "spec": {
            "parentRefs": [
                {
                    "group": "gateway.networking.k8s.io",
                    "kind": "Gateway",
                    "namespace": gateway_namespace,
                    "name": gateway,
                }
            ],
            "hostnames": [f"{names.of_slot(slot)}.{installation.domain}"],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
        },
    }


def url(installation: Installation, slot: Slot, *, routed: bool) -> str:
    """The base URL of a slot: the gateway's host name where there is a route, else the Service's."""
    name = names.of_slot(slot)
    if routed:
        return f"{installation.scheme}://{name}.{installation.domain}"
    return f"http://{name}.{installation.namespace}.svc:{PORT}"


def route_of(service: Object, replicas: Mapping[int, str]) -> Route | None:
    """Where a slot's Service leads; `replicas` names the server of each version that there is."""
    annotations = service["metadata"].get("annotations", {})
    version = annotations.get(names.VERSION, "")
    replica = replicas.get(int(version)) if version.isdigit() else None
    percent = annotations.get(names.PERCENT, "0")
    return None if replica is None else Route(replica, int(percent) if percent.isdigit() else 0)


# --- the objects ------------------------------------------------------------------------------------------------


def _metadata(installation: Installation, name: str, labels: dict[str, str]) -> Object:
    return {"name": name, "namespace": installation.namespace, "labels": labels}


def _named(installation: Installation, workload: Workload) -> Object:
    slot, spec = workload.slot, workload.spec
    metadata = _metadata(installation, workload.name, names.labels(installation.name, slot, spec.version))
    return {**metadata, "annotations": {names.DIGEST: spec.digest}}


def _picks(installation: Installation, workload: Workload) -> dict[str, str]:
    slot = workload.slot
    mine = {names.MODEL: slot.model, names.ALIAS: slot.alias, names.VERSION: str(workload.spec.version)}
    return names.owned(installation.name) | mine


def _config_map(installation: Installation, workload: Workload) -> Object:
    # The pod's name and the epoch make a process unique; one configuration serves all replicas.
    config = ServerConfig(
        spec=workload.spec,
        alias=workload.slot.alias,
        model_path=_MODEL_FILE,
        replica="",
        bus=installation.bus,
        data_dir=_DATA_DIR,
        host="0.0.0.0",  # noqa: S104 # the pod's own address; the NetworkPolicy says who may connect
        port=PORT,
        drain_seconds=installation.drain_seconds,
        token_file=installation.token_file,
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _named(installation, workload),
        "data": {"config.json": msgspec.json.encode(config, order="sorted").decode()},
    }


def _service_account(installation: Installation, workload: Workload) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _named(installation, workload),
        "automountServiceAccountToken": False,
    }


def _network_policy(installation: Installation, workload: Workload) -> Object:
    egress: list[Object] = [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"ports": [{"port": installation.bus_port, "protocol": "TCP"}]},
    ]
    if workload.delivery == "download":
        egress.append({"ports": [{"port": installation.registry_port, "protocol": "TCP"}]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _named(installation, workload),
        "spec": {
            "podSelector": {"matchLabels": _picks(installation, workload)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "http", "protocol": "TCP"}]}],
            "egress": egress,
        },
    }


def _disruption_budget(installation: Installation, workload: Workload) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _named(installation, workload),
        "spec": {
            "maxUnavailable": 1,
            # Without it a pod that never gets ready could not be moved off a node that is drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _picks(installation, workload)},
        },
    }


def _autoscaler(installation: Installation, workload: Workload) -> Object:
    utilization = {"type": "Utilization", "averageUtilization": installation.cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _named(installation, workload),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name},
            "minReplicas": workload.floor,
            "maxReplicas": workload.ceiling,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
        },
    }


def _deployment(installation: Installation, workload: Workload, config: str) -> Object:
    metadata = _named(installation, workload)
    notes = {names.DIGEST: workload.spec.digest}
    if workload.spec.image:
        notes[names.MODEL_IMAGE] = workload.spec.image
    if workload.asleep_since:
        notes[names.ASLEEP_SINCE] = workload.asleep_since
    spec: Object = {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": STARTING_SECONDS,
        # No replica goes before the one that takes its place is ready.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "selector": {"matchLabels": _picks(installation, workload)},
        "template": _pod(installation, workload, config),
    }
    if workload.replicas is not None:
        spec["replicas"] = workload.replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**metadata, "annotations": notes}, "spec": spec}


def _pod(installation: Installation, workload: Workload, config: str) -> Object:
    pool = "champion" if workload.pooled else workload.slot.alias
    labels = names.labels(installation.name, workload.slot, workload.spec.version) | {names.POOL: pool}
    picks = _picks(installation, workload)
    spec: Object = {
        "serviceAccountName": workload.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": int(PRE_STOP_SECONDS + installation.drain_seconds + FLUSH_SECONDS),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": picks},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [_server(installation, workload)],
        "volumes": _volumes(installation, workload),
    }
    if workload.delivery != "image-volume":
        spec["initContainers"] = [_fetcher(installation, workload)]
    if installation.pull_secret:
        spec["imagePullSecrets"] = [{"name": installation.pull_secret}]
    return {
        "metadata": {
            "labels": labels,
            # A pod reads its configuration once: another one needs another pod.
            "annotations": {
                names.DIGEST: workload.spec.digest,
                names.CONFIG: f"sha256:{hashlib.sha256(config.encode()).hexdigest()}",
            },
        },
        "spec": spec,
    }


def _server(installation: Installation, workload: Workload) -> Object:
    where = _MODEL_DIR if workload.delivery == "image-volume" else f"{_MODEL_DIR}/models"
    mounts = [
        {"name": "config", "mountPath": _CONFIG_DIR, "readOnly": True},
        # An image volume shows the image's root; `subPath` would be ignored without a word.
        {"name": "model", "mountPath": where, "readOnly": True},
        {"name": "data", "mountPath": _DATA_DIR},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 # of the pod alone
    ]
    if installation.bus_secret:
        mounts.append({"name": "bus", "mountPath": _BUS_DIR, "readOnly": True})
    return {
        "name": SERVER,
        "image": installation.image,
        "command": [*PROGRAM, f"{_CONFIG_DIR}/config.json"],
        "env": [{"name": "AFFIANT_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "securityContext": _locked_down(),
        "resources": {
            "requests": {"cpu": installation.cpu_request, "memory": installation.memory_request},
            "limits": {"memory": installation.memory_limit},
        },
        # Three questions: does it come up, is it alive at all, can it answer with a record on the bus now.
        "startupProbe": _probe("/v2/health/live", every=2, failures=STARTING_SECONDS // 2),
        "livenessProbe": _probe("/v2/health/live", every=10, failures=3),
        "readinessProbe": _probe("/v2/health/ready", every=5, failures=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "volumeMounts": mounts,
    }


def _fetcher(installation: Installation, workload: Workload) -> Object:
    """The container that brings the model into the pod, where an image cannot be mounted."""
    container: Object = {
        "name": FETCHER,
        "securityContext": _locked_down(),
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"memory": installation.memory_limit},
        },
        "volumeMounts": [{"name": "model", "mountPath": f"{_MODEL_DIR}/models"}],
    }
    if workload.delivery == "image-copy":
        return container | {
            "image": workload.spec.image,
            "command": ["cp", "/models/model.onnx", _MODEL_FILE],
        }
    if installation.registry_secret:
        container["volumeMounts"].append({"name": "registry", "mountPath": _REGISTRY_DIR, "readOnly": True})
    token = f"{_REGISTRY_DIR}/token" if installation.registry_secret else ""
    url = f"{installation.registry_url.rstrip('/')}/v1/artifacts/{workload.spec.digest}"
    size = str(workload.spec.size_bytes)
    program = ["python", "-m", "affiant.modelserver.fetch"]
    command = [*program, url, workload.spec.digest, size, _MODEL_FILE, *([token] if token else [])]
    return container | {"image": installation.image, "command": command}


def _volumes(installation: Installation, workload: Workload) -> list[Object]:
    model: Object = {"name": "model", "emptyDir": {}}
    if workload.delivery == "image-volume":
        model = {"name": "model", "image": {"reference": workload.spec.image, "pullPolicy": "IfNotPresent"}}
    volumes: list[Object] = [
        {"name": "config", "configMap": {"name": workload.name}},
        model,
        {"name": "data", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if installation.bus_secret:
        volumes.append({"name": "bus", "secret": {"secretName": installation.bus_secret, "defaultMode": 0o440}})
    if installation.registry_secret and workload.delivery == "download":
        volumes.append(
            {"name": "registry", "secret": {"secretName": installation.registry_secret, "defaultMode": 0o440}}
        )
    return volumes


def _locked_down() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _probe(path: str, *, every: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": every,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _backend(slot: Slot, weight: int) -> Object:
    return {"name": names.of_slot(slot), "port": PORT, "weight": weight}
