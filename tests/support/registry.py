"""A registry that speaks the OCI distribution protocol, as much of it as pushing and pulling needs.

It checks what it is told: digests of blobs and manifests, that a manifest's parts are there, and who asks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})")
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<id>[0-9a-f-]*)")
_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class FakeRegistry:
    """`login` (name, password) makes it ask who comes. What was pushed is in `blobs` and `manifests`."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[str] = []
        self.away = False
        self.login = login
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def manifest(self, name: str, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manifests[name, reference][1])
        return found

    def put_image(self, name: str, tag: str, layers: list[bytes], architecture: str) -> None:
        """Hold an image as if somebody had pushed it."""
        config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            }
        ).encode()
        for body in (*layers, config):
            self.blobs[name, digest_of(body)] = body
        parts = [{"mediaType": "l", "digest": digest_of(body), "size": len(body)} for body in layers]
        about = {"mediaType": "c", "digest": digest_of(config), "size": len(config)}
        kind = "application/vnd.oci.image.manifest.v1+json"
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": about, "layers": parts}).encode()
        self.manifests[name, tag] = self.manifests[name, digest_of(body)] = (kind, body)

    def missing(self, name: str, manifest: dict[str, Any]) -> list[str]:
        """The parts of a manifest that were not pushed before it."""
        parts = [*manifest.get("layers", []), *([manifest["config"]] if "config" in manifest else [])]
        lost = [part["digest"] for part in parts if (name, part["digest"]) not in self.blobs]
        below = [part["digest"] for part in manifest.get("manifests", [])]
        return lost + [digest for digest in below if (name, digest) not in self.manifests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def _enter(self) -> bytes | None:
                """The body of a request that may be answered."""
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                registry.requests.append(f"{self.command} {self.path}")
                if registry.away:
                    self._answer(503, b"away")
                    return None
                if registry.login:
                    wanted = "Basic " + base64.b64encode(":".join(registry.login).encode()).decode()
                    if self.headers.get("Authorization") != wanted:
                        self._answer(401, b"who are you?", WWW_Authenticate='Basic realm="test"')
                        return None
                return body

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                if self._enter() is None:
                    return
                if found := _BLOB.fullmatch(self.path):
                    blob = registry.blobs.get((found["name"], found["digest"]))
                    self._answer(404 if blob is None else 200, blob or b"")
                elif found := _MANIFEST.fullmatch(self.path):
                    kind, body = registry.manifests.get((found["name"], found["reference"]), ("", b""))
                    self._answer(200 if body else 404, body, Content_Type=kind or "text/plain")
                else:
                    self._answer(404)

            def do_POST(self) -> None:
                if self._enter() is not None:
                    found = _UPLOAD.fullmatch(self.path)
                    assert found
                    self._answer(202, Location=f"/v2/{found['name']}/blobs/uploads/{uuid.uuid4()}")

            def do_PUT(self) -> None:
                body = self._enter()
                if body is None:
                    return
                parts = urlsplit(self.path)
                if found := _UPLOAD.fullmatch(parts.path):
                    digest = parse_qs(parts.query)["digest"][0]
                    right = digest == digest_of(body)
                    if right:
                        registry.blobs[found["name"], digest] = body
                    self._answer(201 if right else 400, Docker_Content_Digest=digest_of(body))
                elif found := _MANIFEST.fullmatch(parts.path):
                    self._keep(found["name"], found["reference"], body)
                else:
                    self._answer(404)

            def _keep(self, name: str, reference: str, body: bytes) -> None:
                digest = digest_of(body)
                lost = registry.missing(name, json.loads(body))
                if lost or (reference.startswith("sha256:") and reference != digest):
                    self._answer(
                        400, json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "detail": lost}]}).encode()
                    )
                    return
                kept = (self.headers["Content-Type"], body)
                registry.manifests[name, reference] = registry.manifests[name, digest] = kept
                self._answer(201, Docker_Content_Digest=digest)

        return Handler
