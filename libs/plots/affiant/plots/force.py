"""A force plot: what pushes the output up from the left, what pushes it down from the right, meeting at the output."""

from __future__ import annotations

from affiant.common.events import Shap, ShapValue
from affiant.plots.svg import Markup, Scale, clipped, line, picture, tag, text, ticks, value_text

WIDTH, MARGIN, BAND, HEIGHT = 760.0, 30.0, 34.0, 26.0
NAMED = 3
"""Columns on each side that are named under the band."""


def force(shap: Shap, output_name: str) -> str:
    """The SHAP values of one row as an SVG document; `output_name` says what they add up to."""
    up = sorted((one for one in shap.values if one.shap > 0), key=lambda one: -one.shap)
    down = sorted((one for one in shap.values if one.shap < 0), key=lambda one: one.shap)
    first = shap.output - sum(one.shap for one in up)
    last = shap.output - sum(one.shap for one in down)
    scale = Scale([first, last, shap.baseline, shap.output], MARGIN, WIDTH - MARGIN)
    parts = [*_band(up, shap.output, scale, "up"), *_band(down, shap.output, scale, "down")]
    parts += _marks(shap, scale, output_name)
    parts += _names(up, 0, "up") + _names(down, 1, "down")
    return picture(WIDTH, BAND + HEIGHT + 62 + 18 * NAMED, f"What pushes the {output_name} up and down", parts)


def _band(values: list[ShapValue], output: float, scale: Scale, kind: str) -> list[Markup]:
    """Arrows that point to the output, the strongest next to it."""
    parts, tip = [], output
    for one in values:
        tail = tip - one.shap
        point = min(7.0, abs(scale(tip) - scale(tail))) * (1 if one.shap > 0 else -1)
        x1, x2 = scale(tail), scale(tip)
        outline = (
            f"M{x1:.2f} {BAND} L{x2 - point:.2f} {BAND} L{x2:.2f} {BAND + HEIGHT / 2} "
            f"L{x2 - point:.2f} {BAND + HEIGHT} L{x1:.2f} {BAND + HEIGHT} L{x1 + point:.2f} {BAND + HEIGHT / 2} Z"
        )
        title = tag("title", f"{one.column} = {value_text(one.value)}: {one.shap:+.3f}")
        parts.append(tag("path", title, d=outline, class_=kind))
        tip = tail
    return parts


def _marks(shap: Shap, scale: Scale, output_name: str) -> list[Markup]:
    base, output, under = scale(shap.baseline), scale(shap.output), BAND + HEIGHT
    marks = [
        line(base, BAND - 6, base, under + 6, "mark"),
        text(f"{clipped(output_name, 48)} {shap.output:.3f}", output, BAND - 12, anchor="middle", cls="strong"),
        text(f"baseline {shap.baseline:.3f}", base, under + 36, anchor="middle", cls="soft"),
    ]
    return marks + [text(f"{tick:g}", scale(tick), under + 20, anchor="middle", cls="soft") for tick in _ticks(scale)]


def _ticks(scale: Scale) -> list[float]:
    return ticks(scale.low, scale.high)


def _names(values: list[ShapValue], side: int, kind: str) -> list[Markup]:
    x, anchor = (MARGIN, "start") if side == 0 else (WIDTH - MARGIN, "end")
    top = BAND + HEIGHT + 58
    return [
        text(
            f"{clipped(f'{one.column} = {value_text(one.value)}', 40)}  {one.shap:+.3f}",
            x,
            top + 18 * number,
            anchor=anchor,
            cls=kind,
        )
        for number, one in enumerate(values[:NAMED])
    ]
