"""nats-server as `affiant bootstrap` configures it: users with NKeys, accounts; one server or a cluster of three."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from nats.aio.client import Client as NatsClient

from affiant.cli import natsconf
from affiant.cli.connection import declare_as
from affiant.cli.natsconf import ADMINS, LISTENERS, Cluster, Server, User
from affiant.common import bus, subjects
from affiant.common.client import Client, credentials, servers
from affiant.common.nkeys import NKey
from affiant.common.serving import BusAccess
from tests.support.nats_server import binary, free_port

USERS = (*bus.SERVICES, "modelserver", "outside", "operator", *ADMINS.values(), *LISTENERS.values())


class SecureBus:
    """Users that are no administrators: `USERS` without `ADMINS`, and `core-banking`, another outside system."""

    def __init__(self, folder: Path, number: int = 1) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = [free_port() for _ in range(number)]
        self._routes = [free_port() for _ in range(number)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.users = [self._user(name) for name in USERS] + [self._user("core-banking", "outside")]

    def _user(self, name: str, kind: str = "") -> User:
        key = NKey.generate()
        self.seed(name).write_text(key.seed)
        return User(name, key.public, kind=kind)

    def seed(self, user: str) -> Path:
        return self.folder / f"{user}.nk"

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)

    def access(self, user: str) -> BusAccess:
        return BusAccess(url=self.url, nkey_file=str(self.seed(user)))

    def start(self) -> None:
        for number in range(len(self.ports)):
            self.start_one(number)
        for port in self.ports:
            _await_listening(port)

    def start_one(self, number: int) -> None:
        config = self.folder / f"{number}.conf"
        config.write_text(natsconf.text(self._server(number), self.users))
        with (self.folder / f"{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen([binary(), "-c", str(config)], stdout=log, stderr=log)

    def _server(self, number: int) -> Server:
        routes = [f"nats://127.0.0.1:{port}" for port in self._routes]
        together = Cluster(name="affiant", listen=f"127.0.0.1:{self._routes[number]}", routes=routes, password="secret")
        return Server(
            listen=f"127.0.0.1:{self.ports[number]}",
            monitor=f"127.0.0.1:{free_port()}",
            store=str(self.folder / f"store{number}"),
            name=f"n{number}",
            cluster=together if len(self.ports) > 1 else None,
        )

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self._end(number, signal.SIGKILL)

    def stop(self) -> None:
        for number in list(self.processes):
            self._end(number, signal.SIGTERM)

    def _end(self, number: int, how: signal.Signals) -> None:
        process = self.processes.pop(number)
        if process.poll() is None:
            os.kill(process.pid, how)
        process.wait(timeout=20)

    async def declare(self, replicas: int = 1) -> None:
        await declare_as({admin: self.access(admin) for admin in ADMINS.values()}, replicas=replicas)

    async def connect(self, user: str, errors: list[str] | None = None, **options: object) -> Client:
        """A connection as `user`; what the server refuses goes to `errors`."""
        subjects.accept_any()
        heard = [] if errors is None else errors

        async def on_error(error: Exception) -> None:
            heard.append(str(error))

        client = Client(bus.API if user in ADMINS.values() else bus.LENT_API)
        inbox = bus.inbox_prefix("outside" if user == "core-banking" else user).encode()
        await client.connect(
            servers(self.url), **credentials(self.access(user)), inbox_prefix=inbox, error_cb=on_error, **options
        )
        return client


def _await_listening(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(5) == b"INFO ":
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no nats-server on port {port}")


async def stored_subjects(client: NatsClient, stream: str) -> set[str]:
    """The subjects of all that a stream holds, asked as its administrator."""
    info = await client.jetstream().stream_info(stream, subjects_filter=">")
    return set(info.state.subjects or {})
