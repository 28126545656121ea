"""The Helm chart: what it renders, what it refuses, and that it says what the code understands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from affiant.auditor.settings import AuditorSettings
from affiant.cli import bootstrap
from affiant.cli.bootstrap import Folder
from affiant.common import bus
from affiant.common.settings import ServiceSettings, load
from affiant.deployer.app import make_service
from affiant.deployer.backends.kubernetes import cluster
from affiant.deployer.settings import DeployerSettings
from affiant.explainer.settings import ExplainerSettings
from affiant.registry.settings import RegistrySettings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "chart" / "affiant"
GOLDEN = Path(__file__).parent / "golden"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "registry": RegistrySettings,
    "deployer": DeployerSettings,
    "explainer": ExplainerSettings,
    "auditor": AuditorSettings,
}
DIGEST = f"sha256:{'a' * 64}"
NEEDED = {"image": {"digests": {"modelserver": DIGEST}}}
CASES: dict[str, dict[str, Any]] = {
    "default": NEEDED,
    "production": NEEDED
    | {
        "postgresql": {"existingSecret": "affiant-databases"},
        "auth": {"oidc": {"issuer": "https://login.example.com", "audience": "affiant", "roles": ["risk=approver"]}},
        "bus": {"tls": {"enabled": True, "secretName": "affiant-nats-tls"}},
        "auditor": {"signingKeySecret": "affiant-signing"},
        "services": {"auditor": {"replicas": 2}, "deployer": {"replicas": 2}, "explainer": {"replicas": 3}},
        "monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "prometheus"}},
        "keda": {"explainer": True, "auditor": True},
        "models": {"gateway": "gateways/public", "gatewayDomain": "models.example.com", "namespace": "models"},
        "networkPolicy": {"monitoringFrom": [{"namespaceSelector": {"matchLabels": {"name": "keda"}}}]},
    },
    "an existing bus": NEEDED
    | {"bus": {"enabled": False, "url": "nats://a.example.com:4222,nats://b.example.com:4222"}},
    "kserve": NEEDED | {"models": {"runtime": "kserve", "auditSinkUrl": "http://affiant-auditor:8400/v1/sink"}},
    "one node": NEEDED
    | {
        "bus": {"replicas": 1},
        "topologySpread": False,
        "podDisruptionBudgets": False,
        "networkPolicy": {"enabled": False},
        "image": {"digests": dict.fromkeys((*SETTINGS, "modelserver"), DIGEST), "pullSecrets": ["pull"]},
    },
}


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("helm")), *arguments]
    given = json.dumps(values or {})
    return subprocess.run(
        [*command, "--values", "-"], input=given, capture_output=True, text=True, timeout=120, check=False
    )


@cache
def text(case: str) -> str:
    done = helm("template", "affiant", str(CHART), "--namespace", "affiant", values=CASES[case])
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(case: str) -> list[dict[str, Any]]:
    return [one for one in yaml.load_all(text(case), Loader=yaml.CSafeLoader) if one]


def kinds(case: str, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in rendered(case) if one["kind"] == kind}


def pods(case: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in rendered(case):
        spec = one if one["kind"] == "Pod" else one.get("spec", {}).get("template") if "spec" in one else None
        if isinstance(spec, dict) and "containers" in spec.get("spec", {}):
            yield f"{one['kind']} {one['metadata']['name']}", spec["spec"]


def environment(case: str, service: str) -> dict[str, str]:
    pod = kinds(case, "StatefulSet")[f"affiant-{service}"]["spec"]["template"]["spec"]
    return {line["name"]: line.get("value", "postgresql://from-a-secret/x") for line in pod["containers"][0]["env"]}


@pytest.mark.parametrize("case", CASES)
def test_the_chart_passes_helms_own_lint(case: str) -> None:
    done = helm("lint", str(CHART), "--strict", values=CASES[case])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_valid_kubernetes(case: str) -> None:
    for one in rendered(case):
        if one["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "keda.sh"):
            continue
        kubernetes_validate.validate(one, "1.36", strict=True)


def test_the_default_is_what_was_looked_at() -> None:
    """`AFFIANT_WRITE_GOLDEN=1` writes it anew; the difference is for a reviewer."""
    golden = GOLDEN / "default.yaml"
    if os.environ.get("AFFIANT_WRITE_GOLDEN"):
        golden.write_text(text("default"))
    assert text("default") == golden.read_text()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("service", SETTINGS)
def test_every_variable_is_a_setting_that_the_service_knows(case: str, service: str) -> None:
    prefix = f"AFFIANT_{service.upper()}"
    given = environment(case, service)
    assert all(name.startswith(f"{prefix}_") for name in given)
    settings = load(SETTINGS[service], prefix, given)
    assert settings.nats_api == bus.LENT_API
    assert settings.nats_nkey_file == "/etc/affiant/bus/seed"


@pytest.mark.parametrize("case", CASES)
def test_the_deployer_can_work_with_what_it_is_told(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(case, "deployer").items():
        monkeypatch.setenv(name, value)
    assert make_service().name == "deployer"


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted(case: str) -> None:
    found = dict(pods(case))
    assert len(found) >= 5
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")), name
        assert all(set(volume) - {"name"} <= {"secret", "emptyDir", "projected", "persistentVolumeClaim"}
                   for volume in pod["volumes"]), name  # fmt: skip
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("case", CASES)
def test_only_the_deployer_is_given_a_token_of_kubernetes(case: str) -> None:
    given = {name for name, pod in pods(case) if pod["automountServiceAccountToken"]}
    assert given == {"StatefulSet affiant-deployer"}
    assert all(one["automountServiceAccountToken"] is False for one in kinds(case, "ServiceAccount").values())


def test_the_deployers_role_lists_exactly_what_the_deployer_does() -> None:
    rules = [rule for case in ("production", "kserve") for one in kinds(case, "Role").values() for rule in one["rules"]]
    granted = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    groups = {resource: rule["apiGroups"][0] for rule in rules for resource in rule["resources"]}
    applied = {"list", "watch", "create", "patch", "delete"}
    wanted = {kind.plural: applied for kind in cluster.KINDS.values()}
    wanted |= {"pods": {"list", "watch", "delete"}, "pods/log": {"get"}, "leases": {"get", "create", "update"}}
    assert granted == wanted
    for kind in cluster.KINDS.values():
        assert groups[kind.plural] == (kind.api.partition("/")[0] if "/" in kind.api else "")
    assert not [one for case in CASES for one in rendered(case) if one["kind"].startswith("ClusterRole")]
    assert kinds("production", "Role")["affiant-deployer"]["metadata"]["namespace"] == "models"


def test_probes_ask_different_questions() -> None:
    for service in SETTINGS:
        (container,) = kinds("default", "StatefulSet")[f"affiant-{service}"]["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("case", ["default", "production"])
def test_every_secret_that_is_used_is_written_by_bootstrap_or_named_in_the_values(case: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    bootstrap.prepare(folder, [bootstrap.TRIAL])
    bootstrap.prepare_people(folder, {})
    server = bootstrap.cluster_server(release="affiant", namespace="affiant", servers=3, tls=False, password="x")
    bootstrap.write(folder, server, "affiant")
    written = {one["metadata"]["name"]: set(one["data"]) for one in yaml.safe_load_all(folder.secrets.read_text())}
    named = {"affiant-nats-tls", "affiant-databases", "affiant-signing"}
    used = set()
    for _, pod in pods(case):
        for volume in pod["volumes"]:
            sources = volume.get("projected", {}).get("sources", [])
            used |= {source["secret"]["name"] for source in sources}
            used |= {volume["secret"]["secretName"]} if "secret" in volume else set()
    deployer = environment(case, "deployer")
    used |= {deployer["AFFIANT_DEPLOYER_MODELSERVER_SECRET"], deployer["AFFIANT_DEPLOYER_REGISTRY_SECRET"]}
    assert used <= set(written) | named
    assert {"seed", "token"} == written[deployer["AFFIANT_DEPLOYER_MODELSERVER_SECRET"]]
    assert {"token"} == written[deployer["AFFIANT_DEPLOYER_REGISTRY_SECRET"]]


def test_the_bus_of_bootstrap_is_the_bus_of_the_chart(tmp_path: Path) -> None:
    server = bootstrap.cluster_server(release="affiant", namespace="affiant", servers=3, tls=True, password="x")
    bus_set = kinds("production", "StatefulSet")["affiant-nats"]["spec"]
    assert bus_set["replicas"] == 3
    assert server.cluster is not None
    assert list(server.cluster.routes) == [f"nats://affiant-nats-{n}.affiant-nats.affiant.svc:6222" for n in range(3)]
    mounts = {mount["mountPath"] for mount in bus_set["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert server.store in mounts
    assert server.tls is not None
    assert str(Path(server.tls.cert_file).parent) in mounts
    ports = {port["name"]: port["containerPort"] for port in bus_set["template"]["spec"]["containers"][0]["ports"]}
    assert server.listen.endswith(f":{ports['client']}")
    assert server.monitor.endswith(f":{ports['monitor']}")
    assert server.cluster.listen.endswith(f":{ports['cluster']}")


def test_nothing_comes_in_that_is_not_named() -> None:
    policies = kinds("default", "NetworkPolicy")
    deny = policies["affiant-default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny
    covered = {
        policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component") for policy in policies.values()
    }
    assert covered >= {*SETTINGS, "nats", "declare", "test"}


def test_lag_is_read_of_durables_that_exist() -> None:
    declared = {(one.stream, one.name) for one in bus.DURABLES}
    triggers = [one["spec"]["triggers"][0]["metadata"] for one in kinds("production", "ScaledObject").values()]
    assert len(triggers) == 2
    for trigger in triggers:
        assert (trigger["stream"], trigger["consumer"]) in declared
        assert trigger["account"] == bus.account_of(trigger["stream"])


def test_the_alerts_are_those_of_the_repository() -> None:
    alerts = (ROOT / "deploy" / "monitoring" / "alerts.yaml").read_text()
    assert (CHART / "files" / "alerts.yaml").read_text() == alerts
    (rule,) = kinds("production", "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load(alerts)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imagee": {}}, "imagee"),
        ({"services": {"registry": {"replica": 2}}}, "replica"),
        ({"services": {"registrar": {}}}, "registrar"),
        ({"bus": {"tls": {"enable": True}}}, "enable"),
        ({"bus": {"replicas": "three"}}, "replicas"),
        ({"image": {"digests": {"registry": "v1"}}}, "registry"),
        ({"auth": {"oidc": {"issuer": "http://login.example.com"}}}, "issuer"),
        ({"auth": {"oidc": {"roles": ["risk=king"]}}}, "roles"),
        ({"models": {"delivery": "magic"}}, "delivery"),
    ],
)
def test_the_schema_refuses_what_no_value_is(values: dict[str, Any], words: str) -> None:
    done = helm("template", "affiant", str(CHART), values=NEEDED | values)
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "image.digests.modelserver is needed"),
        (NEEDED | {"bus": {"enabled": False}}, "bus.url is needed"),
        (NEEDED | {"bus": {"tls": {"enabled": True}}}, "bus.tls.secretName is needed"),
        (NEEDED | {"services": {"auditor": {"replicas": 2}}}, "needs postgresql.existingSecret"),
        (NEEDED | {"auth": {"oidc": {"issuer": "https://login.example.com"}}}, "auth.oidc.audience is needed"),
        (NEEDED | {"models": {"gateway": "gateways/public"}}, "models.gatewayDomain is needed"),
        (
            NEEDED | {"postgresql": {"existingSecret": "x"}, "services": {"auditor": {"replicas": 2}}},
            "needs auditor.signingKeySecret",
        ),
    ],
)
def test_values_that_cannot_work_together_are_refused_in_words(values: dict[str, Any], words: str) -> None:
    done = helm("template", "affiant", str(CHART), values=values)
    assert done.returncode != 0
    assert words in done.stderr


def test_every_value_is_explained() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    top = [number for number, line in enumerate(lines) if line and not line.startswith((" ", "#"))]
    bare = [
        lines[number] for number in top if not lines[number].endswith(":") and not lines[number - 1].startswith("#")
    ]
    assert bare in ([], ["nodeSelector: {}", "tolerations: []"])


def test_the_job_that_declares_is_a_command_that_exists(capsys: pytest.CaptureFixture[str]) -> None:
    from affiant.cli.app import main

    with pytest.raises(SystemExit):
        main(["bootstrap", "--help"])
    known = capsys.readouterr().out
    for case in CASES:
        (job,) = kinds(case, "Job").values()
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        assert command[:2] == ["affiant", "bootstrap"]
        assert all(word in known for word in command if word.startswith("--"))
