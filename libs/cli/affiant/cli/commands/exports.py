"""Predictions on record, written to a file."""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from affiant.cli.commands.groups import export
from affiant.cli.commands.records import ModelOption, SinceOption, UntilOption, selection
from affiant.cli.session import Session, command
from affiant.common.errors import Conflict, Problem, Unavailable

SECONDS_OF_SILENCE = 120.0


class Form(enum.StrEnum):
    """What the file is: full events, or one row for each row of a request."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


def add_to(app: typer.Typer) -> None:  # noqa: ARG001 # every module of commands is called like this
    """Register the command in the group `export`."""
    command(export, "predictions")(predictions)


def predictions(
    session: Session,
    out: Annotated[Path, typer.Option(help="The file; it gets its name when it is whole.")],
    form: Annotated[Form | None, typer.Option("--format", help="By the file's name where none is given.")] = None,
    model: ModelOption = None,
    digest: Annotated[str | None, typer.Option(help="sha256:… of the model's file.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whom they are about: the request's subject_ref.")] = None,
    adverse: Annotated[bool | None, typer.Option("--adverse/--favourable", help="By how it was decided.")] = None,
    label: Annotated[str | None, typer.Option(help="By the decision, in the model's own word.")] = None,
    status: Annotated[str | None, typer.Option(help="answered or failed.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="A condition on what went in, such as income<3.5.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write predictions to a file: JSON Lines of full events, or CSV or Parquet with one row for each decided row.

      affiant export predictions --model loan --since 30d --out loan.parquet --as iris
      affiant export predictions --model loan/2 --adverse --out denials.csv --as iris

    What is on record when it begins, oldest first; the auditor streams it, so there may be any number of them. In CSV a
    text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    chosen = form or _by_name(out)
    if out.exists() and not force:
        raise Conflict(f"{out} is there already", hint="another name, or --force to replace it")
    asked = selection(model, digest, None, subject, adverse, label, status, where, since, until)
    began = time.monotonic()
    with _whole(out) as file:
        number, size = _fetch(session, chosen, {key: value for key, value in asked.items() if value is not None}, file)
    seconds = time.monotonic() - began
    session.show(
        {"file": str(out), "format": chosen.value, "predictions": number, "bytes": size, "seconds": round(seconds, 3)},
        Text(f"{number:,} predictions are in {out} ({size / 1e6:,.1f} MB, {seconds:,.1f} s)"),
    )


def _by_name(out: Path) -> Form:
    known = {".jsonl": Form.jsonl, ".csv": Form.csv, ".parquet": Form.parquet}
    if out.suffix not in known:
        raise Problem(f"what is {out.name} to be?", hint="--format jsonl, csv or parquet; or a name that ends in one")
    return known[out.suffix]


@contextmanager
def _whole(out: Path) -> Iterator[IO[bytes]]:
    """A file beside `out` that takes its name when the block ends well, and is removed when it does not."""
    waiting = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with open(waiting, "xb", opener=_private) as file:  # Path.open takes no opener
            yield file
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(out)
    except OSError as error:
        raise Problem(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        waiting.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fetch(session: Session, form: Form, asked: dict[str, Any], file: IO[bytes]) -> tuple[int, int]:
    """How many predictions and bytes came. Raises `Problem` where the stream broke off."""
    path, size = f"/v1/predictions.{form.value}", 0
    try:
        with session.services.stream("auditor", path, asked, SECONDS_OF_SILENCE) as answer, _bar(session) as bar:
            number = int(answer.headers.get("Affiant-Predictions", 0))
            task = bar.add_task(f"{number:,} predictions", total=None)
            for chunk in answer.iter_bytes():
                file.write(chunk)
                size += len(chunk)
                bar.update(task, completed=size)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the export broke off after {size:,} bytes ({type(error).__name__}); nothing was kept",
            hint="the auditor's log says why; an entry that was altered ends an export: affiant doctor",
        ) from error
    return number, size


def _bar(session: Session) -> Progress:
    quiet = session.json or not session.notes.is_terminal
    shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    return Progress(*shown, console=session.notes, transient=True, disable=quiet)
