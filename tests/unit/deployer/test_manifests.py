"""The manifests of a version, held against files that a person has read, and against Kubernetes' own schemas.

To write the files anew after a change that is meant, and read the difference:
`AFFIANT_WRITE_GOLDEN=1 pytest tests/unit/deployer/test_manifests.py`
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from affiant.common.serving import BusAccess, read_config
from affiant.deployer.backends.kubernetes import kserve, manifests, names
from affiant.deployer.backends.kubernetes.manifests import Installation, Workload
from affiant.deployer.domain.situation import Slot
from tests.unit.deployer.world import spec

FOLDER = Path(__file__).with_name("manifests")
SLOT = Slot("loan", "champion")
IMAGED = msgspec.structs.replace(spec(3), image=f"registry.example.com/models/loan@sha256:{3:064d}")
INSTALLATION = Installation(
    name="affiant",
    namespace="models",
    image="registry.example.com/affiant/modelserver@sha256:" + "5" * 64,
    bus=BusAccess(url="tls://nats.affiant.svc:4222", nkey_file="/etc/affiant/bus/seed", ca_file="/etc/affiant/bus/ca"),
    registry_url="http://registry.affiant.svc:8401",
    bus_secret="model-bus",
    registry_secret="model-registry",
    pull_secret="pull",
    gateway="gateways/public",
    domain="models.example.com",
    sink_url="http://auditor.affiant.svc:8404/sinks/kserve",
)
CASES: dict[str, list[dict[str, Any]]] = {
    "image-volume": manifests.of_version(INSTALLATION, Workload(SLOT, IMAGED)),
    "image-copy": manifests.of_version(INSTALLATION, Workload(SLOT, IMAGED, delivery="image-copy")),
    "download": manifests.of_version(INSTALLATION, Workload(SLOT, spec(3), delivery="download")),
    "asleep": manifests.of_version(
        INSTALLATION, Workload(Slot("loan", "challenger"), IMAGED, replicas=0, asleep_since="2026-01-01T00:00:00Z")
    ),
    "pooled": manifests.of_version(INSTALLATION, Workload(Slot("loan", "challenger"), IMAGED, replicas=1, pooled=True)),
    "address": [
        manifests.address(INSTALLATION, SLOT, 3, percent=0, pooled=False),
        manifests.address(INSTALLATION, SLOT, 3, percent=10, pooled=True),
        manifests.http_route(INSTALLATION, SLOT, 10),
    ],
    "kserve": [kserve.inference_service(INSTALLATION, Workload(SLOT, IMAGED))],
}
CUSTOM = {"HTTPRoute", "InferenceService"}


@pytest.mark.parametrize("case", CASES)
def test_the_manifests_are_those_that_were_read(case: str) -> None:
    file = FOLDER / f"{case}.yaml"
    if os.environ.get("AFFIANT_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump_all(CASES[case], sort_keys=False, width=120))
    assert list(yaml.safe_load_all(file.read_text())) == CASES[case]


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_own_schemas_take_the_manifests(case: str) -> None:
    for manifest in CASES[case]:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("case", ["image-volume", "image-copy", "download"])
def test_every_container_is_locked_down_and_named_by_digest(case: str) -> None:
    pod = next(one for one in CASES[case] if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = container["securityContext"]
        assert "@sha256:" in container["image"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("case", ["image-volume", "image-copy", "download"])
def test_the_model_lies_where_the_configuration_says(case: str) -> None:
    config = read_config(next(one for one in CASES[case] if one["kind"] == "ConfigMap")["data"]["config.json"].encode())
    pod = next(one for one in CASES[case] if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "model"]
    inside = "models/model.onnx" if case == "image-volume" else "model.onnx"
    assert config.model_path == f"{mount['mountPath']}/{inside}"
    for fetcher in pod.get("initContainers", []):
        assert config.model_path in fetcher["command"]


def test_another_configuration_makes_other_pods() -> None:
    other = msgspec.structs.replace(IMAGED, description="another word")
    one, two = (
        next(each for each in manifests.of_version(INSTALLATION, Workload(SLOT, which)) if each["kind"] == "Deployment")
        for which in (IMAGED, other)
    )
    notes = [each["spec"]["template"]["metadata"]["annotations"][names.CONFIG] for each in (one, two)]
    assert notes[0] != notes[1]


@pytest.mark.parametrize("model", ["loan", "7up", "x" * 63, "a-" * 31 + "b"])
def test_every_models_name_makes_names_that_kubernetes_takes(model: str) -> None:
    slot = Slot(model, "challenger")
    for name in (names.of_slot(slot), names.of_version(slot, 2**31 - 1)):
        assert len(name) <= 63
        assert name[0].isalpha() and name[-1].isalnum()


def test_two_long_names_do_not_become_one() -> None:
    first, second = (Slot("x" * 60 + end, "champion") for end in ("a", "b"))
    assert names.of_slot(first) != names.of_slot(second)


def test_the_url_is_the_services_or_the_gateways() -> None:
    assert manifests.url(INSTALLATION, SLOT, routed=False) == "http://loan-champion.models.svc:8080"
    assert manifests.url(INSTALLATION, SLOT, routed=True) == "https://loan-champion.models.example.com"
    plain = replace(INSTALLATION, scheme="http")
    assert manifests.url(plain, SLOT, routed=True) == "http://loan-champion.models.example.com"
