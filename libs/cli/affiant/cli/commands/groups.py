"""Groups of commands that more than one module adds to."""

from __future__ import annotations

import typer

export = typer.Typer(
    name="export",
    help="Take things out of the record, into files that stand by themselves.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

audit = typer.Typer(
    name="audit",
    help="Look after the audit log's store: its tables, back-ups, what it reads of the bus.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
