"""The folder of an installation on one machine: secrets, ports, data, logs, and the record of what runs.

`$AFFIANT_HOME`, by default `~/.affiant`; only its owner may read it (0700). Nothing in it is ever printed but
addresses and names. Secrets are random, one file each (0600), and are named to the services by path.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from affiant.cli.natsconf import ADMINS, LISTENERS
from affiant.common import bus, nkeys
from affiant.common.errors import NotFound, Problem

PEOPLE: dict[str, tuple[str, ...]] = {
    "ana": ("author", "approver"),
    "ben": ("approver",),
    "iris": ("auditor",),
    "omar": ("operator",),
    **dict.fromkeys(bus.SERVICES, ("service",)),
}
"""Who is known on a laptop, and their roles. Two people are needed even here: ana may approve what others register,
never what she registered herself."""

DUTIES = {
    "author": "registers models",
    "approver": "promotes what others registered, rolls back",
    "auditor": "reads every record",
    "operator": "keeps it running",
}

NATS_USERS = (*bus.SERVICES, "modelserver", "operator", *ADMINS.values(), *LISTENERS.values())
"""Who has an NKey here. `outside` has a password instead, which every client library in every language takes."""

OUTSIDE = "outside"
PORTS = (*bus.SERVICES, "nats", "nats-monitor")

# Below the range that Linux gives to outgoing connections (32768 and up): a port from that range may be taken
# by anybody's connection while a service restarts, and a client that retries it may even connect to itself.
PORT_RANGE = (20_000, 32_000)


@dataclass(frozen=True)
class Home:
    """Where everything of one installation lies. Creates nothing by itself: see `prepare`."""

    path: Path

    @property
    def record_file(self) -> Path:
        return self.path / "affiant.json"

    @property
    def ports_file(self) -> Path:
        return self.path / "ports.json"

    @property
    def people_file(self) -> Path:
        return self.path / "secrets" / "people.json"

    @property
    def nats_config(self) -> Path:
        return self.path / "nats" / "nats.conf"

    @property
    def witness(self) -> Path:
        """Where the auditor's checkpoints are kept beside its store."""
        return self.path / "auditor" / "witness"

    @property
    def log_key(self) -> Path:
        """The public key that the auditor's checkpoints are verified with."""
        return self.path / "auditor" / "log.vkey"

    def nkey_file(self, user: str) -> Path:
        return self.path / "secrets" / "nats" / f"{user}.nk"

    @property
    def password_file(self) -> Path:
        """The password by which systems that are not Affiant's reach the bus, as the user `outside`."""
        return self.path / "secrets" / "nats" / OUTSIDE

    def token_file(self, person: str) -> Path:
        return self.path / "secrets" / "tokens" / person

    def data(self, service: str) -> Path:
        return self.path / service

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def password(self) -> str:
        """The password of the user `outside`. Raises `NotFound` in words."""
        return _read_secret(self.password_file, f"no NATS password of {OUTSIDE}")

    def token(self, person: str) -> str:
        """The bearer token of `person`. Raises `NotFound` naming who is known here."""
        known = ", ".join(people_with_tokens(self)) or "nobody yet"
        return _read_secret(self.token_file(person), f"no token of {person!r}", f"known here: {known}")

    def ports(self) -> dict[str, int]:
        """The ports chosen for this installation; empty before the first `up`."""
        if not self.ports_file.exists():
            return {}
        found: dict[str, int] = json.loads(self.ports_file.read_text())
        return found


def find(given: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Home:
    """The home that is meant: as given, or `$AFFIANT_HOME`, or `~/.affiant`."""
    return Home(Path(given or environ.get("AFFIANT_HOME") or "~/.affiant").expanduser().absolute())


def prepare(home: Home, *, first_port: int | None = None) -> None:
    """Create what is missing: folders, secrets, ports. What exists is kept, so that old clients stay valid."""
    for folder in ("nats", "secrets/nats", "secrets/tokens", "logs", *bus.SERVICES, "auditor/witness"):
        (home.path / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    for private in (home.path, home.path / "secrets"):
        private.chmod(0o700)
    for user in NATS_USERS:
        keep_nkey(home.nkey_file(user))
    keep_secret(home.password_file)
    for person in PEOPLE:
        keep_secret(home.token_file(person))
    write_private(home.people_file, json.dumps(_people(home), indent=1))
    _choose_ports(home, first_port)


def people_with_tokens(home: Home) -> list[str]:
    """Whose tokens lie in this home, people before services."""
    folder = home.path / "secrets" / "tokens"
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return sorted(names, key=lambda name: (name in bus.SERVICES, name))


def people_with_role(home: Home, *roles: str) -> list[str]:
    """The people (not services) of this home who have one of `roles`, those with the fewest other roles first."""
    if not home.people_file.exists():
        return []
    known = json.loads(home.people_file.read_text())
    fitting = [line for line in known if set(roles) & set(line["roles"]) and line["name"] not in bus.SERVICES]
    return [line["name"] for line in sorted(fitting, key=lambda line: len(line["roles"]))]


def exposed(home: Home) -> list[Path]:
    """Folders and files with secrets that somebody else on this machine may read."""
    places = [home.path, home.nats_config, *(home.path / "secrets").rglob("*")]
    return [place for place in places if place.exists() and place.stat().st_mode & 0o077 and not _sheltered(place)]


def _sheltered(place: Path) -> bool:
    """A folder that others may list is harmless below one that they may not enter; a file is held to 0600 itself."""
    return place.is_dir() and not place.parent.stat().st_mode & 0o077


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def keep_nkey(path: Path) -> None:
    """Make the file with the seed of an NKey where there is none."""
    if not path.exists():
        write_private(path, nkeys.NKey.generate().seed + "\n")


def keep_secret(path: Path) -> None:
    """Make the file with a random secret where there is none."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))


def _read_secret(path: Path, problem: str, hint: str = "start an installation first: affiant up") -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise NotFound(f"{problem} in {path.parent}", hint=hint) from error


def _people(home: Home) -> list[dict[str, object]]:
    # The form that affiant.common.auth reads: only hashes, so that a service's file lets nobody in.
    return [
        {
            "name": name,
            "roles": list(roles),
            "token_sha256": hashlib.sha256(home.token(name).encode()).hexdigest(),
        }
        for name, roles in PEOPLE.items()
    ]


def _choose_ports(home: Home, first: int | None) -> None:
    if first is not None:
        ports = {name: first + offset for offset, name in enumerate(PORTS)}
    else:
        ports = home.ports()
        for name in PORTS:
            ports.setdefault(name, _free_port(set(ports.values())))
    write_private(home.ports_file, json.dumps(ports, indent=1))


def _free_port(taken: set[int]) -> int:
    for _ in range(1_000):
        port = random.randint(*PORT_RANGE)
        if port not in taken and port_is_free(port):
            return port
    raise Problem(f"no free port found in {PORT_RANGE}", hint="name the first of six: affiant up --port 8400")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
