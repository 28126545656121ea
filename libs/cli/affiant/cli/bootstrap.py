"""An installation in a cluster, made ready outside of it: keys and configuration of the bus, people and their tokens,
and the Secrets that hold them.

Keys are made by a person, not by a Job: whatever could make them inside the cluster would have to be allowed to write
every Secret of its namespace.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from affiant.cli import natsconf
from affiant.cli.home import NATS_USERS, keep_nkey, keep_secret, write_private
from affiant.cli.natsconf import Cluster, Server, Tls, User
from affiant.common import auth, bus, nkeys
from affiant.common.errors import Conflict, NotFound, Problem

OF_MODELS = ".models"
"""The token that requests to models show."""
PERSONAL_ROLES = tuple(role for role in auth.ROLES if role != "service")

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
PREVIOUS = ".previous"
TRIAL = "helm-test"
"""An outside system and an auditor by whom `helm test` tries the whole way of a record."""


@dataclass(frozen=True)
class Folder:
    """Where the keys of a bus are kept: one file each, only for its owner. `outside` names the systems that publish
    predictions which they made themselves."""

    path: Path

    def seed(self, user: str) -> Path:
        return self.path / "keys" / f"{user}.nk"

    def token(self, person: str) -> Path:
        return self.path / "tokens" / person

    @property
    def people(self) -> Path:
        return self.path / "people.json"

    @property
    def config(self) -> Path:
        return self.path / "nats.conf"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.yaml"

    def outside(self) -> list[str]:
        """The outside systems that have a key here."""
        found = {file.name.removesuffix(".nk") for file in (self.path / "keys").glob("*.nk")}
        return sorted(name for name in found if name not in NATS_USERS and not name.endswith(PREVIOUS))

    def users(self) -> list[User]:
        """Everybody, with the public halves of their keys."""
        names = [(name, "") for name in NATS_USERS] + [(name, "outside") for name in self.outside()]
        return [
            User(name, self._public(name), previous=self._public(name + PREVIOUS), kind=kind) for name, kind in names
        ]

    def _public(self, name: str) -> str:
        seed = self.seed(name)
        return nkeys.read(seed).public if seed.exists() else ""


def prepare(folder: Folder, outside: Sequence[str]) -> list[str]:
    """Make the keys that are missing; returns whose. What exists is kept."""
    for name in outside:
        if not NAME.fullmatch(name) or name in NATS_USERS or name.upper() in bus.ACCOUNTS:
            raise Problem(
                f"{name!r} cannot be an outside system's name",
                hint="lower-case letters, digits and hyphens, and no name that Affiant itself uses",
            )
    made = [name for name in (*NATS_USERS, *outside) if not folder.seed(name).exists()]
    for name in made:
        keep_nkey(folder.seed(name))
    return made


def prepare_people(folder: Folder, people: Mapping[str, Sequence[str]]) -> None:
    """Let `people` (name to roles) in, beside those who are known already, the services, and `TRIAL`. Their tokens are
    files; what the services get are hashes."""
    for name, roles in people.items():
        if not NAME.fullmatch(name) or name in (*bus.SERVICES, TRIAL) or not roles or set(roles) - set(PERSONAL_ROLES):
            raise Problem(f"--person {name}={','.join(roles)} cannot be", hint=f"ana=author,approver; {PERSONAL_ROLES}")
    known = json.loads(folder.people.read_text()) if folder.people.exists() else []
    roles_of = {line["name"]: line["roles"] for line in known} | {name: list(roles) for name, roles in people.items()}
    roles_of |= {key: ["service"] for key in bus.SERVICES} | {TRIAL: ["auditor"]}
    for name in (*roles_of, OF_MODELS):
        keep_secret(folder.token(name))
    lines = [
        {"name": name, "roles": roles, "token_sha256": auth.token_hash(folder.token(name).read_text().strip())}
        for name, roles in roles_of.items()
    ]
    write_private(folder.people, json.dumps(lines, indent=1))


def rotate(folder: Folder, user: str) -> None:
    """Give `user` a new key; the server goes on knowing the one before, until `retire`."""
    seed, previous = folder.seed(user), folder.seed(user + PREVIOUS)
    if not seed.exists():
        raise NotFound(f"{user} has no key in {folder.path}", hint="affiant bootstrap makes what is missing")
    if previous.exists():
        raise Conflict(
            f"the key before this one of {user} still counts", hint="finish the last change first: --retire " + user
        )
    seed.rename(previous)
    keep_nkey(seed)


def retire(folder: Folder, user: str) -> None:
    """Forget the key that `user` had before the last change."""
    try:
        folder.seed(user + PREVIOUS).unlink()
    except FileNotFoundError as error:
        raise NotFound(f"{user} has no earlier key that still counts") from error


def cluster_server(*, release: str, namespace: str, servers: int, tls: bool, password: str) -> Server:
    """The servers that the chart starts: a StatefulSet `<release>-nats`, its headless service, TLS from a Secret."""
    name = f"{release}-nats"
    routes = [f"nats://{name}-{n}.{name}.{namespace}.svc:6222" for n in range(servers)]
    files = Tls(cert_file="/etc/nats/tls/tls.crt", key_file="/etc/nats/tls/tls.key", ca_file="/etc/nats/tls/ca.crt")
    return Server(
        listen="0.0.0.0:4222",
        monitor="0.0.0.0:8222",
        store="/data",
        tls=files if tls else None,
        cluster=Cluster(name=name, listen="0.0.0.0:6222", routes=routes, password=password) if servers > 1 else None,
    )


def route_password(folder: Folder) -> str:
    """By which the servers know each other; kept, so that a server that restarts finds the others."""
    path = folder.path / "keys" / "routes"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def write(folder: Folder, server: Server, prefix: str, ca_file: Path | None = None) -> None:
    """Write the configuration and the Secrets, whole or not at all. `ca_file`: by what clients know the servers."""
    write_private(folder.config, natsconf.text(server, folder.users()))
    write_private(folder.secrets, yaml.safe_dump_all(_secrets(folder, prefix, ca_file), sort_keys=False))


def _secrets(folder: Folder, prefix: str, ca_file: Path | None) -> Iterator[dict[str, Any]]:
    yield _secret(f"{prefix}-nats-config", {"nats.conf": folder.config.read_bytes()})
    certificates = {"ca.crt": ca_file.read_bytes()} if ca_file else {}
    for user in folder.users():
        files = {"seed": folder.seed(user.name).read_bytes()} | certificates
        if user.name == "modelserver":
            files["token"] = folder.token(OF_MODELS).read_bytes()
        yield _secret(f"{prefix}-nats-{user.name}", files)
    yield _secret(f"{prefix}-people", {"people.json": folder.people.read_bytes()})
    for name in (*bus.SERVICES, TRIAL):
        yield _secret(f"{prefix}-token-{name}", {"token": folder.token(name).read_bytes()})


def _secret(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "affiant"}},
        "type": "Opaque",
        "data": {key: base64.b64encode(text).decode() for key, text in files.items()},
    }
