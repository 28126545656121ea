"""How each process of an installation is started: its command and its settings, as a container would get them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from affiant.cli import natsconf
from affiant.cli.home import Home, write_private
from affiant.cli.processes import Plan


def url(home: Home, service: str) -> str:
    return f"http://127.0.0.1:{home.ports()[service]}"


def nats_url(home: Home) -> str:
    return f"nats://127.0.0.1:{home.ports()['nats']}"


def monitor_url(home: Home) -> str:
    """nats-server's monitoring pages; open, therefore on 127.0.0.1 only."""
    return f"http://127.0.0.1:{home.ports()['nats-monitor']}"


def of_nats(home: Home) -> Plan:
    """nats-server, with its configuration written anew (the declaration may have changed since)."""
    write_private(home.nats_config, natsconf.text(home))
    command = [natsconf.find_server(), "--config", str(home.nats_config)]
    return Plan("nats", command, dict(os.environ), home.log("nats"))


def of_service(home: Home, service: str, extra: Mapping[str, str] | None = None) -> Plan:
    """`affiant run <service>`. Settings that the person's shell or `extra` holds win over ours."""
    command = [sys.executable, "-m", "affiant.cli", "run", service]
    # Unbuffered, or the last words of a service that crashes never reach its log.
    environment = settings(home, service) | dict(os.environ) | dict(extra or {}) | {"PYTHONUNBUFFERED": "1"}
    return Plan(service, command, environment, home.log(service))


def settings(home: Home, service: str) -> dict[str, str]:
    """The environment of `service`: everything that it is told, and no secret's value."""
    given = {
        "NATS_URL": nats_url(home),
        "NATS_USER": service,
        "NATS_PASSWORD_FILE": str(home.password_file(service)),
        "HTTP_PORT": str(home.ports()[service]),
        "DATA_DIR": str(home.data(service)),
        "PEOPLE_FILE": str(home.people_file),
        "SERVICE_TOKEN_FILE": str(home.token_file(service)),
    } | _own(home, service)
    return {f"AFFIANT_{service.upper()}_{name}": value for name, value in given.items()}


def _own(home: Home, service: str) -> dict[str, str]:
    if service == "deployer":
        return {
            "REGISTRY_URL": url(home, "registry"),
            "MODELSERVER_NATS_USER": "modelserver",
            "MODELSERVER_NATS_PASSWORD_FILE": str(home.password_file("modelserver")),
            "STOP_MODELS_ON_EXIT": "true",
        }
    if service == "explainer":
        return {"REGISTRY_URL": url(home, "registry"), "AUDITOR_URL": url(home, "auditor")}
    return {"WITNESS_DIR": str(home.witness)} if service == "auditor" else {}
