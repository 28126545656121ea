"""`affiant up`, `down`, `run`: the processes of an installation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Annotated

import typer
from rich.text import Text

from affiant.cli import home as homes, processes, record
from affiant.cli.processes import Identity
from affiant.cli.session import Session, command
from affiant.cli.supervisor import Say
from affiant.cli.system import System
from affiant.cli.teach import help_text
from affiant.cli.views import installation as views
from affiant.cli.watch import watch
from affiant.common.errors import Conflict, NotFound, Problem

PANEL = "Run it"
DETACHED_START_SECONDS = 120.0


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "up", PANEL)(up)
    command(app, "down", PANEL)(down)
    app.command("run", help=help_text(run.__doc__), rich_help_panel=PANEL)(run)


def up(
    session: Session,
    port: Annotated[
        int | None, typer.Option(min=1024, max=65_530, help="The first of six ports.", show_default="free ones, kept")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background.")] = False,
) -> None:
    """Start nats-server and the four services on this machine, and stay.

    Everything lies in one folder ($AFFIANT_HOME, by default ~/.affiant), made at the first start: data, logs, and
    random secrets. A service that crashes is started again. Ctrl-C stops everything in order; a second Ctrl-C does
    not wait.

    affiant up               stays in this terminal
    affiant up --detach      comes back when all is ready; affiant down ends it
    """
    if detach:
        _detached(session, port)
        return
    system = System(session.home, port=port, say=_say(session))
    _cancel_on_signals(system)
    with system:
        session.show(views.description(system), *views.welcome(system))
        watch(system, None if session.json else session.screen)
        session.note("stopping: services first, the bus last")
    session.note("everything has stopped; affiant up goes on where it was")


def _say(session: Session) -> Say:
    """Beside a live table, words must go through the same console, or they tear it."""
    if session.screen.is_terminal and not session.json:
        return lambda text: session.screen.print(Text(text, style="dim"))
    return session.note


def _cancel_on_signals(system: System) -> None:
    def on_signal(_: int, __: FrameType | None) -> None:
        if system.cancelled.is_set():
            system.hurry()
        system.cancelled.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)


def _detached(session: Session, port: int | None) -> None:
    log = session.home.log("up")
    homes.prepare(session.home, first_port=port)
    arguments = ["up", "--home", str(session.home.path)]
    # One that runs already writes to the same file: nothing of it may be lost, and nothing of it is this start's.
    with log.open("ab") as output:
        began = output.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "affiant.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    session.note(f"starting in the background (pid {child.pid}); its log: {log}")
    deadline = time.monotonic() + DETACHED_START_SECONDS
    while not _is_up(session, child.pid):
        if child.poll() is not None:
            said = processes.last_lines(log, since=began).removeprefix("✗ ")
            raise Problem(said or "it ended at once", hint=f"its whole log: {log}")
        if time.monotonic() > deadline:
            raise Problem("it is not ready yet", status=503, hint=f"affiant doctor; its log: {log}")
        time.sleep(0.1)
    system = System(session.home)
    session.show(views.description(system), *views.welcome(system))


def _is_up(session: Session, pid: int) -> bool:
    if not session.home.record_file.exists():
        return False
    found = record.read(session.home)
    return found.ready and found.up.pid == pid


def down(
    session: Session,
    wait: Annotated[float, typer.Option(help="Seconds before it is made to stop.")] = 60.0,
) -> None:
    """Stop the installation that `affiant up` started, in order; nothing is lost.

    Ends only processes that `up` recorded, after checking that they are still the same ones.

      affiant down
      affiant down --home /tmp/try
    """
    found = record.read(session.home)
    ended = []
    if found.up.pid and processes.alive(found.up.identity):
        session.note(f"asking affiant up (pid {found.up.pid}) to stop")
        if found.up.pid == os.getpid():
            raise Conflict("this is the process that runs it")
        processes.end(found.up.identity, grace_seconds=wait)
        ended.append("up")
    left = {name: entry.identity for name, entry in record.running(found).items()}
    for name, identity in (left | _model_servers(session)).items():
        session.note(f"ending {name} (pid {identity.pid})")
        processes.end(identity, grace_seconds=30)
        ended.append(name)
    if not ended:
        raise NotFound(f"nothing runs in {session.home.path}", hint="start it: affiant up")
    session.show({"ended": ended}, Text("stopped; affiant up goes on where it was"))


def _model_servers(session: Session) -> dict[str, Identity]:
    """Model servers that outlived their deployer (they go on serving until the next one adopts them)."""
    found = processes.with_argument_below(session.home.data("deployer"), "affiant.modelserver")
    return {f"model server {identity.pid}": identity for identity in found}


def run(service: Annotated[str, typer.Argument(help="registry, deployer, explainer or auditor.")]) -> None:
    """Run one service, as a container does. Its settings come from the environment only: AFFIANT_<SERVICE>_…

      AFFIANT_REGISTRY_NATS_URL=nats://nats:4222 affiant run registry

    Probes: /livez and /readyz (which says what it waits for); figures: /metrics; the API: /openapi.json.
    """
    from affiant.common import runner, service as services

    runner.run(services.find(service)())
