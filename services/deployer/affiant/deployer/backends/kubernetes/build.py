"""Puts the back end together from the settings, and refuses those that cannot work."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from affiant.common.client import servers
from affiant.common.errors import Problem
from affiant.common.serving import BusAccess
from affiant.deployer.backends.kubernetes.backend import KubernetesBackend
from affiant.deployer.backends.kubernetes.cluster import Cluster
from affiant.deployer.backends.kubernetes.manifests import Installation
from affiant.deployer.settings import DeployerSettings

_BY_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_GATEWAY = re.compile(r"[a-z0-9-]+/[a-z0-9.-]+")


def kubernetes_backend(settings: DeployerSettings, bus: BusAccess, changed: Callable[[], None]) -> KubernetesBackend:
    """The back end; raises `Problem` naming the setting that is wrong."""
    _check(settings)
    installation = Installation(
        name=settings.installation,
        namespace=settings.namespace,
        image=settings.modelserver_image,
        bus=bus,
        token_file=settings.models_token_file,
        bus_port=urlsplit(servers(bus.url)[0]).port or 4222,
        registry_url=settings.registry_url,
        registry_port=_port(settings.registry_url),
        bus_secret=settings.modelserver_secret,
        registry_secret=settings.registry_secret,
        pull_secret=settings.pull_secret,
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        cpu_percent=settings.cpu_percent,
        cpu_request=settings.cpu_request,
        memory_request=settings.memory_request,
        memory_limit=settings.memory_limit,
        drain_seconds=settings.drain_seconds,
        gateway=settings.gateway,
        domain=settings.gateway_domain,
        scheme=settings.gateway_scheme,
        runtime=settings.runtime,
        sink_url=settings.audit_sink_url,
    )
    return KubernetesBackend(
        Cluster(settings.kubeconfig, settings.namespace),
        installation,
        delivery=None if settings.model_delivery == "auto" else settings.model_delivery,
        identity=f"{socket.gethostname()}-{secrets.token_hex(4)}",
        lease_seconds=settings.lease_seconds,
        changed=changed,
    )


def _check(settings: DeployerSettings) -> None:
    if settings.runtime == "modelserver" and not _BY_DIGEST.fullmatch(settings.modelserver_image):
        raise Problem(
            f"AFFIANT_DEPLOYER_MODELSERVER_IMAGE={settings.modelserver_image!r} does not name an image by its digest",
            hint="such as registry.example.com/affiant/modelserver@sha256:<64 hex digits>; a tag may change under us",
        )
    if settings.runtime == "kserve" and not settings.audit_sink_url:
        raise Problem(
            "AFFIANT_DEPLOYER_AUDIT_SINK_URL is not set: with the runtime kserve no prediction would be on record",
            hint="the auditor's CloudEvents sink, such as http://affiant-auditor:8404/sinks/kserve",
        )
    if settings.gateway and not (_GATEWAY.fullmatch(settings.gateway) and settings.gateway_domain):
        raise Problem(
            "AFFIANT_DEPLOYER_GATEWAY needs the form namespace/name, and AFFIANT_DEPLOYER_GATEWAY_DOMAIN beside it",
            hint="such as gateways/public and models.example.com",
        )
    if not 1 <= settings.min_replicas <= settings.max_replicas:
        raise Problem("AFFIANT_DEPLOYER_MIN_REPLICAS has to be at least 1 and at most ..._MAX_REPLICAS")


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
