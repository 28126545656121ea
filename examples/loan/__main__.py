"""`python -m examples.loan`: the whole loop on one machine, from a table to sworn, explained predictions."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from affiant.common.errors import Problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration. 0: every promise was kept; 1: one was not, or it could not be run; 130: interrupted."""
    given = parser().parse_args(arguments)
    console = Console(highlight=False)
    console.print("\n [bold]Affiant[/bold] [dim]· from a table of decisions to sworn, explained predictions[/dim]\n")
    # An end by SIGTERM must unwind as Ctrl-C does: the system's processes are stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if _run(given, console) else 1
    except Problem as problem:
        console.print(f"\n[bold red]✗ {escape(problem.message)}[/bold red]")
        if problem.hint:
            console.print(f"  {escape(problem.hint)}")
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted; what had been started was stopped")
        return 130


def parser() -> argparse.ArgumentParser:
    """The options, each with what it is for."""
    found = argparse.ArgumentParser(prog="python -m examples.loan", description=__doc__)
    add = found.add_argument
    add("--data", type=Path, metavar="FILE", help="a CSV or TSV table of decisions; default: the German credit table")
    add("--target", default="", metavar="COLUMN", help="the column that holds the decision (two values)")
    add("--favourable", default="", metavar="VALUE", help="the value of the target that an applicant hopes for")
    add("--protected", type=_names, metavar="A,B", help="columns that the law protects; an empty text for none")
    add("--feed-protected", action="store_true", help="let the models see the protected columns too")
    add("--drop", type=_names, default=(), metavar="A,B", help="columns to leave out")
    add("--applications", type=_count, default=0, metavar="N", help="how many are sent at least (default: 200 to 400)")
    add("--home", type=Path, metavar="DIR", help="where everything is kept; default: .affiant-demo/<time>")
    add("--page", type=Path, metavar="FILE", help="where the HTML page goes; default: report.html in the home")
    add("--keep", action="store_true", help="leave the system running until Ctrl-C")
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 50:
        raise argparse.ArgumentTypeError(f"{text} is no number of at least 50")
    return int(text)


def _run(given: argparse.Namespace, console: Console) -> bool:
    # Imported here: the first line stands on the screen at once, and `--help` waits for nothing.
    from examples.loan.run import Options, run
    from examples.loan.table import Choices

    options = Options(
        data=given.data,
        choices=Choices(given.target, given.favourable, given.protected, given.drop, given.feed_protected),
        applications=given.applications,
        home=(given.home or Path(".affiant-demo") / time.strftime("%Y%m%d-%H%M%S")).absolute(),
        page=given.page,
        keep=given.keep,
    )
    return run(options, console)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # A fetch that OpenML has not answered yet may still hang in a thread: it must not hold up the end.
    os._exit(code)
