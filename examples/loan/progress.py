"""What a person watches: one line for each step, with a spinner, counts and the time it took.

On a terminal the running step is redrawn in place; elsewhere (a file, CI) each step is one plain line at its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from examples.loan.outcome import Step

WIDTH = 54


class Running:
    """The step that runs. What it is told is shown at once; `detail` stays behind its title when it ends."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.lines: list[str] = []
        self.done = 0
        self.total = 0
        self.began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def say(self, detail: str) -> None:
        """Replace the words behind the title."""
        self.detail = detail

    def note(self, line: str) -> None:
        """Add a line below the step; it stays."""
        self.lines.append(line)

    def count(self, done: int, total: int) -> None:
        """Show how far it is."""
        self.done, self.total = done, total

    @property
    def seconds(self) -> float:
        """How long the step runs."""
        return time.monotonic() - self.began

    def __rich__(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        cells: list[RenderableType] = [self._spinner, Text(self.title.ljust(WIDTH), style="bold")]
        if self.total:
            cells.append(ProgressBar(self.total, min(self.done, self.total), width=16, complete_style="cyan"))
            cells.append(Text(f"{self.done:,}/{self.total:,}", style="cyan"))
        cells += [Text(f"{self.seconds:5.1f} s", style="dim"), Text(self.detail, style="dim")]
        grid.add_row(*cells)
        return Group(Padding(grid, (0, 1)), *(Text(f"     │ {line}", style="dim") for line in self.lines))


class Progress:
    """Runs steps one after the other and remembers how long each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps: list[Step] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Running]:
        """A step: a tick and its time when the block ends, a cross when it raises."""
        running = Running(title)
        mark, style = "✗", "bold red"
        try:
            if self.console.is_terminal:
                with Live(running, console=self.console, refresh_per_second=12, transient=True):
                    yield running
            else:
                yield running
            mark, style = "✓", "bold green"
        finally:
            self.steps.append(Step(title, running.seconds))
            self._finish(running, mark, style)

    def _finish(self, running: Running, mark: str, style: str) -> None:
        detail = f"  [dim]{escape(running.detail)}[/dim]" if running.detail else ""
        seconds = f"[dim]{running.seconds:5.1f} s[/dim]"
        title = escape(running.title.ljust(WIDTH))
        self.console.print(f" [{style}]{mark}[/{style}] {title} {seconds}{detail}", soft_wrap=True, highlight=False)
        for line in running.lines:
            self.console.print(f"     [dim]│[/dim] {escape(line)}", soft_wrap=True, highlight=False)
