"""`affiant doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import typer
from rich.text import Text

from affiant.cli import findings, record
from affiant.cli.connection import wait_for
from affiant.cli.findings import Finding
from affiant.cli.home import Home
from affiant.cli.services import LOOK
from affiant.cli.session import Session, command
from affiant.common.errors import NotFound

PANEL = "Look after it"

_MARKS = {"good": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "bold red")}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "doctor", PANEL)(doctor)


def doctor(session: Session) -> None:
    """Look at everything: the folder and its secrets, the processes, the bus, lags, dead letters, the disk.

    Each finding says what to do next. Exit code 1 where there is a problem.

      affiant doctor
      affiant doctor --output json
    """
    found = list(findings.of_home(session.home))
    try:
        found += _of_what_runs(session.home)
    except NotFound as problem:
        found.append(Finding("problem", "installation", problem.message, problem.hint))
    found = [replace(one, next_step=one.next_step.replace(LOOK, "")) for one in found]
    problems = sum(one.level == "problem" for one in found)
    verdict = Text(f"\n{problems} of {len(found)} findings are problems" if problems else "\nall is well")
    session.show({"problems": problems, "findings": [asdict(one) for one in found]}, *map(_line, found), verdict)
    if problems:
        raise typer.Exit(1)


def _of_what_runs(home: Home) -> list[Finding]:
    """The processes, the bus and the work, asked at the same time: each waits for those that hang."""
    running = record.read(home)
    looks: list[Callable[[], Iterable[Finding]]] = [
        lambda: findings.of_processes(home, running),
        lambda: wait_for(findings.of_bus(home)),
        lambda: findings.of_work(home),
    ]
    with ThreadPoolExecutor(len(looks), "doctor") as pool:
        return [one for seen in pool.map(lambda look: list(look()), looks) for one in seen]


def _line(one: Finding) -> Text:
    sign, style = _MARKS[one.level]
    line = Text(f"{sign} ", style) + Text(f"{one.subject}: ", "bold") + Text(one.said)
    return line + (Text(f"\n  → {one.next_step}", "cyan") if one.next_step else Text())
