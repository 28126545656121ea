"""`affiant audit backup`, `restore` and what goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from affiant.cli.commands.groups import audit
from affiant.cli.connection import read_again
from affiant.cli.session import Session, command
from affiant.common.errors import Problem

DataOption = Annotated[
    Path | None, typer.Option(help="The auditor's data folder, where it is not this installation's.")
]
WitnessOption = Annotated[Path | None, typer.Option(help="The witness folder, where it is not this installation's.")]


def add_to(_: typer.Typer) -> None:
    """Register the commands."""
    command(audit, "backup")(backup)
    command(audit, "restore")(restore)
    command(audit, "continue-as")(continue_as)
    command(audit, "reread")(reread)


def backup(
    session: Session,
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    data: DataOption = None,
) -> None:
    """Copy the audit log's SQLite store into a folder, while the auditor runs, and check the copy.

      affiant audit backup /backups/2026-11-24

    The copy is checked against the newest checkpoint in it. The signing key (log.key) is not in it: keep that apart.
    A store in PostgreSQL is backed up with pg_dump or its own archive: docs/operations.md.
    """
    with _progress(session, "copied") as told:
        made = _of_the_auditor("backup")(data or session.home.data("auditor"), folder, told)
    session.show(
        {"folder": str(folder), **made},
        Text(f"{made['size']:,} entries of {made['origin']} are in {folder}, and whole"),
        Text(f"→ affiant audit restore {folder}   (into an empty data folder)", style="dim"),
    )


def restore(
    session: Session,
    folder: Annotated[Path, typer.Argument(help="A folder that `affiant audit backup` made.")],
    data: DataOption = None,
    witness: WitnessOption = None,
    new_name: Annotated[str, typer.Option(help="Go on under this name, where the back-up is behind the witness.")] = "",
) -> None:
    """Put a back-up into an auditor's data folder that has no store; the auditor must not run.

      affiant down
      affiant audit restore /backups/2026-11-24

    It is checked whole, and against the witness folder's newest checkpoint. Where more was sworn to than the back-up
    has, the log can go on under a new name only: two histories must not have one name.
    """
    into, sworn = data or session.home.data("auditor"), witness or session.home.witness
    with _progress(session, "restored") as told:
        made = _of_the_auditor("restore")(folder, into, sworn, new_name, told)
    session.show(
        made,
        Text(f"{made['size']:,} entries of {made['origin']} are in {made['data_dir']}, and whole"),
        Text(
            "→ start the auditor, then: affiant audit reread   (what the bus still has and the log does not)",
            style="dim",
        ),
    )


def continue_as(
    session: Session,
    name: Annotated[str, typer.Argument(help="The log's new name: a schema-less URL, for example example.org/log-2.")],
    data: DataOption = None,
    witness: WitnessOption = None,
    database_url: Annotated[str, typer.Option(help="A store in PostgreSQL.")] = "",
    database_password_file: Annotated[str, typer.Option(help="The file with its password.")] = "",
) -> None:
    """Let a restored log that is behind the witness go on under a new name; no auditor may run.

    affiant audit continue-as example.org/log-2 --database-url postgresql://affiant@db/audit
    """
    into, sworn = data or session.home.data("auditor"), witness or session.home.witness
    made = _of_the_auditor("continue_as")(database_url, into, name, sworn, database_password_file)
    session.show(made, Text(f"{made['before']} goes on as {made['origin']}, from {made['size']:,} entries"))


def reread(session: Session) -> None:
    """Have everything that the bus still holds delivered to the auditor again; what it has already changes nothing.

      affiant audit reread

    After a restore: the streams keep predictions for 30 days (or as the installation says), so what came after the
    back-up is recorded again. It takes as long as recording takes.
    """
    durables = read_again(session.home, "auditor")
    session.show({"durables": durables}, Text(f"delivered again from the beginning: {', '.join(durables)}"))


def _of_the_auditor(name: str) -> Callable[..., dict[str, Any]]:
    """A function that the auditor's package offers to this program. Raises `Problem` where it is not installed."""
    for point in entry_points(group="affiant.audit", name=name):
        try:
            found: Callable[..., dict[str, Any]] = point.load()
        except ModuleNotFoundError as error:
            raise Problem(
                f"this needs {error.name}, which is not installed", hint="pip install 'affiant[auditor]'"
            ) from error
        return found
    raise Problem("the auditor is not installed here", hint="pip install 'affiant[auditor]'")


class _Told:
    """Progress for people on a terminal; as a function to call, and as a context that shows it."""

    def __init__(self, session: Session, words: str) -> None:
        quiet = session.json or not session.notes.is_terminal
        columns = (TextColumn(words), BarColumn(), TaskProgressColumn())
        self._bar = Progress(*columns, console=session.notes, transient=True, disable=quiet)
        self._task = self._bar.add_task(words, total=None)

    def __enter__(self) -> _Told:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, of: int) -> None:
        self._bar.update(self._task, completed=done, total=of)


def _progress(session: Session, words: str) -> _Told:
    return _Told(session, words)
