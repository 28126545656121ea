"""A run from beginning to end: table, system, models, story, report, and everything stopped again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from rich.console import Console

from affiant.cli.system import System
from examples.loan import page, report
from examples.loan.data import get
from examples.loan.outcome import Outcome
from examples.loan.progress import Progress
from examples.loan.table import Choices, Table
from examples.loan.words import percent

SEED = 7
FEWEST, MOST, DENIALS = 200, 400, 60
"""Applications sent where the user names no number: as many as bring about `DENIALS` denials, within these bounds.
Explaining a denial takes a good part of a second, and a demonstration about a minute."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. `applications` 0: a number that fits the table."""

    data: Path | None
    choices: Choices
    applications: int
    home: Path
    page: Path | None
    keep: bool


def run(options: Options, console: Console) -> bool:
    """Do it. Whether every promise was kept. Raises `Problem` where it cannot go on; nothing is left running then."""
    began = time.monotonic()
    progress = Progress(console)
    table = get(options.data, options.choices, progress)
    system = System(options.home)
    try:
        _start(system, progress)
        outcome = _play(system, table, options, progress, began)
        written = _write(outcome, options.page or options.home / "report.html", options.home)
        report.show(outcome, console, str(written))
        if options.keep:
            _wait(console, options.home)
    finally:
        _stop(system, progress)
    return outcome.kept_every_promise


def applications_for(table: Table) -> int:
    """How many applications are sent where the user names no number."""
    return max(FEWEST, min(MOST, round(DENIALS / table.adverse_rate)))


def _start(system: System, progress: Progress) -> None:
    with progress.step("Starting nats-server and four services") as step:
        system.start()
        step.say(" · ".join(f"{name} {url.rpartition(':')[2]}" for name, url in system.urls.items()))


def _play(system: System, table: Table, options: Options, progress: Progress, began: float) -> Outcome:
    # scikit-learn takes seconds to import: here, that passes while the explainer's workers load alibi.
    from examples.loan import story, train
    from examples.loan.stage import Stage

    parts = train.split(table, SEED)
    models = []
    for kind in train.KINDS:
        with progress.step(f"Training a {kind}, exporting to ONNX") as step:
            model = train.train(table, parts, kind, SEED)
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
    count = options.applications or applications_for(table)

    async def tell() -> Outcome:
        # No proxy of the environment may stand between this program and 127.0.0.1.
        async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
            stage = Stage(
                table, parts, models, count, SEED, progress, str(options.home), http, system, began, _program()
            )
            return await story.tell(stage)

    return asyncio.run(tell())


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
    console.print(f"[bold]It keeps running[/bold] until Ctrl-C; in another terminal: export AFFIANT_HOME={home}")
    with suppress(KeyboardInterrupt):
        signal.pause()


def _stop(system: System, progress: Progress) -> None:
    # A Ctrl-C from here on must not leave half of it behind: it makes the end quicker instead.
    before = signal.signal(signal.SIGINT, lambda *_: system.hurry())
    try:
        with progress.step("Stopping everything that was started"):
            system.stop()
    finally:
        signal.signal(signal.SIGINT, before)
