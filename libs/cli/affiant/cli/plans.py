"""How each process of an installation is started: its command and its settings, as a container would get them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from affiant.cli import natsconf
from affiant.cli.home import NATS_USERS, OUTSIDE, Home, write_private
from affiant.cli.processes import Plan
from affiant.common import bus, nkeys


def url(home: Home, service: str) -> str:
    return f"http://127.0.0.1:{home.ports()[service]}"


def nats_url(home: Home) -> str:
    return f"nats://127.0.0.1:{home.ports()['nats']}"


def monitor_url(home: Home) -> str:
    """nats-server's monitoring pages; open, therefore on 127.0.0.1 only."""
    return f"http://127.0.0.1:{home.ports()['nats-monitor']}"


def of_nats(home: Home) -> Plan:
    """nats-server, with its configuration written anew (the declaration may have changed since)."""
    write_private(home.nats_config, natsconf.text(_server(home), _users(home)))
    command = [natsconf.find_server(), "--config", str(home.nats_config)]
    return Plan("nats", command, dict(os.environ), home.log("nats"))


def _server(home: Home) -> natsconf.Server:
    ports = home.ports()
    return natsconf.Server(
        listen=f"127.0.0.1:{ports['nats']}",
        monitor=f"127.0.0.1:{ports['nats-monitor']}",
        store=str(home.path / "nats" / "store"),
        name="affiant",
    )


def _users(home: Home) -> list[natsconf.User]:
    """The password stands in the configuration in the clear: it is 0600 and lies beside the file that holds the same
    password for the client, so hashing it would protect nothing."""
    known = [natsconf.User(name, nkeys.read(home.nkey_file(name)).public) for name in NATS_USERS]
    return [*known, natsconf.User(OUTSIDE, password=home.password())]


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
        "NATS_NKEY_FILE": str(home.nkey_file(service)),
        "NATS_API": bus.LENT_API,
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
            "MODELSERVER_NATS_NKEY_FILE": str(home.nkey_file("modelserver")),
            "STOP_MODELS_ON_EXIT": "true",
        }
    if service == "explainer":
        return {"REGISTRY_URL": url(home, "registry"), "AUDITOR_URL": url(home, "auditor")}
    return {"WITNESS_DIR": str(home.witness)} if service == "auditor" else {}
