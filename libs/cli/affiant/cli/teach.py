"""Help texts from docstrings: prose flows to the terminal's width, examples stay as they are written."""

from __future__ import annotations

import inspect
import textwrap

from rich.markup import escape

_EXAMPLE = ("affiant ", "AFFIANT_")


def help_text(docstring: str | None) -> str:
    """The docstring as typer shows it (rich markup). A paragraph that starts with a command is an example."""
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(_example(text) if text.lstrip().startswith(_EXAMPLE) else _prose(text) for text in paragraphs)


def _prose(text: str) -> str:
    return escape(" ".join(text.split()))


def _example(text: str) -> str:
    # The spaces stand inside the markup, because typer strips those in front of a paragraph.
    lines = textwrap.dedent(text).splitlines()
    return "\n".join(f"[cyan]  {escape(line)}[/cyan]" for line in lines)
