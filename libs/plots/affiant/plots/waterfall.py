"""A waterfall: from the baseline to the output, one step for each column (as in Lundberg and Lee's shap)."""

from __future__ import annotations

from affiant.common.events import Shap
from affiant.plots.svg import Markup, Scale, clipped, line, picture, tag, text, ticks, value_text

WIDTH, LEFT, RIGHT, ROW, TOP = 760.0, 250.0, 70.0, 28.0, 34.0
SHOWN = 12
"""Columns with a bar of their own; the others are one bar together."""


def waterfall(shap: Shap, output_name: str, shown: int = SHOWN) -> str:
    """The SHAP values of one row as an SVG document; `output_name` says what they add up to."""
    steps = _steps(shap, shown)
    places = [shap.baseline, shap.output, *(place for _, start, end in steps for place in (start, end))]
    scale = Scale(places, LEFT, WIDTH - RIGHT)
    bottom = TOP + ROW * len(steps)
    parts = [*_grid(scale, bottom), *_levels(shap, scale, bottom, output_name)]
    for number, (name, start, end) in enumerate(steps):
        parts += _bar(name, start, end, scale, TOP + ROW * number)
    return picture(WIDTH, bottom + 52, f"SHAP values: from the baseline to the {output_name}", parts)


def _steps(shap: Shap, shown: int) -> list[tuple[str, float, float]]:
    """(name, start, end), the largest contribution first."""
    ordered = sorted(shap.values, key=lambda one: -abs(one.shap))
    named = [(f"{one.column} = {value_text(one.value)}", one.shap) for one in ordered[:shown]]
    if len(ordered) > shown:
        named.append((f"{len(ordered) - shown} other columns", sum(one.shap for one in ordered[shown:])))
    steps, place = [], shap.baseline
    for name, amount in named:
        steps.append((name, place, place + amount))
        place += amount
    return steps


def _bar(name: str, start: float, end: float, scale: Scale, y: float) -> list[Markup]:
    low, high = sorted((scale(start), scale(end)))
    kind = "up" if end >= start else "down"
    return [
        text(clipped(name, 32), LEFT - 12, y + 18, anchor="end"),
        tag("rect", x=low, y=y + 5, width=max(1.0, high - low), height=ROW - 10, rx=2, class_=kind),
        text(f"{end - start:+.3f}", high + 6, y + 18, cls="strong"),
        line(scale(end), y + ROW - 5, scale(end), y + ROW + 5, "edge"),
    ]


def _levels(shap: Shap, scale: Scale, bottom: float, output_name: str) -> list[Markup]:
    base, output = scale(shap.baseline), scale(shap.output)
    return [
        line(base, TOP - 8, base, bottom, "mark"),
        line(output, TOP, output, bottom + 8, "mark"),
        text(f"baseline {shap.baseline:.3f}", base, TOP - 14, anchor="middle", cls="soft"),
        text(f"{clipped(output_name, 48)} {shap.output:.3f}", output, bottom + 40, anchor="middle", cls="strong"),
    ]


def _grid(scale: Scale, bottom: float) -> list[Markup]:
    parts = []
    for tick in ticks(scale.low, scale.high):
        parts.append(line(scale(tick), TOP, scale(tick), bottom, "grid"))
        parts.append(text(f"{tick:g}", scale(tick), bottom + 20, anchor="middle", cls="soft"))
    return parts
