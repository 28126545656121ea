"""Building SVG: escaped by construction, numbers short, colours by the reader's scheme."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from html import escape

from affiant.common.events import Scalar

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_LIGHT = "--ink:#18202e;--soft:#5b6472;--line:#e3e0d8;--low:#2f5d8c;--high:#d6452d;--none:#8a919d"
_DARK = "--ink:#e9e6de;--soft:#a5acb8;--line:#2b323e;--low:#6fa0d6;--high:#f07a5f;--none:#7b8391"
_PRINT = "--ink:#111;--soft:#444;--line:#ccc;--low:#24507c;--high:#b23a20;--none:#777"
_RULES = {
    "text": 'font:12px ui-sans-serif,system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;fill:var(--ink)',
    ".soft": "fill:var(--soft)",
    ".strong": "font-weight:600",
    ".grid": "stroke:var(--line)",
    ".axis": "stroke:var(--soft)",
    ".mark": "stroke:var(--ink);stroke-dasharray:4 3",
    # As in shap: red raises the output, blue lowers it; which of the two is good news depends on the output.
    ".up": "fill:var(--high)",
    ".down": "fill:var(--low)",
    ".bar": "fill:var(--low)",
    ".curve": "fill:none;stroke:var(--low);stroke-width:2",
    ".edge": "stroke:var(--soft);stroke-width:1",
}
# Every rule is for our pictures alone: a page may hold several of them inline, beside its own style.
STYLE = (
    f".affiant-plot{{{_LIGHT}}}@media (prefers-color-scheme:dark){{.affiant-plot{{{_DARK}}}}}"
    f"@media print{{.affiant-plot{{{_PRINT}}}}}"
    + "".join(f".affiant-plot {selector}{{{rule}}}" for selector, rule in _RULES.items())
)


class Markup(str):
    """Text that is SVG already."""


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element. Children are escaped unless they are `Markup`; `_` in an attribute's name stands for `-`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"' for key, value in attributes.items()
    )
    inner = "".join(child if isinstance(child, Markup) else _escaped(str(child)) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>")


def text(content: object, x: float, y: float, *, anchor: str = "start", cls: str = "") -> Markup:
    """A line of text; `anchor` is start, middle or end."""
    given = {"class_": cls} if cls else {}
    return tag("text", content, x=x, y=y, text_anchor=anchor, **given)


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=cls)


def picture(width: float, height: float, label: str, parts: Iterable[Markup]) -> str:
    """The whole document. `label` is what a screen reader says of it."""
    return tag(
        "svg",
        tag("title", label),
        Markup(f"<style>{STYLE}</style>"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_attribute(width)} {_attribute(height)}",
        class_="affiant-plot",
        role="img",
        aria_label=label,
    )


def value_text(value: Scalar) -> str:
    """A cell's value as a person reads it."""
    if value is None:
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def clipped(content: str, characters: int) -> str:
    """At most so many characters; an ellipsis stands for the rest."""
    return content if len(content) <= characters else content[: characters - 1] + "…"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about so many of them."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


class Scale:
    """Numbers from `low` to `high` as places from `left` to `right`."""

    def __init__(self, values: Iterable[float], left: float, right: float, margin: float = 0.04) -> None:
        known = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(known), max(known)
        spare = (high - low) * margin
        if high == low:
            spare = abs(high) * 0.1 or 1.0
        self.low, self.high = low - spare, high + spare
        self._left, self._width = left, right - left

    def __call__(self, value: float) -> float:
        return self._left + (value - self.low) / (self.high - self.low) * self._width


def _escaped(content: str) -> str:
    return escape(NOT_IN_XML.sub("�", content), quote=False)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return escape(NOT_IN_XML.sub("�", str(value)), quote=True)
