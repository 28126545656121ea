"""What a version does as a whole: how much each column counts, and how the output goes with a column's value."""

from __future__ import annotations

from collections.abc import Sequence

from affiant.common.events import ColumnImportance, Effect
from affiant.plots.svg import Markup, Scale, clipped, line, picture, tag, text, ticks, value_text

WIDTH, LEFT, RIGHT, ROW, TOP = 760.0, 220.0, 90.0, 26.0, 16.0
SHOWN = 20
CELL, CELL_HEIGHT, GAP = 240.0, 150.0, 20.0
"""One column's curve, three beside each other."""


def importance(found: Sequence[ColumnImportance], loss_name: str, shown: int = SHOWN) -> str:
    """Permutation importance as bars with their standard deviation, the largest first."""
    ordered = sorted(found, key=lambda one: -one.importance)[:shown]
    scale = Scale([0.0, *(one.importance + one.deviation for one in ordered)], LEFT, WIDTH - RIGHT, 0.0)
    bottom = TOP + ROW * len(ordered)
    parts = [line(scale(tick), TOP, scale(tick), bottom, "grid") for tick in ticks(0.0, scale.high)]
    for number, one in enumerate(ordered):
        y = TOP + ROW * number
        low, high = (scale(max(0.0, one.importance + side * one.deviation)) for side in (-1, 1))
        parts += [
            text(clipped(one.column, 27), LEFT - 12, y + 17, anchor="end"),
            tag("rect", x=scale(0.0), y=y + 5, width=max(1.0, scale(max(0.0, one.importance)) - scale(0.0)),
                height=ROW - 10, rx=2, class_="bar"),
            line(low, y + ROW / 2, high, y + ROW / 2, "axis"),
            text(f"{one.importance:.3g}", high + 8, y + 17, cls="strong"),
        ]  # fmt: skip
    parts += [text(f"{tick:g}", scale(tick), bottom + 18, anchor="middle", cls="soft")
              for tick in ticks(0.0, scale.high)]  # fmt: skip
    parts.append(text(loss_name, LEFT, bottom + 40, cls="soft"))
    return picture(WIDTH, bottom + 52, f"Permutation importance: {loss_name}", parts)


def effects(found: Sequence[Effect], output_name: str) -> str:
    """Curves of accumulated local effects or partial dependence: small multiples on one scale."""
    high = max((value for one in found for value in one.values), default=1.0)
    low = min((value for one in found for value in one.values), default=0.0)
    rows = (len(found) + 2) // 3
    parts: list[Markup] = []
    for number, one in enumerate(found):
        x, y = (number % 3) * (CELL + GAP), 24 + (number // 3) * (CELL_HEIGHT + 46)
        parts += _curve(one, x, y, low, high)
    return picture(3 * CELL + 2 * GAP, 24 + rows * (CELL_HEIGHT + 46), f"Effect on the {output_name} by column", parts)


def _curve(one: Effect, x: float, y: float, low: float, high: float) -> list[Markup]:
    up = Scale([low, high], y + CELL_HEIGHT - 8, y)
    numeric = all(isinstance(point, int | float) and not isinstance(point, bool) for point in one.points)
    places = [float(point) for point in one.points] if numeric else [float(at) for at in range(len(one.points))]  # type: ignore[arg-type]  # numbers all, by the line above
    across = Scale(places, x + 34, x + CELL)
    parts = [text(clipped(one.column, 26), x + 34, y - 6, cls="strong")]
    for tick in ticks(up.low, up.high, 3):
        parts.append(line(x + 34, up(tick), x + CELL, up(tick), "grid"))
        parts.append(text(f"{tick:g}", x + 30, up(tick) + 4, anchor="end", cls="soft"))
    pairs = list(zip(places, one.values, strict=True))
    if numeric:
        path = " L".join(f"{across(place):.2f} {up(value):.2f}" for place, value in pairs)
        parts.append(tag("path", d=f"M{path}", class_="curve"))
        marks = [(tick, f"{tick:g}") for tick in ticks(min(places), max(places), 3)]
    else:
        parts += [tag("circle", cx=across(place), cy=up(value), r=4, class_="bar") for place, value in pairs]
        step = max(1, len(places) // 4)
        marks = [(place, clipped(value_text(point), 10)) for place, point in zip(places, one.points, strict=True)][
            ::step
        ]
    return parts + [text(name, across(at), y + CELL_HEIGHT + 8, anchor="middle", cls="soft") for at, name in marks]
