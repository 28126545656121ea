"""The table that `affiant up` shows while it stays; lines instead of a table where there is no terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live

from affiant.cli.services import Services
from affiant.cli.system import System
from affiant.cli.views import installation as views
from affiant.common import bus
from affiant.common.errors import Problem

REFRESH_SECONDS = 1.0


def watch(system: System, screen: Console | None) -> None:
    """Show how everything is until the system is cancelled, and keep its record true."""
    if screen is None:
        while not system.cancelled.wait(REFRESH_SECONDS):
            system.refresh_record()
        return
    if not screen.is_terminal:
        _report_changes(system, screen)
        return
    with Live(views.status([], []), console=screen, auto_refresh=False) as live:
        while not system.cancelled.is_set():
            system.refresh_record()
            live.update(views.status(rows(system), deployments(system)), refresh=True)
            system.cancelled.wait(REFRESH_SECONDS)


def rows(system: System) -> list[views.Row]:
    """How each process is: as a process, and by its own words."""
    found = []
    for name in ("nats", *bus.SERVICES):
        status = system.status(name)
        reasons = [] if status.state != "running" or name == "nats" else system.reasons(name)
        found.append(views.Row(name, status.state, system.urls[name], status.pid, status.restarts, reasons))
    return found


def deployments(system: System) -> list[dict[str, object]]:
    """What is deployed, by the deployer's word; nothing while it cannot be asked."""
    try:
        answer = Services(system.home, "omar").get("deployer", "/v1/deployments")
    except Problem:
        return []
    found: list[dict[str, object]] = answer["deployments"]
    return found


def _report_changes(system: System, screen: Console) -> None:
    before: list[str] = []
    while not system.cancelled.is_set():
        system.refresh_record()
        now = [f"{row.name} {row.word}" for row in rows(system)]
        for line in now:
            if before and line not in before:
                screen.print(f"{time.strftime('%H:%M:%S')} {line}")
        before = now
        system.cancelled.wait(REFRESH_SECONDS)
