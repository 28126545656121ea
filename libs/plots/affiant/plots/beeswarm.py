"""A beeswarm: the SHAP values of many rows, one line for each column, coloured by the column's own value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from affiant.common.events import Scalar, Shap
from affiant.plots.svg import Markup, Scale, clipped, line, picture, tag, text, ticks

WIDTH, LEFT, RIGHT, ROW, TOP, DOT = 760.0, 190.0, 40.0, 34.0, 26.0, 2.6
SHOWN = 15
MOST_ROWS = 1_000
"""More dots than this hide one another; the first rows are drawn."""


def beeswarm(explained: Sequence[Shap], output_name: str, shown: int = SHOWN) -> str:
    """The SHAP values of several rows of one version as an SVG document, the column that counts most on top."""
    explained = explained[:MOST_ROWS]
    columns = _by_weight(explained)[:shown]
    points = {name: [(one.shap, one.value) for shap in explained for one in shap.values if one.column == name]
              for name in columns}  # fmt: skip
    scale = Scale([shap for pairs in points.values() for shap, _ in pairs] + [0.0], LEFT, WIDTH - RIGHT)
    bottom = TOP + ROW * len(columns)
    parts = [line(scale(0.0), TOP - 6, scale(0.0), bottom, "axis")]
    for number, name in enumerate(columns):
        middle = TOP + ROW * (number + 0.5)
        parts.append(line(LEFT, middle, WIDTH - RIGHT, middle, "grid"))
        parts.append(text(clipped(name, 24), LEFT - 12, middle + 4, anchor="end"))
        parts += _dots(points[name], scale, middle)
    parts += _axis(scale, bottom, output_name)
    rows = len(explained)
    return picture(WIDTH, bottom + 76, f"SHAP values of {rows} rows by column", parts)


def _by_weight(explained: Sequence[Shap]) -> list[str]:
    weight: dict[str, float] = {}
    for shap in explained:
        for one in shap.values:
            weight[one.column] = weight.get(one.column, 0.0) + abs(one.shap)
    return sorted(weight, key=lambda name: -weight[name])


def _dots(pairs: list[tuple[float, Scalar]], scale: Scale, middle: float) -> list[Markup]:
    """Dots that would lie on each other are moved up and down in turn."""
    shades = _shades([value for _, value in pairs])
    taken: dict[int, int] = {}
    dots = []
    for (shap, _), shade in zip(pairs, shades, strict=True):
        x = scale(shap)
        place = round(x / DOT)
        height = taken[place] = taken.get(place, -1) + 1
        offset = min((height + 1) // 2 * DOT, ROW / 2 - DOT) * (1 if height % 2 else -1)
        dots.append(tag("circle", cx=x, cy=middle + offset, r=DOT, style=shade))
    return dots


def _shades(values: list[Scalar]) -> list[str]:
    """From the lowest value's colour to the highest's by rank; words and missing values have none."""
    numbers = [_number(value) for value in values]
    known = sorted({number for number in numbers if number is not None})
    rank = {number: place / (len(known) - 1 or 1) for place, number in enumerate(known)}
    return [
        "fill:var(--none)"
        if number is None
        else f"fill:color-mix(in srgb, var(--high) {100 * rank[number]:.0f}%, var(--low))"
        for number in numbers
    ]


def _number(value: Scalar) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _axis(scale: Scale, bottom: float, output_name: str) -> list[Markup]:
    marks = [text(f"{tick:g}", scale(tick), bottom + 18, anchor="middle", cls="soft")
             for tick in ticks(scale.low, scale.high)]  # fmt: skip
    legend = [
        text(f"SHAP value: effect on the {clipped(output_name, 60)}", LEFT, bottom + 42, cls="strong"),
        tag("circle", cx=LEFT, cy=bottom + 60, r=4, style="fill:var(--low)"),
        text("low value", LEFT + 10, bottom + 64, cls="soft"),
        tag("circle", cx=LEFT + 80, cy=bottom + 60, r=4, style="fill:var(--high)"),
        text("high value", LEFT + 90, bottom + 64, cls="soft"),
        tag("circle", cx=LEFT + 166, cy=bottom + 60, r=4, style="fill:var(--none)"),
        text("word or missing", LEFT + 176, bottom + 64, cls="soft"),
    ]
    return marks + legend
