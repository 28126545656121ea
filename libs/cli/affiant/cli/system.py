"""The whole system on one machine: nats-server and the four services, each a process of its own.

`affiant up` is one user of it; examples and end-to-end tests are others:

    with System(home) as system:
        print(system.urls["registry"], system.token("ana"))
        system.kill("auditor")      # SIGKILL; stays dead
        system.restart("auditor")
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from affiant.cli import home as homes, plans, probes, processes, record
from affiant.cli.connection import declare
from affiant.cli.home import Home
from affiant.cli.supervisor import Say, Status, Supervisor
from affiant.common import bus
from affiant.common.errors import Conflict, Problem

STOP_ORDER = (("deployer",), ("registry", "explainer", "auditor"), ("nats",))
"""Group by group. The deployer first: it ends the model servers, whose last records the others may still take."""

CRASHES_BEFORE_GIVING_UP = 2


class System:
    """Starts, supervises and stops an installation.

    `say` is told what happens, in words, possibly from another thread. `settings` are further variables for the
    services, such as `{"AFFIANT_EXPLAINER_WORKERS": "1"}`.
    """

    def __init__(
        self,
        home: Home | Path | str | None = None,
        *,
        port: int | None = None,
        say: Say = lambda _: None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home if isinstance(home, Home) else homes.find(home)
        self._port = port
        self._say = say
        self._settings = dict(settings or {})
        self._supervisor: Supervisor | None = None
        self._lock_file: IO[str] | None = None
        self._hurry = threading.Event()
        self.cancelled = threading.Event()
        """Set by whoever runs this (a signal handler, say) to end a `start` that is under way."""

    def __enter__(self) -> System:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def urls(self) -> dict[str, str]:
        """Where each service answers, and `nats`."""
        urls = {service: plans.url(self.home, service) for service in bus.SERVICES}
        return urls | {"nats": plans.nats_url(self.home)}

    def token(self, person: str) -> str:
        """The bearer token of `person` or of a service."""
        return self.home.token(person)

    def start(self, *, timeout_seconds: float = 90.0) -> None:
        """Start everything and return when every service says that it is ready.

        Raises `Conflict` when the home is in use or a port is taken, `Problem` with the last lines of its log when
        something does not come up, `KeyboardInterrupt` when it is cancelled; nothing is left running then.
        """
        homes.prepare(self.home, first_port=self._port)
        self._lock()
        try:
            end_leftovers(self.home, self._say)
            self._check_ports()
            self._supervisor = Supervisor(self._say)
            self._start_all(time.monotonic() + timeout_seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace_seconds: float = 30.0) -> None:
        """Services first, nats last; each gets `grace_seconds` to finish what it does (none after `hurry`)."""
        if self._supervisor is not None:
            self._stop_all(self._supervisor, grace_seconds)
            self._supervisor.close()
            self._supervisor = None
            self.write_record(ready=False)
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def hurry(self) -> None:
        """Make a `stop` that is under way in another thread a SIGKILL for whatever is left."""
        self._hurry.set()

    def status(self, name: str) -> Status:
        """How a service, or `nats`, is as a process."""
        return self._running().status(name)

    def pid(self, name: str) -> int:
        """The pid of a service or of `nats`. Raises `Problem` while it does not run."""
        found = self.status(name).pid
        if found is None:
            raise Problem(f"{name} does not run at the moment")
        return found

    def kill(self, service: str) -> None:
        """SIGKILL; it is not started again until `restart`."""
        self._running().kill(service)

    def restart(self, service: str, *, timeout_seconds: float = 60.0) -> None:
        """Start a killed service again and wait until it is ready."""
        self._running().restart(service)
        self._await_ready(service, time.monotonic() + timeout_seconds)
        self.write_record(ready=True)

    def kill_nats(self) -> None:
        """SIGKILL to nats-server; it is not started again until `restart_nats`."""
        self._running().kill("nats")

    def restart_nats(self, *, timeout_seconds: float = 60.0) -> None:
        """Start nats-server again with what it had stored; services come back to it by themselves."""
        self._running().restart("nats")
        self._await_nats(time.monotonic() + timeout_seconds)
        self.write_record(ready=True)

    def reasons(self, service: str) -> list[str]:
        """Why `service` is not ready; empty when it is."""
        return probes.unready(plans.url(self.home, service))

    def write_record(self, *, ready: bool) -> None:
        """Write `affiant.json` as things are now."""
        services = {name: record.entry(plans.url(self.home, name), self._pid(name)) for name in bus.SERVICES}
        up = record.entry("", os.getpid() if self._supervisor else None)
        nats_entry = record.entry(plans.monitor_url(self.home), self._pid("nats"))
        record.write(self.home, record.Record(plans.nats_url(self.home), services, nats_entry, up, ready))

    def refresh_record(self) -> None:
        """Write `affiant.json` again where a process has another pid than it says, or where the file is gone."""
        try:
            known = record.read(self.home).processes()
        except Problem:
            self.write_record(ready=True)
            return
        if any(entry.pid != (self._pid(name) or 0) for name, entry in known.items()):
            self.write_record(ready=True)

    def _start_all(self, deadline: float) -> None:
        supervisor = self._running()
        supervisor.launch(plans.of_nats(self.home))
        self._await_nats(deadline)
        self._say("nats is ready")
        for line in declare(self.home, plans.nats_url(self.home)):
            self._say(line)
        for service in bus.SERVICES:
            supervisor.launch(plans.of_service(self.home, service, self._settings))
        self.write_record(ready=False)
        for service in bus.SERVICES:
            self._await_ready(service, deadline)
            self._say(f"{service} is ready")
        self.write_record(ready=True)

    def _stop_all(self, supervisor: Supervisor, grace: float) -> None:
        for group in STOP_ORDER:
            running = [name for name in group if self._pid(name) or self._waits(name)]
            self._stop_together(supervisor, running, grace)
            for name in running:
                self._say(f"{name} stopped")

    def _stop_together(self, supervisor: Supervisor, names: list[str], grace: float) -> None:
        stopping = [threading.Thread(target=supervisor.stop, args=(name, grace), daemon=True) for name in names]
        for thread in stopping:
            thread.start()
        while any(thread.is_alive() for thread in stopping):
            time.sleep(0.05)
            if self._hurry.is_set():
                for name in names:
                    supervisor.kill(name)

    def _waits(self, name: str) -> bool:
        """Whether it crashed and would be started again."""
        try:
            return self.status(name).state == "waiting"
        except Problem:
            return False  # it was never started

    def _lock(self) -> None:
        lock = (self.home.path / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise Conflict(
                f"an installation already runs in {self.home.path}", hint="look: affiant doctor; end it: affiant down"
            ) from error
        self._lock_file = lock

    def _check_ports(self) -> None:
        taken = {name: port for name, port in self.home.ports().items() if not homes.port_is_free(port)}
        if taken:
            listed = ", ".join(f"{port} ({name})" for name, port in taken.items())
            raise Conflict(
                f"another program uses the ports {listed}",
                hint="end it, or name the first of six other ports: affiant up --port 8400",
            )

    def _await_nats(self, deadline: float) -> None:
        self._await("nats", deadline, lambda: probes.nats_unready(plans.monitor_url(self.home)))

    def _await_ready(self, service: str, deadline: float) -> None:
        self._await(service, deadline, lambda: self.reasons(service))

    def _await(self, name: str, deadline: float, reasons: Callable[[], list[str]]) -> None:
        before = self.status(name).restarts
        while found := reasons():
            if self.cancelled.is_set():
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                raise self._failure(name, f"{name} is not ready: {'; '.join(found)}")
            if self.status(name).restarts - before >= CRASHES_BEFORE_GIVING_UP:
                raise self._failure(name, f"{name} does not stay up")
            time.sleep(0.05)

    def _failure(self, name: str, what: str) -> Problem:
        log = self.home.log(name)
        return Problem(f"{what}\n{processes.last_lines(log)}", status=503, hint=f"its whole log: {log}")

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise Problem("the system is not running")
        return self._supervisor

    def _pid(self, name: str) -> int | None:
        try:
            return self.status(name).pid
        except Problem:
            return None


def end_leftovers(home: Home, say: Say) -> None:
    """End what an installation in this home left running when it was killed (nothing, on Linux)."""
    if not home.record_file.exists():
        return
    for name, entry in record.running(record.read(home)).items():
        say(f"ending {name} (pid {entry.pid}), left over from an earlier run")
        processes.end(entry.identity, grace_seconds=10)
