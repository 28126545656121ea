"""A version as a container image: built the same every time, pushed by the protocol, recorded by its digest."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from affiant.cli import home as homes, images, pushing, record
from affiant.cli.app import main
from affiant.cli.home import Home
from affiant.cli.images import Layout
from affiant.cli.record import Entry, Record
from affiant.common import bus
from affiant.common.events import ModelSpec
from tests.support.model import loan_spec
from tests.support.registry import FakeRegistry, digest_of
from tests.unit.cli.fake_services import FakeServices

MODEL = b"the bytes of an ONNX file"
SPEC = loan_spec(MODEL)
AT = "2026-11-23T10:00:00.000000Z"


@dataclass
class Affiant:
    """The command line, with a registry of models that is a fake and a registry of images that is not quite one."""

    home: Home
    services: FakeServices
    capsys: pytest.CaptureFixture[str]

    def package(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["package", "loan/1", "--home", str(self.home.path), "--as", "omar", "--output", "json", *arguments])
        said = self.capsys.readouterr()
        return int(str(ended.value.code)), json.loads(said.out) if said.out else {}, said.err

    def recorded(self) -> list[dict[str, Any]]:
        return [asked.json for asked in self.services.asked if asked.method == "PUT"]


@pytest.fixture
def affiant(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Affiant]:
    monkeypatch.setattr(pushing, "PAUSES", ())
    monkeypatch.setenv("HOME", str(tmp_path))
    home = Home(tmp_path / "home")
    homes.prepare(home)
    services = FakeServices()
    spec = msgspec.to_builtins(SPEC)
    services.answers["GET /v1/models/loan/versions/1"] = (200, {"spec": spec, "registered_at": AT})
    services.answers[f"GET /v1/artifacts/{SPEC.digest}"] = (200, MODEL)
    services.answers["PUT /v1/models/loan/versions/1/image"] = (200, {})
    services.start()
    record.write(home, Record("nats://127.0.0.1:1", dict.fromkeys(bus.SERVICES, Entry(services.url))))
    yield Affiant(home, services, capsys)
    services.stop()


PLAIN = ModelSpec(
    model="loan", version=1, digest=digest_of(MODEL), size_bytes=25, author="ana", inputs=[], outputs=[], columns=[]
)


def built(path: Path, **changed: Any) -> str:
    spec = msgspec.structs.replace(SPEC, **changed)
    digest: str = images.build(Layout(path), spec, AT, MODEL)["digest"]
    return digest


def test_the_same_version_always_has_the_same_digest(tmp_path: Path) -> None:
    first, second = (images.build(Layout(tmp_path / name), PLAIN, AT, MODEL)["digest"] for name in "ab")
    assert first == second
    # Written down: were it to change, images of the same version would differ between releases of Affiant.
    assert first == "sha256:259b5943a06c2f0b9cdb569c3b605c23949dcc8797773995399fb55bdaa1ec98"


def test_what_may_change_of_a_version_does_not_change_its_image(tmp_path: Path) -> None:
    assert built(tmp_path / "a") == built(tmp_path / "b", tags={"team": "risk"}, image="r/x@sha256:" + "0" * 64)
    assert built(tmp_path / "a") != built(tmp_path / "c", version=2)


def test_the_layer_holds_the_model_where_kserve_and_image_volumes_look_for_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    index = layout.read(built(tmp_path))
    assert [one["platform"] for one in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
    layers = [layout.read(one["digest"])["layers"] for one in index["manifests"]]
    assert layers[0] == layers[1]
    with tarfile.open(fileobj=io.BytesIO(layout.blob(layers[0][0]["digest"]).read_bytes())) as archive:
        entries = {entry.name: entry for entry in archive}
        assert list(entries) == ["models", "models/model.json", "models/model.onnx"]
        found = archive.extractfile("models/model.onnx")
        assert found is not None
        assert found.read() == MODEL
        described = archive.extractfile("models/model.json")
        assert described is not None
        assert json.loads(described.read())["digest"] == SPEC.digest
    assert all((entry.uid, entry.mtime) == (0, 0) for entry in entries.values())
    assert index["annotations"]["io.affiant.model.digest"] == SPEC.digest


def test_a_folder_becomes_an_oci_layout_and_nothing_is_recorded(affiant: Affiant, tmp_path: Path) -> None:
    folder = tmp_path / "loan-1"
    code, said, _ = affiant.package("--to", str(folder))
    assert code == 0
    index = json.loads((folder / "index.json").read_text())
    assert index["manifests"][0]["digest"] == said["digest"] == built(tmp_path / "again")
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    for blob in (folder / "blobs" / "sha256").iterdir():
        assert digest_of(blob.read_bytes()) == f"sha256:{blob.name}"
    assert affiant.recorded() == []
    assert affiant.package("--to", str(folder))[0] != 0


def test_a_pushed_image_is_recorded_by_its_digest(affiant: Affiant) -> None:
    with FakeRegistry() as registry:
        code, said, words = affiant.package("--to", f"oci://{registry.host}/models/loan:1")
        assert code == 0, words
        image = f"{registry.host}/models/loan@{said['digest']}"
        assert said["image"] == image
        assert affiant.recorded() == [{"image": image, "platforms": ["linux/amd64", "linux/arm64"]}]
        assert digest_of(registry.manifests["models/loan", "1"][1]) == said["digest"]
        assert registry.missing("models/loan", registry.manifest("models/loan", "1")) == []


def test_pushing_again_sends_no_blob_twice(affiant: Affiant) -> None:
    with FakeRegistry() as registry:
        affiant.package("--to", f"oci://{registry.host}/models/loan:1")
        registry.requests.clear()
        assert affiant.package("--to", f"oci://{registry.host}/models/loan:1")[0] == 0
        assert not [request for request in registry.requests if "/blobs/uploads/" in request]


def test_on_a_base_its_layers_lie_below_and_its_digest_counts(affiant: Affiant, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        registry.put_image("library/busybox", "1", [b"a shell"], "amd64")
        base = f"oci://{registry.host}/library/busybox:1"
        code, said, words = affiant.package("--to", f"oci://{registry.host}/models/loan:1", "--base", base)
        assert code == 0, words
        assert said["platforms"] == ["linux/amd64"]
        index = registry.manifest("models/loan", "1")
        manifest = registry.manifest("models/loan", index["manifests"][0]["digest"])
        assert manifest["layers"][0]["digest"] == digest_of(b"a shell")
        config = json.loads(registry.blobs["models/loan", manifest["config"]["digest"]])
        assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
        assert config["config"]["Env"] == ["PATH=/bin"]
        assert said["digest"] != built(tmp_path / "plain")


def test_a_registry_that_asks_who_comes_is_told_what_docker_knows(affiant: Affiant, tmp_path: Path) -> None:
    with FakeRegistry(login=("omar", "secret")) as registry:
        to = f"oci://{registry.host}/models/loan:1"
        code, _, words = affiant.package("--to", to)
        assert code != 0
        assert "docker login" in words
        assert affiant.recorded() == []

        auth = base64.b64encode(b"omar:secret").decode()
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        assert affiant.package("--to", to)[0] == 0


def test_a_registry_that_is_away_or_refuses_leaves_nothing_recorded(affiant: Affiant) -> None:
    with FakeRegistry() as registry:
        registry.away = True
        code, _, words = affiant.package("--to", f"oci://{registry.host}/models/loan:1")
        assert code != 0
        assert "Traceback" not in words
    assert affiant.package("--to", "oci://127.0.0.1:1/models/loan:1")[0] != 0
    assert affiant.recorded() == []


def test_other_bytes_than_were_registered_are_never_packaged(affiant: Affiant, tmp_path: Path) -> None:
    affiant.services.answers[f"GET /v1/artifacts/{SPEC.digest}"] = (200, b"something else")
    code, _, words = affiant.package("--to", str(tmp_path / "x"))
    assert code != 0
    assert "other bytes" in words
    assert not (tmp_path / "x").exists()
