"""`affiant contracts`: the documents that other systems build on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from affiant.cli.session import Session, command
from affiant.common.errors import Problem

PANEL = "For other systems"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "contracts", PANEL)(contracts)


def contracts(
    session: Session,
    folder: Annotated[Path, typer.Argument(help="Where they are kept.")] = Path("docs/contracts"),
    write: Annotated[bool, typer.Option("--write", help="Write them; otherwise only compare.")] = False,
) -> None:
    """Check, or write, the JSON Schema of each event and the AsyncAPI document.

    affiant contracts             compares docs/contracts with the code
    affiant contracts --write     write them into docs/contracts
    """
    from affiant.common import contracts as documents

    if write:
        changed = documents.write(folder)
        session.show({"changed": changed}, Text("\n".join(changed) or f"{folder} was as the code says"))
        return
    stale = documents.stale(folder)
    if stale:
        raise Problem(
            f"{folder} is not as the code says:\n  " + "\n  ".join(stale),
            hint="affiant contracts --write",
            details={"stale": stale},
        )
    session.show({"stale": []}, Text(f"{folder} is as the code says"))
