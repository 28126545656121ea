"""Explanations in words and as a waterfall of text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from affiant.cli.views.tables import value

SHOWN = 10
"""Columns that get a bar of their own; the rest are summed up in one line."""
BAR_WIDTH = 40


@dataclass(frozen=True)
class Step:
    """One contribution, from `start` to `end` on the scale of the output."""

    name: str
    start: float
    end: float

    @property
    def shap(self) -> float:
        return self.end - self.start


def anchor(found: dict[str, Any]) -> list[RenderableType]:
    """The anchor as a sentence, with how far it holds; rounded down, as the sentence is, so that the two agree."""
    precision, coverage = (math.floor(found[name] * 1000 + 1e-9) / 10 for name in ("precision", "coverage"))
    held = f"precision {precision:.1f}% · covers {coverage:.1f}% of the background"
    lines: list[RenderableType] = [Text(found.get("sentence") or " and ".join(found["clauses"]), style="bold")]
    if not found["success"]:
        held += f" · no anchor reached {found['threshold']:.0%}: this is the best one found"
    return [*lines, Text(held, style="dim")]


def waterfall(found: dict[str, Any], output: str) -> Table:
    """SHAP values from the baseline to the output, largest first. `output` says what they are contributions to."""
    steps = list(_steps(found))
    scale = _Scale([found["baseline"], found["output"], *(place for step in steps for place in (step.start, step.end))])
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold", max_width=44)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row(Text("baseline", style="dim"), f"{found['baseline']:.3f}", scale.tick(found["baseline"]))
    for step in steps:
        style = "green" if step.shap >= 0 else "red"
        table.add_row(step.name, Text(f"{step.shap:+.3f}", style=style), scale.bar(step, style))
    table.add_row(Text(output, style="bold"), Text(f"{found['output']:.3f}", style="bold"), scale.tick(found["output"]))
    return table


def reasons(found: dict[str, Any]) -> list[RenderableType]:
    """The principal reasons in the reviewed words, what trying them on the model gave, and any objection to them."""
    lines: list[RenderableType] = [Text("Principal reasons", style="bold")]
    lines += [
        Text(f"{number}. {one['text']}") + Text(f"  ({one['column']}, {one['share']:.0%})", style="dim")
        for number, one in enumerate(found["reasons"], start=1)
    ]
    tried = f"set to the baseline's values: score {found['score_before']:.3f} → {found['score_after']:.3f}"
    lines.append(Text(f"{tried}, favourable in {found['decision_changes']:.0%} of cases", style="dim"))
    if found.get("objection"):
        lines.append(Text(f"not for a letter: {found['objection']}", style="yellow"))
    return lines


def ways_out(found: list[dict[str, Any]]) -> Table:
    """Counterfactuals as a table of the cells that would have to change, the shortest way first."""
    table = Table(box=None, padding=(0, 2, 0, 0), title="What would have to change", title_justify="left")
    for heading in ("way", "column", "now", "instead", "then"):
        table.add_column(heading, overflow="fold")
    for number, way in enumerate(found, start=1):
        for place, change in enumerate(way["changes"]):
            first = place == 0
            then = f"{value(way['label'])}, score {way['score']:.3f}" if first else ""
            cells = (change["column"], value(change.get("before")), value(change.get("after")), then)
            table.add_row(str(number) if first else "", *cells)
    return table


def importance(found: list[dict[str, Any]], shown: int = 20) -> Table:
    """How much each column counts, the largest first."""
    ordered = sorted(found, key=lambda one: -one["importance"])
    most = max((one["importance"] for one in ordered), default=0.0) or 1.0
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold", max_width=44)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for one in ordered[:shown]:
        bar = Text("█" * max(1, round(BAR_WIDTH * max(0.0, one["importance"]) / most)), style="cyan")
        table.add_row(one["column"], f"{one['importance']:.4f}", bar)
    if len(ordered) > shown:
        table.add_row(Text(f"{len(ordered) - shown} other columns", style="dim"), "", "")
    return table


def _steps(found: dict[str, Any]) -> Iterator[Step]:
    ordered = sorted(found["values"], key=lambda one: -abs(one["shap"]))
    place = found["baseline"]
    for one in ordered[:SHOWN]:
        yield Step(f"{one['column']} = {value(one.get('value'))}", place, place + one["shap"])
        place += one["shap"]
    rest = ordered[SHOWN:]
    if rest:
        yield Step(f"{len(rest)} other columns", place, place + sum(one["shap"] for one in rest))


class _Scale:
    """Places on the output's scale as places in a line of `BAR_WIDTH` characters."""

    def __init__(self, places: list[float]) -> None:
        self._low = min(places)
        self._span = max(places) - self._low or 1.0

    def _at(self, place: float) -> int:
        return round((place - self._low) / self._span * (BAR_WIDTH - 1))

    def tick(self, place: float) -> Text:
        return Text(" " * self._at(place) + "│", style="bold")

    def bar(self, step: Step, style: str) -> Text:
        """Full blocks for what speaks for the output, shaded ones for what speaks against: not only by colour."""
        first, last = sorted((self._at(step.start), self._at(step.end)))
        return Text(" " * first) + Text(("█" if step.shap >= 0 else "▒") * (last - first + 1), style=style)
