"""A model version as a container image (a ModelCar), built without Docker, the same bytes every time.

The image has one layer of ours, with `/models/model.onnx` and `/models/model.json` (what the registry says of the
version). The layer is a plain tar: a compressed one would differ with the library that compressed it. Everything that
could vary is fixed (owner 0, mode, time of registration), so that the same version always has the same digest.

Without a base the image holds these files and nothing else: enough for Kubernetes' image volumes. KServe's sidecar runs
`sh`, `ln` and `sleep` from the image, and an init container that copies runs `cp`: for these a base with a shell is
needed (busybox), whose layers come below ours and whose digest becomes a part of the result.

Formats: OCI image format and image layout 1.1 (github.com/opencontainers/image-spec).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from affiant.common.events import ModelSpec

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PLATFORMS = ("amd64", "arm64")
"""Both of Linux: the layer is the same, an image without a base runs nothing."""


@dataclass(frozen=True)
class Base:
    """What an image is built upon: for each architecture its layers and its configuration."""

    layers: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOTHING = Base(dict.fromkeys(PLATFORMS, ()), {key: {} for key in PLATFORMS})


@dataclass(frozen=True)
class Layout:
    """An OCI image layout: a folder of blobs by their digest, and `index.json`."""

    path: Path

    def blob(self, digest: str) -> Path:
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def add(self, body: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Keep a blob; returns its descriptor."""
        digest = digest_of(body)
        self.blob(digest).parent.mkdir(parents=True, exist_ok=True)
        self.blob(digest).write_bytes(body)
        return {"mediaType": media_type, "digest": digest, "size": len(body), **more}

    def read(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(digest).read_bytes())
        return found

    def finish(self, index: Mapping[str, Any], name: str) -> None:
        """Name what the layout holds."""
        described = {**index, "annotations": {"org.opencontainers.image.ref.name": name}}
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.path / "index.json").write_bytes(
            _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described]})
        )


def build(layout: Layout, spec: ModelSpec, registered_at: str, model: bytes, base: Base = NOTHING) -> dict[str, Any]:
    """Write the image of a version into `layout`; returns the descriptor of its index, whose digest names the image."""
    labels = _labels(spec, registered_at)
    body = tar({"models/model.onnx": model, "models/model.json": described(spec)})
    layer = layout.add(body, LAYER)
    manifests = [
        _manifest(layout, architecture, layer, base, labels, registered_at) for architecture in sorted(base.layers)
    ]
    index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": labels})
    descriptor = layout.add(index, INDEX)
    layout.finish(descriptor, str(spec.version))
    return descriptor


def blobs(layout: Layout, index_digest: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What must be pushed, in its order: every blob before the manifest that names it. Yields `blob` or `manifest`."""
    for described in layout.read(index_digest)["manifests"]:
        manifest = layout.read(described["digest"])
        for part in (*manifest["layers"], manifest["config"]):
            yield "blob", part
        yield "manifest", described
    yield "manifest", {"mediaType": INDEX, "digest": index_digest}


def digest_of(body: bytes) -> str:
    """As the registry and OCI write it."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def described(spec: ModelSpec) -> bytes:
    """What the registry says of a version, without what may change afterwards."""
    fixed = msgspec.structs.replace(spec, tags={}, image="")
    return _json(msgspec.to_builtins(fixed))


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` and their folders, readable by everybody, that depends on nothing but their names and bytes."""
    buffer = io.BytesIO()
    folders = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."})
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, body in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o444
            archive.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def _manifest(
    layout: Layout, architecture: str, layer: dict[str, Any], base: Base, labels: dict[str, str], created: str
) -> dict[str, Any]:
    config = _config(architecture, layer, base.configs[architecture], labels, created)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add(_json(config), CONFIG),
        "layers": [*base.layers[architecture], layer],
        "annotations": labels,
    }
    return layout.add(_json(manifest), MANIFEST, platform={"os": "linux", "architecture": architecture})


def _config(
    architecture: str, layer: dict[str, Any], base: Mapping[str, Any], labels: dict[str, str], created: str
) -> dict[str, Any]:
    below = base.get("rootfs", {}).get("diff_ids", [])
    step = {"created": created, "created_by": "affiant package"}
    return {
        **base,
        "created": created,
        "architecture": architecture,
        "os": "linux",
        # Nobody's user: a model's files need no owner, and what runs from the image needs no rights.
        "config": {**base.get("config", {}), "Labels": labels, "User": "65532:65532"},
        # Of a layer that is not compressed, the digest is also that of its content.
        "rootfs": {"type": "layers", "diff_ids": [*below, layer["digest"]]},
        "history": [*base.get("history", []), step],
    }


def _labels(spec: ModelSpec, registered_at: str) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": spec.model,
        "org.opencontainers.image.version": str(spec.version),
        "org.opencontainers.image.created": registered_at,
        "org.opencontainers.image.authors": spec.author,
        "io.affiant.model.digest": spec.digest,
        "io.affiant.model.size": str(spec.size_bytes),
    }


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
