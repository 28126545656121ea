"""`python -m examples.loan`: the whole loop on one machine, from a table to sworn, explained predictions."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec
from rich.console import Console
from rich.markup import escape

from affiant.cli.system import System
from affiant.common.errors import Problem
from examples.loan import page, report
from examples.loan.data import get
from examples.loan.outcome import Outcome
from examples.loan.progress import Progress
from examples.loan.stage import Stage
from examples.loan.story import tell
from examples.loan.table import Choices, Table
from examples.loan.train import KINDS, Model, Split, split, train
from examples.loan.words import percent

SEED = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration. 0: every promise was kept; 1: one was not, or it could not be run; 130: interrupted."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    # The supervisor ends its processes on the way out of a block, so an end by SIGTERM must unwind as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(options, console)
    except Problem as problem:
        console.print(f"\n[bold red]✗ {escape(problem.message)}[/bold red]")
        if problem.hint:
            console.print(f"  {escape(problem.hint)}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\ninterrupted; everything that was started has been stopped")
        return 130


def parser() -> argparse.ArgumentParser:
    """The options, each with what it is for."""
    found = argparse.ArgumentParser(prog="python -m examples.loan", description=__doc__)
    add = found.add_argument
    add("--data", type=Path, metavar="FILE", help="a CSV or TSV table of decisions; default: the German credit table")
    add("--target", default="", metavar="COLUMN", help="the column that holds the decision (two values)")
    add("--favourable", default="", metavar="VALUE", help="the value of the target that an applicant hopes for")
    add("--protected", type=_names, metavar="A,B", help="columns the law protects; “” for none")
    add("--feed-protected", action="store_true", help="let the models see the protected columns too")
    add("--drop", type=_names, default=(), metavar="A,B", help="columns to leave out")
    add("--applications", type=int, default=400, metavar="N", help="how many applications are sent (default: 400)")
    add("--home", type=Path, metavar="DIR", help="where everything is kept (default: .affiant-demo/<time>)")
    add("--page", type=Path, metavar="FILE", help="where the HTML page goes (default: report.html in the home)")
    add("--keep", action="store_true", help="leave the system running until Ctrl-C")
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(options: argparse.Namespace, console: Console) -> int:
    """Data, models, system, story, report."""
    began = time.monotonic()
    progress = Progress(console)
    home = (options.home or Path(".affiant-demo") / time.strftime("%Y%m%d-%H%M%S")).absolute()
    choices = Choices(options.target, options.favourable, options.protected, options.drop, options.feed_protected)
    console.print("\n[bold]Affiant[/bold] [dim]from a table to sworn, explained predictions[/dim]\n")
    table = get(options.data, choices, progress)
    parts = split(table, SEED)
    models = _train(table, parts, progress)
    system = System(home)
    try:
        _start(system, progress)
        outcome = asyncio.run(_tell(system, table, parts, models, options.applications, progress, home, began))
        written = _write(outcome, options.page or home / "report.html", home)
        report.show(outcome, console, str(written))
        if options.keep:
            _wait(console, home)
    finally:
        _stop(system, progress)
    return 0 if outcome.kept_every_promise else 1


def _train(table: Table, parts: Split, progress: Progress) -> list[Model]:
    models = []
    for kind in KINDS:
        with progress.step(f"Training a {kind}, exporting to ONNX") as step:
            model = train(table, parts, kind, SEED)
            step.say(f"held out: AUC {model.auc:.3f}, accuracy {percent(model.accuracy, 1)}")
            step.note(
                f"ONNX and scikit-learn differ by at most {model.largest_difference:.1e} (probabilities, "
                f"{model.rows_compared:,} rows, missing values among them)"
            )
            step.note(
                f"a denial weighs × {model.adverse_weight:g} in training, so that the model denies "
                f"{percent(model.adverse_rate, 1)} (the table: {percent(table.adverse_rate, 1)})"
            )
            models.append(model)
    return models


def _start(system: System, progress: Progress) -> None:
    with progress.step("Starting nats-server and four services") as step:
        system.start()
        step.say(", ".join(f"{name} {url.rpartition(':')[2]}" for name, url in system.urls.items()))


async def _tell(
    system: System, table: Table, parts: Split, models: list[Model], applications: int, progress: Progress, home: Path,
    began: float,
) -> Outcome:  # fmt: skip
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    async with httpx.AsyncClient(timeout=30.0, limits=limits, trust_env=False) as http:
        return await tell(
            Stage(table, parts, models, applications, SEED, progress, str(home), http, system, began, _program())
        )


def _program() -> str:
    """The `affiant` beside this Python, as it is called from here."""
    program = Path(sys.executable).with_name("affiant")
    return os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)


def _write(outcome: Outcome, target: Path, home: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.render(outcome), encoding="utf-8")
    (home / "outcome.json").write_bytes(msgspec.json.encode(outcome))
    return target.absolute()


def _wait(console: Console, home: Path) -> None:
    console.print(f"[bold]It keeps running[/bold] in {home} until Ctrl-C (`affiant --home {home} doctor` looks at it)")
    signal.pause()


def _stop(system: System, progress: Progress) -> None:
    with progress.step("Stopping everything that was started"):
        # A second Ctrl-C must not leave half of it behind: it makes the end quicker instead.
        before = signal.signal(signal.SIGINT, lambda *_: system.hurry())
        try:
            system.stop()
        finally:
            signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # A fetch that OpenML has not answered yet may still hang in a thread: it must not hold up the end.
    os._exit(code)
