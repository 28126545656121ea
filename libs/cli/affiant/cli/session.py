"""What every command is given: which installation, in whose name, and how to answer.

`command` registers a function whose first parameter is a `Session` and adds the options `--home`, `--as` and
`--output` to it, so that they are the same everywhere.
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from affiant.cli import home as homes
from affiant.cli.home import Home
from affiant.cli.services import Services
from affiant.cli.teach import help_text
from affiant.common.errors import Problem

WIDTH_WITHOUT_TERMINAL = 160
"""Columns of a table that goes into a file or a pipe: wide enough that no id is cut."""


class Output(enum.StrEnum):
    """`text` for people; `json` for programs: stable names, one document on standard output."""

    text = "text"
    json = "json"


@dataclass(frozen=True)
class Session:
    """One command being carried out."""

    home: Home
    person: str
    output: Output
    screen: Console
    notes: Console

    @property
    def services(self) -> Services:
        return Services(self.home, self.person)

    @property
    def json(self) -> bool:
        return self.output is Output.json

    def show(self, data: Any, *views: RenderableType) -> None:
        """Answer: `data` for programs, `views` for people."""
        if self.json:
            print(json.dumps(data, ensure_ascii=False, indent=1))
            return
        for view in views:
            self.screen.print(view)

    def line(self, data: Any, view: RenderableType) -> None:
        """One of many answers that follow each other: JSON lines for programs."""
        if self.json:
            print(json.dumps(data, ensure_ascii=False), flush=True)
        else:
            self.screen.print(view)

    def note(self, text: str) -> None:
        """Say what is going on, to people only and not into a pipe."""
        if not self.json:
            self.notes.print(Text(text, style="dim"))


def open_session(home: Path | None, person: str | None, output: Output) -> Session:
    """The session that the common options describe."""
    name = person or os.environ.get("AFFIANT_AS") or "ana"
    return Session(homes.find(home), name, output, console(), console(stderr=True))


_STEERING = [*(code for code in range(0x20) if chr(code) not in "\n\t"), *range(0x7F, 0xA0)]
_STEERING += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Characters that steer a terminal, or turn the direction of writing."""
_NAMED = {code: 0x2400 + code if code < 0x20 else 0xFFFD for code in _STEERING}
_GONE = dict.fromkeys(_STEERING)


class _PlainConsole(Console):
    """A console to which a text can say nothing but itself: what applicants and other systems sent is shown here.

    In a plain string each such character becomes a sign, before its width is measured. What is styled already has
    been measured without them (they have no width), so there they are left out: nothing else is cut off then.
    """

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(text.translate(_NAMED), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(_GONE), style, control)


def console(*, stderr: bool = False) -> Console:
    """A console that takes nothing in a text for markup or for commands to the terminal.

    rich itself obeys NO_COLOR and drops colours where there is no terminal.
    """
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return _PlainConsole(stderr=stderr, markup=False, highlight=False, emoji=False, width=width, soft_wrap=not terminal)


HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="The installation's folder.", envvar="AFFIANT_HOME", show_default="~/.affiant",
                 rich_help_panel="Everywhere"),
]  # fmt: skip
PersonOption = Annotated[
    str | None,
    typer.Option("--as", help="In whose name: ana, ben, iris, omar…", envvar="AFFIANT_AS", show_default="ana",
                 rich_help_panel="Everywhere"),
]  # fmt: skip
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="For people or for programs.", rich_help_panel="Everywhere")
]

_COMMON: dict[str, tuple[Any, Any]] = {
    "home": (HomeOption, None),
    "as_person": (PersonOption, None),
    "output": (OutputOption, Output.text),
}


def command(
    app: typer.Typer, name: str, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a `Session` and its own parameters as the command `name`."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        help_ = help_text(function.__doc__)
        needs = _needs_arguments(function)
        app.command(name, help=help_, rich_help_panel=panel, no_args_is_help=needs)(_with_session(function))
        return function

    return register


def _needs_arguments(function: Callable[..., None]) -> bool:
    own = list(inspect.signature(function).parameters.values())[1:]
    return any(parameter.default is inspect.Parameter.empty for parameter in own)


def _with_session(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def run(home: Path | None, as_person: str | None, output: Output, **given: Any) -> None:
        session = open_session(home, as_person, output)
        try:
            function(session, **given)
        except Problem as problem:
            report(problem, session.notes, as_json=session.json)
            raise typer.Exit(exit_code(problem)) from problem

    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(annotation=hints[p.name], kind=kind) for p in own] + [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]
    # typer reads a command's parameters from its signature and its annotations.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    del run.__wrapped__
    return run


EXIT_CODES = {401: 4, 403: 4, 404: 5, 409: 6, 422: 6, 503: 3, 504: 3}
"""By what went wrong; 1 otherwise, 2 for a command that was mistyped, 130 when interrupted."""


def exit_code(problem: Problem) -> int:
    """The exit code that a script can tell this problem by."""
    return EXIT_CODES.get(problem.status, 1)


def report(problem: Problem, notes: Console, *, as_json: bool) -> None:
    """Show a problem on standard error: what is wrong, the checks that failed, what to do next."""
    if as_json:
        body = {"error": problem.message, "hint": problem.hint, **(problem.details or {})}
        print(json.dumps(body, ensure_ascii=False, default=str), file=sys.stderr)
        return
    notes.print(Text("✗ ", style="bold red") + Text(problem.message))
    for check in (problem.details or {}).get("checks", []):
        mark = Text("  ✓ ", style="green") if check.get("passed") else Text("  ✗ ", style="red")
        notes.print(mark + Text(f"{check.get('name')}: {check.get('detail')}"))
    if problem.hint:
        notes.print(Text("→ ", style="bold cyan") + Text(problem.hint))
