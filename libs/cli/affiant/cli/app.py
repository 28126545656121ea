"""The `affiant` command put together; nothing else."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from affiant.cli.commands import (
    audit,
    backups,
    bootstrap,
    contracts,
    deadletters,
    doctor,
    dossier,
    events,
    exports,
    forgetting,
    groups,
    installation,
    letters,
    log,
    models,
    package,
    predictions,
    queue,
    records,
    replay,
    testimony,
    versions,
)
from affiant.cli.session import console, exit_code, report
from affiant.cli.teach import help_text
from affiant.common.errors import Problem

app = typer.Typer(
    name="affiant",
    no_args_is_help=True,
    # A traceback of ours is for us: the plain form is what an issue needs.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (
    installation,
    bootstrap,
    models,
    package,
    predictions,
    queue,
    versions,
    letters,
    testimony,
    records,
    replay,
    audit,
    backups,
    log,
    forgetting,
    exports,
    events,
    deadletters,
    dossier,
    doctor,
    contracts,
):
    part.add_to(app)
app.add_typer(groups.export, rich_help_panel="Proofs")
app.add_typer(groups.audit, rich_help_panel="Look after it")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"affiant {version('affiant')}")
        raise typer.Exit


_FIRST_WALK = """
    Every prediction of a deployed model, a sworn statement: which model, approved by whom, what went in, what
    came out, and why.

    affiant up                          in one terminal; it stays
    affiant register loan.onnx --name loan --background train.csv \\
        --favourable approved --protected race
    affiant promote loan/1 --reason "checked" --as ben
    affiant predict loan --csv applications.csv --rows 1-5
    affiant prediction 019a…            its record, its reasons, its proof

    Exit codes: 0 done · 1 a problem · 2 mistyped · 3 not reachable · 4 not allowed · 5 not found · 6 refused.
    """


@app.callback(help=help_text(_FIRST_WALK))
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """What stands before every command; its options act by themselves."""


def main(arguments: list[str] | None = None) -> None:
    """Carry out the command line; always ends by SystemExit. People's errors give words, never a traceback."""
    try:
        _carry_out(arguments)
    except BrokenPipeError:
        # Whoever read has enough (`| head`). What is still in the buffer must not complain at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _carry_out(arguments: list[str] | None) -> None:
    try:
        app(arguments)
    except Problem as problem:  # from commands without a session, such as `run`
        report(problem, console(stderr=True), as_json=False)
        sys.exit(exit_code(problem))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        sys.stdout.flush()
