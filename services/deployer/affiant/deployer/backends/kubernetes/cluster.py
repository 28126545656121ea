"""The Kubernetes API, as far as the deployer needs it: plain JSON objects over the client library's connection.

Typed models would have to be turned into manifests and back at every comparison, and two of the kinds here are
custom resources that the library has no types for; its configuration, authentication, TLS and connections are used.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import structlog
from kubernetes.aio import client, config
from prometheus_client import Counter

from affiant.common.errors import Problem, Unavailable

log = structlog.get_logger(__name__)

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

MANAGER = "affiant-deployer"
"""The field manager of everything that the deployer applies."""

REQUEST_SECONDS = 30.0
_JSON = "application/json"
WATCH_SECONDS = 240
"""The server ends a watch after this time, and we do a little later where it does not: a connection that died without
a word would otherwise be listened to for ever."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 30.0
_TOO_MANY = 429

calls = Counter("affiant_deployer_kubernetes_calls_total", "Requests to the API server", ["verb", "kind", "code"])


@dataclass(frozen=True)
class Kind:
    """A kind of object, and where the API server keeps it."""

    name: str
    api: str
    plural: str

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        """The URL's path of all objects of a namespace, of one, or of something below it."""
        group = f"/apis/{self.api}" if "/" in self.api else f"/api/{self.api}"
        return "/".join(part for part in (group, "namespaces", namespace, self.plural, name, sub) if part)


CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
SERVICE_ACCOUNT = Kind("ServiceAccount", "v1", "serviceaccounts")
SERVICE = Kind("Service", "v1", "services")
POD = Kind("Pod", "v1", "pods")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
HTTP_ROUTE = Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes")
INFERENCE_SERVICE = Kind("InferenceService", "serving.kserve.io/v1beta1", "inferenceservices")

KINDS = {
    kind.name: kind
    for kind in (
        CONFIG_MAP,
        SERVICE_ACCOUNT,
        SERVICE,
        POD,
        DEPLOYMENT,
        AUTOSCALER,
        DISRUPTION_BUDGET,
        NETWORK_POLICY,
        LEASE,
        HTTP_ROUTE,
        INFERENCE_SERVICE,
    )
}


class Refusal(Exception):
    """The API server said no (4xx): `code`, the machine's `reason`, the words, and which fields others manage."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        self.code = code
        self.reason = str(status.get("reason", ""))
        self.message = str(status.get("message", f"the API server answered {code}"))
        causes = (status.get("details") or {}).get("causes") or []
        self.managed = [
            f"{cause.get('field', '')} ({cause.get('message', '')})"
            for cause in causes
            if cause.get("reason") == "FieldManagerConflict"
        ]
        super().__init__(self.message)


class Gone(Exception):
    """What was watched lies too far back (410): list anew."""


class Cluster:
    """One namespace of one API server. Nothing connects before `open`.

    While the server is away, or says that it is asked too much, requests fail at once with `Unavailable` until a
    pause is over that doubles with each failure (and is what the server asked for, where it asked).
    """

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self.namespace = namespace
        self.version = (0, 0)
        self._client: client.ApiClient | None = None
        self._failures = 0
        self._not_before = 0.0

    async def open(self) -> None:
        """Read the configuration: the kubeconfig file, or the pod's own service account. Raises `Problem`."""
        settings = client.Configuration()
        settings.connection_pool_maxsize = 64
        try:
            if self._kubeconfig:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=self._kubeconfig, client_configuration=settings
                )
            else:
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            hint = "set AFFIANT_DEPLOYER_KUBECONFIG outside of a cluster; inside, mount the service account's token"
            raise Problem(f"the cluster cannot be reached: {error}", hint=hint) from error
        self.namespace = self.namespace or self._own_namespace()
        self._client = client.ApiClient(settings)

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]

    async def look_up_version(self) -> tuple[int, int]:
        """The server's version, as (1, 36)."""
        found = await self._ask("GET", "/version", kind="version")
        self.version = (int(found["major"]), int(str(found["minor"]).rstrip("+")))
        return self.version

    async def has(self, kind: Kind) -> bool:
        """Whether the server knows this kind (a custom resource may not be installed)."""
        try:
            found = await self._ask("GET", f"/apis/{kind.api}", kind="discovery")
        except Refusal as refusal:
            if refusal.code == 404:
                return False
            raise
        return any(each["name"] == kind.plural for each in found.get("resources", []))

    # --- objects ------------------------------------------------------------------------------------------------

    async def get(self, kind: Kind, name: str) -> Object | None:
        """One object, or none."""
        try:
            found: Object = await self._ask("GET", kind.path(self.namespace, name), kind=kind.name)
        except Refusal as refusal:
            if refusal.code == 404:
                return None
            raise
        return found

    async def find(self, kind: Kind, name: str) -> Object | None:
        """One object, or none, by the right to list: the deployer needs no other to know what there is."""
        query = {"fieldSelector": f"metadata.name={name}"}
        found = await self._ask("GET", kind.path(self.namespace), None, kind=kind.name, content_type=_JSON, **query)
        return next(iter(found.get("items", [])), None)

    async def list(self, kind: Kind, selector: str) -> tuple[list[Object], str]:
        """All objects with these labels, and from where to watch on."""
        found = await self._ask("GET", kind.path(self.namespace), kind=kind.name, labelSelector=selector)
        return found.get("items", []), found["metadata"]["resourceVersion"]

    async def apply(self, manifest: Object, *, manager: str = MANAGER, force: bool = False) -> Object:
        """Server-side apply: what is in the manifest becomes so, what was in the last one and is not here goes.

        Raises `Refusal` (409) where another manager has changed one of these fields, unless `force`.
        """
        kind, name = KINDS[manifest["kind"]], manifest["metadata"]["name"]
        applied: Object = await self._ask(
            "PATCH",
            kind.path(self.namespace, name),
            manifest,
            kind=kind.name,
            content_type="application/apply-patch+yaml",
            fieldManager=manager,
            force="true" if force else "false",
            fieldValidation="Strict",
        )
        return applied

    async def create(self, manifest: Object) -> Object:
        """A new object; `Refusal` (409) where there is one of that name."""
        kind = KINDS[manifest["kind"]]
        path = kind.path(self.namespace)
        made: Object = await self._ask("POST", path, manifest, kind=kind.name, fieldManager=MANAGER)
        return made

    async def replace(self, manifest: Object) -> Object:
        """The object as given; `Refusal` (409) where it is no longer the one with this `resourceVersion`."""
        kind, name = KINDS[manifest["kind"]], manifest["metadata"]["name"]
        path = kind.path(self.namespace, name)
        replaced: Object = await self._ask("PUT", path, manifest, kind=kind.name, fieldManager=MANAGER)
        return replaced

    async def delete(self, kind: Kind, name: str, uid: str) -> None:
        """Delete this very object and, in the background, what depends on it; nothing where it is gone."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._ask("DELETE", kind.path(self.namespace, name), options, kind=kind.name)
        except Refusal as refusal:
            # 409: another object has the name by now, and that one is not to be deleted.
            if refusal.code not in (404, 409):
                raise

    async def log(self, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """The last lines that a container wrote, or that the one before it did."""
        path, earlier = POD.path(self.namespace, pod, "log"), "true" if previous else "false"
        query = {"container": container, "previous": earlier, "tailLines": str(lines), "limitBytes": "8192"}
        return str(await self._ask("GET", path, None, kind="log", content_type="application/json", **query))

    async def watch(self, kind: Kind, selector: str, since: str) -> AsyncIterator[tuple[str, Object]]:
        """What happens to these objects after `since`: ADDED, MODIFIED, DELETED, BOOKMARK. Ends from time to time.

        Raises `Gone` where `since` lies too far back.
        """
        query = {
            "watch": "true",
            "labelSelector": selector,
            "resourceVersion": since,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + 15, connect=REQUEST_SECONDS)
        response = await self._send("GET", kind.path(self.namespace), None, query, timeout, kind=kind.name)
        try:
            async for line in response.content:
                happened = json.loads(line)
                if happened["type"] == "ERROR":
                    raise _refusal(int(happened["object"].get("code", 500)), happened["object"])
                yield happened["type"], happened["object"]
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise Unavailable(f"the watch of {kind.plural} broke off: {error or type(error).__name__}") from error
        finally:
            response.close()

    # --- requests -----------------------------------------------------------------------------------------------

    async def _ask(
        self,
        verb: str,
        path: str,
        body: Object | None = None,
        *,
        kind: str,
        content_type: str = _JSON,
        **query: str,
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        response = await self._send(verb, path, body, query, timeout, kind=kind, content_type=content_type)
        try:
            text = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._pause(f"the API server broke off its answer: {error or type(error).__name__}") from error
        return json.loads(text) if response.content_type == _JSON else text

    async def _send(
        self,
        verb: str,
        path: str,
        body: Object | None,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        *,
        kind: str,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        self._check_pause()
        if self._client is None:
            raise RuntimeError("the cluster was not opened")
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        url = f"{path}?{urlencode(query)}" if query else path
        try:
            asked = await self._client.param_serialize(
                verb, url, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = await self._client.call_api(*asked[:4], _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            calls.labels(verb, kind, response.status).inc()
            if response.status < 400:
                self._failures = 0
                return response
            raise await self._refused(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            calls.labels(verb, kind, "none").inc()
            raise self._pause(f"the API server does not answer: {error or type(error).__name__}") from error

    async def _refused(self, response: aiohttp.ClientResponse) -> Exception:
        text = await response.text()
        try:
            status = json.loads(text)
        except json.JSONDecodeError:
            status = {"message": text[:500]}
        if response.status == _TOO_MANY or response.status >= 500:
            said = f"the API server answered {response.status}: {status.get('message', '')}"
            return self._pause(said, response.headers.get("Retry-After", ""))
        return _refusal(response.status, status)

    def _check_pause(self) -> None:
        left = self._not_before - time.monotonic()
        if left > 0:
            raise Unavailable(f"the API server was away just now; asked again in {left:.1f} s")

    def _pause(self, said: str, asked: str = "") -> Unavailable:
        """Leave the server alone for a while; requests that were under way at the same time count as one failure."""
        now = time.monotonic()
        if now >= self._not_before:
            self._failures += 1
            pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
            pause = float(asked) if asked.isdigit() else pause * random.uniform(0.7, 1.3)
            self._not_before = now + pause
            log.warning("the API server is left alone for a while", reason=said, seconds=round(pause, 2))
        return Unavailable(said)

    async def recovered(self) -> None:
        """Wait until the pause is over."""
        await asyncio.sleep(max(self._not_before - time.monotonic(), 0.0))

    def _own_namespace(self) -> str:
        try:
            return (_SERVICE_ACCOUNT / "namespace").read_text().strip()
        except OSError:
            raise Problem(
                "no namespace is known to deploy to", hint="set AFFIANT_DEPLOYER_NAMESPACE, such as affiant-models"
            ) from None


def _refusal(code: int, status: Mapping[str, Any]) -> Exception:
    return Gone(str(status.get("message", ""))) if code == 410 else Refusal(code, status)
