"""`affiant doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.text import Text

from affiant.cli import findings, record
from affiant.cli.connection import wait_for
from affiant.cli.findings import Finding
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
        found += findings.of_processes(session.home, record.read(session.home))
        found += wait_for(findings.of_bus(session.home))
        found += findings.of_work(session.home)
    except NotFound as problem:
        found.append(Finding("problem", "installation", problem.message, problem.hint))
    problems = sum(one.level == "problem" for one in found)
    verdict = Text(f"\n{problems} of {len(found)} findings are problems" if problems else "\nall is well")
    session.show({"problems": problems, "findings": [asdict(one) for one in found]}, *map(_line, found), verdict)
    if problems:
        raise typer.Exit(1)


def _line(one: Finding) -> Text:
    sign, style = _MARKS[one.level]
    line = Text(f"{sign} ", style) + Text(f"{one.subject}: ", "bold") + Text(one.said)
    return line + (Text(f"\n  → {one.next_step}", "cyan") if one.next_step else Text())
