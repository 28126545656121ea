"""An API server over HTTP for tests, with as much of a control plane behind it as a roll-out needs.

Objects, resource versions, watches that can fall too far behind, server-side apply with owners of fields, conflicts,
preconditions; a Deployment makes pods, a scheduler binds them, an autoscaler keeps its minimum, a quota is kept.
Pods get ready only by the word of a kubelet (`tests.kubernetes.kubelet`), as on a real server, on which the same
tests run: what the two do differently shows there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.kubernetes import field_managers

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace, name."""

_KINDS = {
    "namespaces": ("v1", "Namespace"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
    "services": ("v1", "Service"),
    "configmaps": ("v1", "ConfigMap"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "resourcequotas": ("v1", "ResourceQuota"),
    "deployments": ("apps/v1", "Deployment"),
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "leases": ("coordination.k8s.io/v1", "Lease"),
}
CUSTOM = {
    "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "inferenceservices": ("serving.kserve.io/v1beta1", "InferenceService"),
}


class Refusal(Exception):
    """An answer of 400 or more."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Object] | None = None) -> None:
        super().__init__(message)
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": {"causes": causes or []},
        }


class FakeApiServer:
    """Runs in threads of this process. State outlives `stop` and `start`, as etcd's does."""

    def __init__(self, *, minor: int = 37, custom: bool = True) -> None:
        self.minor = minor
        self.kinds = _KINDS | (CUSTOM if custom else {})
        self.log_of: Callable[[str, str], str] = lambda pod, container: ""
        self.calls = 0
        self.refuse_with: list[tuple[int, str]] = []
        self._objects: dict[Key, Object] = {}
        self._owners: dict[Key, field_managers.Owners] = {}
        self._events: list[tuple[int, str, str, str, Object]] = []
        self._oldest = 0
        self._revision = 1
        self._changed = threading.Condition(threading.RLock())
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self._ended = False
        self.port = 0
        self.start()
        self._controllers = threading.Thread(target=self._control, daemon=True)
        self._controllers.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Answer, at the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more; connections are cut in the middle."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._changed:
            self._cut()
            self._changed.notify_all()

    def close(self) -> None:
        """The end."""
        self._ended = True
        if self._server is not None:
            self.stop()

    def forget_the_past(self) -> None:
        """Whoever watches from an earlier revision is told 410; watches that are open end."""
        with self._changed:
            self._revision += 1
            self._oldest = self._revision
            self._events.clear()
            self._cut()

    def _cut(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # --- objects ------------------------------------------------------------------------------------------------

    def find(self, plural: str, namespace: str, name: str) -> Object:
        with self._changed:
            found = self._objects.get((plural, namespace, name))
            if found is None:
                raise Refusal(404, "NotFound", f'{plural} "{name}" not found')
            return copy.deepcopy(found)

    def list(self, plural: str, namespace: str, wanted: Callable[[Object], bool]) -> Object:
        with self._changed:
            items = [
                copy.deepcopy(found)
                for (kind, inside, _), found in sorted(self._objects.items())
                if kind == plural and namespace in ("", inside) and wanted(found)
            ]
            api, kind = self.kinds[plural]
            metadata = {"resourceVersion": str(self._revision)}
            return {"apiVersion": api, "kind": f"{kind}List", "metadata": metadata, "items": items}

    def create(self, plural: str, namespace: str, body: Object, manager: str) -> Object:
        with self._changed:
            key = (plural, namespace, body["metadata"]["name"])
            if key in self._objects:
                raise Refusal(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
            self._owners[key] = {}
            field_managers.update(self._owners[key], manager, {}, body)
            return self._store(key, self._fresh(plural, namespace, body))

    def replace(self, key: Key, body: Object, manager: str, sub: str = "") -> Object:
        with self._changed:
            known = self.find(*key)
            revision = body["metadata"].get("resourceVersion")
            if revision and revision != known["metadata"]["resourceVersion"]:
                raise Refusal(409, "Conflict", f'the object "{key[2]}" has been modified')
            changed = {**known, "status": body.get("status", {})} if sub == "status" else {**known, **body}
            changed["metadata"] = known["metadata"] | {
                part: body["metadata"].get(part, {}) for part in ("labels", "annotations")
            }
            field_managers.update(self._owners.setdefault(key, {}), manager, known, changed)
            return self._store(key, changed)

    def merge(self, key: Key, patch: Object, manager: str, sub: str = "") -> Object:
        with self._changed:
            known = self.find(*key)
            changed = field_managers.merged(known, {"status": patch["status"]} if sub == "status" else patch)
            field_managers.update(self._owners.setdefault(key, {}), manager, known, changed)
            return self._store(key, changed)

    def apply(self, key: Key, body: Object, manager: str, *, force: bool) -> Object:
        with self._changed:
            plural, namespace, name = key
            known = self._objects.get(key)
            live = copy.deepcopy(known) if known else self._fresh(plural, namespace, {"metadata": {"name": name}})
            owners = copy.deepcopy(self._owners.get(key, {}))
            conflicts = field_managers.apply(owners, manager, live, body, force=force)
            if conflicts:
                causes = [
                    {"reason": "FieldManagerConflict", "message": f'conflict with "{who}"', "field": field}
                    for field, who in conflicts
                ]
                said = f"Apply failed with {len(conflicts)} conflict(s)"
                raise Refusal(409, "Conflict", said, causes)
            self._owners[key] = owners
            return self._store(key, live)

    def delete(self, key: Key, options: Object, query: dict[str, str]) -> Object:
        with self._changed:
            found = self.find(*key)
            wanted = (options.get("preconditions") or {}).get("uid")
            if wanted and wanted != found["metadata"]["uid"]:
                raise Refusal(409, "Conflict", "the UID in the precondition does not match")
            grace = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
            if key[0] == "pods" and str(grace) != "0" and found["spec"].get("nodeName"):
                if "deletionTimestamp" not in found["metadata"]:
                    found["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 30}
                    self._store(key, found)
                return found
            self._remove(key)
            return found

    def watch(self, plural: str, namespace: str, since: int, wanted: Callable[[Object], bool]) -> Iterator[Object]:
        """Events after `since`; ends when the server stops."""
        if since < self._oldest:
            message = f"too old resource version: {since} ({self._oldest})"
            yield {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": message}}
            return
        server = self._server
        while self._server is server and server is not None:
            with self._changed:
                news = [each for each in self._events if each[0] > since]
                if not news:
                    self._changed.wait(0.2)
                    continue
            for revision, happened, kind, inside, found in news:
                since = revision
                if kind == plural and namespace in ("", inside) and wanted(found):
                    yield {"type": happened, "object": found}

    def _fresh(self, plural: str, namespace: str, body: Object) -> Object:
        api, kind = self.kinds[plural]
        metadata = {**body["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 0}
        if namespace:
            metadata["namespace"] = namespace
        return {**copy.deepcopy(body), "apiVersion": api, "kind": kind, "metadata": metadata}

    def _store(self, key: Key, found: Object) -> Object:
        known = self._objects.get(key)
        if key[0] == "deployments":
            found["spec"].setdefault("replicas", 1)
        if known is None or known.get("spec") != found.get("spec"):
            found["metadata"]["generation"] = found["metadata"].get("generation", 0) + 1
        if known is not None and _same(known, found):
            return copy.deepcopy(known)
        self._revision += 1
        found["metadata"]["resourceVersion"] = str(self._revision)
        self._objects[key] = copy.deepcopy(found)
        self._tell("MODIFIED" if known else "ADDED", key, found)
        return copy.deepcopy(found)

    def _remove(self, key: Key) -> None:
        found = self._objects.pop(key)
        self._owners.pop(key, None)
        self._revision += 1
        found["metadata"]["resourceVersion"] = str(self._revision)
        self._tell("DELETED", key, found)

    def _tell(self, happened: str, key: Key, found: Object) -> None:
        self._events.append((self._revision, happened, key[0], key[1], copy.deepcopy(found)))
        if len(self._events) > 20_000:
            self._oldest = self._events[5_000][0]
            del self._events[:5_000]
        self._changed.notify_all()

    # --- the controllers ----------------------------------------------------------------------------------------

    def _control(self) -> None:
        while not self._ended:
            with self._changed:
                before = self._revision
                self._look()
                if self._revision == before:
                    self._changed.wait(0.2)

    def _look(self) -> None:
        pods: dict[str, list[Object]] = {}
        for (plural, _, _), found in list(self._objects.items()):
            if plural == "pods":
                owner = found["metadata"].get("ownerReferences", [{}])[0].get("uid", "")
                pods.setdefault(owner, []).append(found)
        for key, found in list(self._objects.items()):
            if key[0] == "horizontalpodautoscalers":
                self._autoscale(key, found)
        deployments = {key: found for key, found in self._objects.items() if key[0] == "deployments"}
        for key, found in list(deployments.items()):
            self._roll_out(key, copy.deepcopy(found), pods.pop(found["metadata"]["uid"], []))
        for owner, orphans in pods.items():
            for pod in orphans if owner else []:
                self.delete(("pods", pod["metadata"]["namespace"], pod["metadata"]["name"]), {}, {})
        for key, found in list(self._objects.items()):
            if key[0] == "pods" and not found["spec"].get("nodeName"):
                self._schedule(key, copy.deepcopy(found))

    def _autoscale(self, key: Key, scaler: Object) -> None:
        target = ("deployments", key[1], scaler["spec"]["scaleTargetRef"]["name"])
        deployment = self._objects.get(target)
        if deployment is None or not (now := deployment["spec"]["replicas"]):
            return
        wanted = min(max(now, scaler["spec"]["minReplicas"]), scaler["spec"]["maxReplicas"])
        if wanted != now:
            self.merge(target, {"spec": {"replicas": wanted}}, "kube-controller-manager")

    def _roll_out(self, key: Key, deployment: Object, pods: list[Object]) -> None:
        spec, replicas = deployment["spec"], deployment["spec"]["replicas"]
        digest = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
        live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        new = [pod for pod in live if pod["metadata"]["labels"]["pod-template-hash"] == digest]
        old = [pod for pod in live if pod not in new]
        most = replicas + math.ceil(replicas / 4)
        refused = ""
        for _ in range(min(replicas - len(new), most - len(live))):
            refused = self._make_pod(key, deployment, digest)
            if refused:
                break
        ready = sum(map(_is_ready, live))
        for pod in sorted(old, key=_is_ready) + sorted(new, key=_is_ready)[: max(len(new) - replicas, 0)]:
            # As with maxUnavailable 0: no ready pod goes before there is one more than is asked for.
            if pod in new or not _is_ready(pod) or ready > replicas:
                ready -= _is_ready(pod)
                self.delete(("pods", key[1], pod["metadata"]["name"]), {}, {})
        self._tell_status(key, deployment, live, new, refused)

    def _make_pod(self, key: Key, deployment: Object, digest: str) -> str:
        """Why there can be none; empty when it was made."""
        namespace, template = key[1], copy.deepcopy(deployment["spec"]["template"])
        count = sum(1 for plural, inside, _ in self._objects if (plural, inside) == ("pods", namespace))
        for (plural, inside, name), quota in self._objects.items():
            hard = quota.get("spec", {}).get("hard", {}).get("pods") if plural == "resourcequotas" else None
            if hard is not None and inside == namespace and count >= int(hard):
                used = f"requested: pods=1, used: pods={count}, limited: pods={hard}"
                return f'pods "{key[2]}-{digest}-x" is forbidden: exceeded quota: {name}, {used}'
        name = f"{key[2]}-{digest}-{uuid.uuid4().hex[:5]}"
        labels = template["metadata"]["labels"] | {"pod-template-hash": digest}
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "uid": deployment["metadata"]["uid"], "name": key[2]}
        metadata = {**template["metadata"], "name": name, "labels": labels, "ownerReferences": [owner]}
        pod = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.create("pods", namespace, pod, "kube-controller-manager")
        return ""

    def _tell_status(self, key: Key, deployment: Object, live: list[Object], new: list[Object], refused: str) -> None:
        if key not in self._objects:
            return
        ready = sum(map(_is_ready, live))
        before = {each["type"]: each for each in deployment.get("status", {}).get("conditions", [])}
        conditions = [("Available", "True" if ready >= deployment["spec"]["replicas"] else "False", "")]
        # A pod that waits for a place is not made anew at each look: the refusal stays until one is made.
        if refused:
            conditions.append(("ReplicaFailure", "True", refused))
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(live),
            "updatedReplicas": len(new),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [
                {
                    "type": kind,
                    "status": value,
                    "message": message,
                    "lastTransitionTime": before[kind]["lastTransitionTime"]
                    if before.get(kind, {}).get("status") == value
                    else _now(),
                }
                for kind, value, message in conditions
            ],
        }
        self._store(key, {**deployment, "status": status})

    def _schedule(self, key: Key, pod: Object) -> None:
        nodes = [found for (plural, _, _), found in self._objects.items() if plural == "nodes"]
        asked = sum(_cores(one["resources"]["requests"]["cpu"]) for one in pod["spec"]["containers"])
        fitting = [node for node in nodes if _cores(node["status"]["allocatable"]["cpu"]) >= asked]
        if fitting:
            pod["spec"]["nodeName"] = fitting[0]["metadata"]["name"]
            self._store(key, pod)
            return
        message = f"0/{len(nodes)} nodes are available: {len(nodes)} Insufficient cpu."
        waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        pod.setdefault("status", {})["conditions"] = [waiting]
        self._store(key, pod)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


def _handler(fake: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            fake._open.add(self.connection)

        def finish(self) -> None:
            fake._open.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

        def _do(self) -> None:
            fake.calls += 1
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            try:
                if fake.refuse_with and self._is_deployer():
                    code, retry_after = fake.refuse_with.pop(0)
                    self._answer(code, {"message": "try again later"}, retry_after)
                    return
                found = self._answer_to(body)
                if found is not None:
                    self._answer(200, found)
            except Refusal as refusal:
                self._answer(refusal.body["code"], refusal.body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def _is_deployer(self) -> bool:
            return "httpx" not in self.headers.get("user-agent", "")

        def _answer_to(self, body: Object) -> Object | str | None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/version":
                return {"major": "1", "minor": str(fake.minor), "gitVersion": f"v1.{fake.minor}.0"}
            path = parts.path.strip("/").split("/")
            path = path[2:] if path[0] == "api" else path[3:]
            if not path:
                return self._discover(parts.path)
            namespace = ""
            if path[0] == "namespaces" and len(path) > 2:
                namespace, path = path[1], path[2:]
            plural, name, sub = (*path, "", "")[:3]
            if plural not in fake.kinds:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            manager = query.get("fieldManager", "unknown")
            return self._act(plural, namespace, name, sub, body, query, manager)

        def _act(
            self,
            plural: str,
            namespace: str,
            name: str,
            sub: str,
            body: Object,
            query: dict[str, str],
            manager: str,
        ) -> Object | str | None:
            key, wanted = (plural, namespace, name), _selecting(query)
            if sub == "log":
                fake.find(*key)
                return fake.log_of(name, query.get("container", ""))
            match self.command:
                case "GET" if name:
                    return fake.find(*key)
                case "GET" if query.get("watch") == "true":
                    self._stream(fake.watch(plural, namespace, int(query.get("resourceVersion", "0")), wanted))
                    return None
                case "GET":
                    return fake.list(plural, namespace, wanted)
                case "POST":
                    return fake.create(plural, namespace, body, manager)
                case "PUT":
                    return fake.replace(key, body, manager, sub)
                case "PATCH" if "apply" in self.headers["content-type"]:
                    return fake.apply(key, body, manager, force=query.get("force") == "true")
                case "PATCH":
                    return fake.merge(key, body, manager, sub)
                case _:
                    return fake.delete(key, body, query)

        def _discover(self, path: str) -> Object:
            api = path.removeprefix("/apis/")
            resources = [{"name": plural} for plural, (known, _) in fake.kinds.items() if known == api]
            if not resources:
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            return {"kind": "APIResourceList", "resources": resources}

        def _answer(self, code: int, found: Object | str, retry_after: str = "") -> None:
            is_text = isinstance(found, str)
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if is_text else "application/json")
            self.send_header("content-length", str(len(data)))
            if retry_after:
                self.send_header("retry-after", retry_after)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Iterator[Object]) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.flush()
            for event in events:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()
            self.close_connection = True

    return Handler


def _selecting(query: dict[str, str]) -> Callable[[Object], bool]:
    labels = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
    field, _, value = query.get("fieldSelector", "").partition("=")

    def wanted(found: Object) -> bool:
        has = found["metadata"].get("labels", {})
        fits = all(has.get(key) == value for key, value in labels.items())
        part, _, name = field.partition(".")
        return fits and (not field or found.get(part, {}).get(name) == value)

    return wanted


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _same(one: Object, other: Object) -> bool:
    def bare(found: Object) -> Object:
        return {**found, "metadata": {**found["metadata"], "resourceVersion": ""}}

    return bare(one) == bare(other)


def _cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
