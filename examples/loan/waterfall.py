"""A waterfall of SHAP values as SVG: from the average applicant to this one, a bar for each column."""

from __future__ import annotations

from dataclasses import dataclass

from examples.loan import words
from examples.loan.markup import Raw, tag, together
from examples.loan.outcome import Contribution, Waterfall

WIDTH, LABELS, RIGHT, ROW, TOP = 520, 168, 62, 31, 44
MOST, LEAST = 8, 0.005
"""Columns shown by themselves, and from which weight on; the others are added up in one bar."""


@dataclass(frozen=True)
class Bar:
    """One bar, from one probability to the next."""

    title: str
    begin: float
    end: float


def bars(waterfall: Waterfall) -> list[Bar]:
    """The bars in order, most weight first. They begin at the baseline and end at the output."""
    shown = [c for c in waterfall.contributions[:MOST] if abs(c.shap) >= LEAST]
    steps = [(_title(c), c.shap) for c in shown]
    others = len(waterfall.contributions) - len(shown)
    if others:
        # Not the sum of their values: so the bars end at the output exactly, whatever was rounded or estimated.
        rest = waterfall.output - waterfall.baseline - sum(c.shap for c in shown)
        steps.append((words.plural(others, "other column"), rest))
    found, level = [], waterfall.baseline
    for title, step in steps:
        found.append(Bar(title, level, level + step))
        level += step
    return found


def svg(waterfall: Waterfall) -> Raw:
    """The picture; colours come from the page's style sheet."""
    rows = bars(waterfall)
    levels = [waterfall.baseline, waterfall.output, *(bar.end for bar in rows)]
    low, high = _range(min(levels), max(levels))
    height = TOP + ROW * len(rows) + 44

    def x(probability: float) -> float:
        return LABELS + (WIDTH - LABELS - RIGHT) * (probability - low) / (high - low)

    return tag(
        "svg",
        _axis(low, high, x(low), x(high), height),
        _level(x(waterfall.baseline), height, TOP - 12, f"average {words.percent(waterfall.baseline)}", "base"),
        _level(x(waterfall.output), height, height - 22, f"this application {words.percent(waterfall.output)}", "out"),
        *(_bar(bar, index, x(bar.begin), x(bar.end)) for index, bar in enumerate(rows)),
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        cls="waterfall",
        aria_label=f"From {words.percent(waterfall.baseline)} to {words.percent(waterfall.output)}",
    )


def _title(contribution: Contribution) -> str:
    return words.clipped(f"{contribution.column} = {words.value(contribution.value)}", 24)


def _range(low: float, high: float) -> tuple[float, float]:
    margin = max(0.02, 0.06 * (high - low))
    return max(0.0, low - margin), min(1.0, high + margin)


def _axis(low: float, high: float, left: float, right: float, height: int) -> Raw:
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25) if (high - low) / s <= 7)
    ticks = [tick * step for tick in range(int(1 / step) + 1) if low <= tick * step <= high]
    return together(*(_tick(left + (right - left) * (t - low) / (high - low), t, height) for t in ticks))


def _tick(x: float, probability: float, height: int) -> Raw:
    return together(
        tag("line", x1=x, x2=x, y1=TOP - 6, y2=height - 40, cls="grid"),
        tag("text", words.percent(probability), x=x, y=height - 2, text_anchor="middle", cls="axis"),
    )


def _level(x: float, height: int, y: int, title: str, kind: str) -> Raw:
    # Near an edge the words are set to the other side, or they would be cut off.
    anchor = "start" if x < LABELS + 70 else "end" if x > WIDTH - 110 else "middle"
    return together(
        tag("line", x1=x, x2=x, y1=TOP - 6, y2=height - 40, cls=f"level {kind}"),
        tag("text", title, x=x, y=y, text_anchor=anchor, cls=f"leveltext {kind}"),
    )


def _bar(bar: Bar, index: int, begin: float, end: float) -> Raw:
    y = TOP + index * ROW
    worse = bar.end >= bar.begin
    width = max(abs(end - begin), 1.5)
    right = max(begin, end)
    return tag(
        "g",
        tag("text", bar.title, x=LABELS - 12, y=y + 16, text_anchor="end", cls="name"),
        tag("rect", x=min(begin, end), y=y + 3, width=width, height=ROW - 12, rx=2, cls="worse" if worse else "better"),
        tag("line", x1=end, x2=end, y1=y + 3, y2=y + 3 + ROW, cls="link"),
        tag("text", words.points(bar.end - bar.begin), x=right + 6, y=y + 16, cls="amount"),
    )
