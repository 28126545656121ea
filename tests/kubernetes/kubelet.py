"""A kubelet that runs nothing: it is a node, and says of pods what a test wants to be true of them.

It speaks to any API server, real or fake, as kubelets do: a node with a lease, the status of the pods that were bound
to it, the end of those that are deleted, and the logs that the API server asks it for.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import httpx

Object = dict[str, Any]
Fate = Literal["ready", "never ready", "pull", "crash"]

MERGE = {"content-type": "application/merge-patch+json"}
LAST_WORDS = "loading the model\nonnxruntime: cannot allocate 9 TB\n"
CORES = 64


class Kubelet:
    """One node. `fate` says what becomes of a pod; a pod of another fate than before is told anew by `look_again`."""

    def __init__(self, api: httpx.Client, name: str, fate: Callable[[Object], Fate], certificate: Path | None) -> None:
        self._api = api
        self._name = name
        self.fate = fate
        self._told: dict[str, Fate] = {}
        self._ended = threading.Event()
        self._again = threading.Event()
        self._logs = _log_server(certificate) if certificate else None
        self._register()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run, self._renew)]
        for thread in self._threads:
            thread.start()

    def look_again(self) -> None:
        """The fates have changed."""
        self._again.set()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        if self._logs is not None:
            self._logs.shutdown()
            self._logs.server_close()

    # --- the node -----------------------------------------------------------------------------------------------

    def _register(self) -> None:
        port = self._logs.server_port if self._logs else 10250
        capacity = {"cpu": str(CORES), "memory": "256Gi", "pods": "2000"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name}}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [_condition("Ready", True, "KubeletReady")],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        self._api.post("/api/v1/nodes", json={**node, "status": status})
        self._api.patch(f"/api/v1/nodes/{self._name}/status", json={"status": status}, headers=MERGE)
        self._renew_once()

    def _renew(self) -> None:
        while not self._ended.wait(5):
            with suppress(httpx.HTTPError):
                self._renew_once()
                # The node controller's taints of a node that was not ready for a moment go only when it is.
                ready = {"status": {"conditions": [_condition("Ready", True, "KubeletReady")]}}
                self._api.patch(f"/api/v1/nodes/{self._name}/status", json=ready, headers=MERGE)

    def _renew_once(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": self._name, "leaseDurationSeconds": 40, "renewTime": now}
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        answer = self._api.patch(f"{leases}/{self._name}", json={"spec": spec}, headers=MERGE)
        if answer.status_code == 404:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
            self._api.post(leases, json={**lease, "spec": spec})

    # --- the pods -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow(self._look())
            except (httpx.HTTPError, KeyError, json.JSONDecodeError):
                self._ended.wait(0.1)

    def _look(self) -> str:
        found = self._api.get("/api/v1/pods", params=self._mine()).raise_for_status().json()
        for pod in found["items"]:
            self._attend(pod)
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, since: str) -> None:
        query = {**self._mine(), "watch": "true", "resourceVersion": since, "timeoutSeconds": "20"}
        timeout = httpx.Timeout(10, read=0.3)
        lines = ""
        with self._api.stream("GET", "/api/v1/pods", params=query, timeout=timeout) as answer:
            for text in answer.iter_text():
                *whole, lines = (lines + text).split("\n")
                for event in map(json.loads, whole):
                    if event["type"] == "ERROR":
                        return
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._attend(event["object"])
                if self._again.is_set() or self._ended.is_set():
                    self._again.clear()
                    return

    def _mine(self) -> dict[str, str]:
        return {"fieldSelector": f"spec.nodeName={self._name}"}

    def _attend(self, pod: Object) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            self._told.pop(metadata["uid"], None)
            self._api.request("DELETE", path, json={"gracePeriodSeconds": 0})
            return
        fate = self.fate(pod)
        if self._told.get(metadata["uid"]) != fate:
            status = {"status": _status(pod, fate)}
            if self._api.patch(f"{path}/status", json=status, headers=MERGE).is_success:
                self._told[metadata["uid"]] = fate


def _status(pod: Object, fate: Fate) -> Object:
    containers = pod["spec"]["containers"]
    ready = fate == "ready"
    state: Object = {"running": {"startedAt": _now()}}
    last: Object = {}
    if fate == "pull":
        said = "failed to resolve reference: not found"
        state = {"waiting": {"reason": "ImagePullBackOff", "message": f"Back-off pulling image: {said}"}}
    if fate == "crash":
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        last = {"terminated": {"exitCode": 2, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}}
    return {
        "phase": "Pending" if fate == "pull" else "Running",
        "conditions": [
            _condition("PodScheduled", True),
            _condition("Initialized", True),
            _condition("ContainersReady", ready),
            _condition("Ready", ready),
        ],
        "containerStatuses": [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": "",
                "ready": ready,
                "started": ready,
                "restartCount": 3 if fate == "crash" else 0,
                "state": state,
                "lastState": last,
            }
            for one in containers
        ],
    }


def _condition(kind: str, holds: bool, reason: str = "") -> Object:
    condition = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": _now()}
    return condition | ({"reason": reason, "lastHeartbeatTime": _now()} if reason else {})


def _log_server(certificate: Path) -> ThreadingHTTPServer:
    """Answers `GET /containerLogs/…`, over TLS with a certificate that an API server does not check by default."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = LAST_WORDS.encode() if self.path.startswith("/containerLogs/") else b""
            self.send_response(200 if body else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
