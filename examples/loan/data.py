"""Which table a run is about: the user's own, the German credit table, or a made one. It says which, and why."""

from __future__ import annotations

from pathlib import Path

from affiant.common.errors import Problem
from examples.loan import openml, synthetic
from examples.loan.progress import Progress
from examples.loan.table import Choices, Table, read, understand
from examples.loan.words import percent


def get(path: Path | None, choices: Choices, progress: Progress) -> Table:
    """The table, with the guesses about it shown to the person who waits."""
    with progress.step(f"Reading {path.name}" if path else "Choosing a table of loan decisions") as step:
        reason = ""
        if path:
            table = read(path, choices)
        else:
            try:
                cells = openml.load()
                table = understand(cells, "credit-g", "the German credit table (OpenML credit-g, version 1)", choices)
            except Problem as problem:
                reason = problem.message
                table = synthetic.make(choices, "a made loan table whose bias is known")
        if reason:
            step.note(reason)
            step.note("so a loan table is made whose bias is known: the fairness figures can be held against it")
        step.say(f"{table.rows:,} decisions, {percent(table.adverse_rate, 1)} “{table.target} = {table.adverse}”")
        for note in table.notes:
            step.note(note)
    return table
