"""What the auditor says of its own record: is it whole (`affiant completeness`), and have it read anew."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from affiant.cli.commands.groups import audit
from affiant.cli.references import reference
from affiant.cli.session import Session, command
from affiant.cli.views import completeness as views

PANEL = "Look after it"
REBUILD_SECONDS = 6 * 3_600.0


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "completeness", PANEL)(completeness)
    command(audit, "rebuild")(rebuild)


def completeness(
    session: Session,
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    day: Annotated[str | None, typer.Option(help="Only this day, such as 2026-11-24 (UTC).")] = None,
) -> None:
    """Was everything that was served recorded, and is it still here? Names what is not; exit code 1 then.

      affiant completeness
      affiant completeness loan --day 2026-11-24

    Each server process numbers its requests from 1 without a gap, and says how many it numbered when it ends. Where
    one died without saying so, the report says "open end": nobody can know what it drew last.
    """
    wanted = reference(model).model if model else None
    found = session.services.get("auditor", "/v1/completeness", model=wanted, day=day)
    session.show(found, *views.report(found, wanted))
    if not found["complete"]:
        raise typer.Exit(1)


def rebuild(session: Session) -> None:
    """Make the look-up tables anew from the entries of the log, and say whether they are the same as before.

      affiant audit rebuild --as omar

    Each entry is held against the Merkle tree before it is read. One transaction: broken off, it has changed nothing.
    Recording waits meanwhile; the bus holds what comes.
    """
    session.note("rebuilding; this takes about a minute for each million entries")
    found = session.services.ask("auditor", "POST", "/v1/rebuild", timeout=REBUILD_SECONDS).json()
    entries = f"{found['entries']} entries in {found['seconds']:.1f} s"
    if found["same"]:
        said = Text(f"✓ rebuilt from {entries}: the same as before", style="green")
    else:
        said = Text(f"! rebuilt from {entries}: the tables were not what the entries say; now they are", style="yellow")
    session.show(found, said, Text(f"sha-256 {found['after']}", style="dim"))
