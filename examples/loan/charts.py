"""The other pictures of the page, as SVG: how a decision travels, when which version answered, rates by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from examples.loan import words
from examples.loan.markup import Raw, tag, together
from examples.loan.outcome import Answer, Fairness, Moment, Outcome

WIDTH = 1040


# --- how a decision travels -----------------------------------------------------------------------------------


def flow(outcome: Outcome) -> Raw:
    """Who hands what to whom, with the counts of this run."""
    t = outcome.totals
    proof = outcome.case.proof if outcome.case else None
    versions = " · ".join(f"v{v.number}: {v.answered:,}" for v in outcome.versions)
    sealed = f"{proof.tree_size:,} entries, one root" if proof else "Merkle log"
    boxes = (
        _box(0, 122, 168, "Applications", words.plural(outcome.clients, "client") + " at once", f"{t.sent:,} sent"),
        _box(258, 122, 184, "Model server", "Open Inference Protocol", versions, strong=True),
        _box(532, 122, 168, "NATS JetStream", "acked before answering", f"{t.audited:,} records"),
        _box(790, 122, 250, "Auditor", sealed, f"{t.missing} missing · {t.doubled} doubled", strong=True),
        _box(0, 10, 168, "Registry", "ana registers, ben approves", words.plural(len(outcome.versions), "version")),
        _box(258, 10, 184, "Deployer", "serves what is promoted", "same address throughout"),
        _box(
            532,
            234,
            168,
            "Explainer",
            "anchor and SHAP values",
            f"{t.explained:,} of {t.denied:,} denials",
            strong=True,
        ),
    )
    arrows = (
        _arrow("M168 158 H252"), _arrow("M442 158 H526"), _arrow("M700 158 H784"),
        _arrow("M168 46 H252"), _arrow("M350 82 V116"), _arrow("M616 194 V228"), _arrow("M700 270 H915 V200"),
        tag("text", "decision and its id", x=210, y=112, text_anchor="middle", cls="caption"),
        _arrow("M252 174 H174", faint=True),
    )  # fmt: skip
    return tag(
        "svg", _arrowhead(), *arrows, *boxes, viewBox=f"0 0 {WIDTH} 318", role="img", cls="flow",
        aria_label="Applications reach the model server, its records reach the auditor and the explainer over the bus",
    )  # fmt: skip


def _box(x: int, y: int, width: int, title: str, first: str, second: str, *, strong: bool = False) -> Raw:
    middle = x + width / 2
    return tag(
        "g",
        tag("rect", x=x + 0.5, y=y + 0.5, width=width - 1, height=71, rx=7, cls="strong" if strong else "plain"),
        tag("text", title, x=middle, y=y + 24, text_anchor="middle", cls="title"),
        tag("text", first, x=middle, y=y + 43, text_anchor="middle", cls="small"),
        tag("text", second, x=middle, y=y + 60, text_anchor="middle", cls="figure"),
    )


def _arrow(path: str, *, faint: bool = False) -> Raw:
    return tag("path", d=path, cls="arrow faint" if faint else "arrow", marker_end="url(#head)")


def _arrowhead() -> Raw:
    triangle = tag("path", d="M0 0 L8 4 L0 8 z", cls="head")
    return tag("defs", tag("marker", triangle, id="head", markerWidth=8, markerHeight=8, refX=7, refY=4, orient="auto"))


# --- when which version answered ------------------------------------------------------------------------------

LEFT, PLOT_TOP, PLOT_HEIGHT, BUCKET = 44, 46, 140, 0.5


def timeline(answers: Sequence[Answer], moments: Sequence[Moment]) -> Raw:
    """Answers in each half second, coloured by version, under the numbered moments of the run."""
    if not answers:
        return Raw("")
    begin = min([a.at for a in answers] + [m.at for m in moments]) - 0.4
    end = max([a.at for a in answers] + [m.at for m in moments]) + 0.4
    counts = _buckets(answers, begin)
    most = max(sum(by_version.values()) for by_version in counts.values())

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT) * (at - begin) / (end - begin)

    width = max(1.5, x(begin + BUCKET) - x(begin) - 1.5)
    bars = (
        _stack(x(begin + number * BUCKET), width, by_version, most) for number, by_version in sorted(counts.items())
    )
    bottom = PLOT_TOP + PLOT_HEIGHT
    return tag(
        "svg",
        *_scale(most),
        *bars,
        tag("line", x1=LEFT, x2=WIDTH, y1=bottom, y2=bottom, cls="baseline"),
        *_seconds(begin, end, x),
        *_markers([x(moment.at) for moment in moments]),
        viewBox=f"0 0 {WIDTH} {bottom + 34}",
        role="img",
        cls="timeline",
        aria_label="Answers over time by version",
    )


def _buckets(answers: Sequence[Answer], begin: float) -> dict[int, dict[int, int]]:
    counts: dict[int, dict[int, int]] = {}
    for answer in answers:
        by_version = counts.setdefault(int((answer.at - begin) / BUCKET), {})
        by_version[answer.version] = by_version.get(answer.version, 0) + 1
    return counts


def _stack(x: float, width: float, by_version: dict[int, int], most: int) -> Raw:
    bars, bottom = [], float(PLOT_TOP + PLOT_HEIGHT)
    for version, count in sorted(by_version.items()):
        height = PLOT_HEIGHT * count / most
        bottom -= height
        title = tag("title", f"version {version}: {words.plural(count, 'answer')}")
        shade = 1 + (version - 1) % 2
        bars.append(tag("g", title, tag("rect", x=x, y=bottom, width=width, height=height, cls=f"v{shade}")))
    return together(*bars)


def _scale(most: int) -> list[Raw]:
    return [
        together(
            tag("line", x1=LEFT, x2=WIDTH, y1=y, y2=y, cls="grid"),
            tag("text", count, x=LEFT - 8, y=y + 4, text_anchor="end", cls="axis"),
        )
        for count in (most, most // 2)
        for y in [PLOT_TOP + PLOT_HEIGHT * (1 - count / most)]
    ]


def _seconds(begin: float, end: float, x: Callable[[float], float]) -> list[Raw]:
    step = next((s for s in (1, 2, 5, 10, 20, 60) if (end - begin) / s <= 14), 120)
    ticks = range(0, int(end) + 1, step)
    y = PLOT_TOP + PLOT_HEIGHT + 18
    return [
        tag("text", f"{tick} s", x=x(tick), y=y, text_anchor="middle", cls="axis") for tick in ticks if tick >= begin
    ]


def _markers(places: Sequence[float]) -> list[Raw]:
    """Numbered marks; those that would touch are moved apart, with a line down to their moment."""
    spread = _apart(places, 22.0)
    marks = []
    for number, (place, shown) in enumerate(zip(places, spread, strict=True), 1):
        marks.append(tag("path", d=f"M{shown:.1f} 26 L{place:.1f} 40 V{PLOT_TOP + PLOT_HEIGHT}", cls="stem"))
        marks.append(tag("circle", cx=shown, cy=15, r=10, cls="mark"))
        marks.append(tag("text", number, x=shown, y=19, text_anchor="middle", cls="number"))
    return marks


def _apart(places: Sequence[float], least: float) -> list[float]:
    shown = list(places)
    for _ in range(200):
        moved = False
        for left, right in pairwise(range(len(shown))):
            gap = shown[right] - shown[left]
            if gap < least - 0.01:
                shown[left] = max(LEFT - 20.0, shown[left] - (least - gap) / 2)
                shown[right] = min(WIDTH - 11.0, shown[right] + (least - gap) / 2)
                moved = True
        if not moved:
            break
    return shown


# --- rates by group -------------------------------------------------------------------------------------------

BARS_WIDTH, BARS_LEFT, BARS_RIGHT, BAR = 520, 132, 62, 42


def rates(fairness: Fairness) -> Raw:
    """A bar for each group's approval rate, a tick where the table's own decisions were, four fifths dotted."""
    height = BAR * len(fairness.groups) + 34
    reference = next((g.rate for g in fairness.groups if g.value == fairness.reference), None)

    def x(rate: float) -> float:
        return BARS_LEFT + (BARS_WIDTH - BARS_LEFT - BARS_RIGHT) * rate

    parts = [tag("line", x1=x(s), x2=x(s), y1=4, y2=height - 26, cls="grid") for s in (0, 0.25, 0.5, 0.75, 1)]
    parts += [
        tag("text", words.percent(s), x=x(s), y=height - 8, text_anchor="middle", cls="axis") for s in (0, 0.5, 1)
    ]
    for place, group in enumerate(fairness.groups):
        y = 6 + place * BAR
        shade = "reference" if group.value == fairness.reference else "group"
        name = words.clipped(group.value, 18)
        parts += [
            tag("text", name, x=BARS_LEFT - 12, y=y + 15, text_anchor="end", cls="name"),
            tag(
                "text", words.plural(group.rows, "decision"), x=BARS_LEFT - 12, y=y + 29, text_anchor="end", cls="axis"
            ),
            tag("rect", x=x(0), y=y + 4, width=max(1.0, x(group.rate) - x(0)), height=22, rx=2, cls=shade),
            tag(
                "text",
                words.percent(group.rate, 1),
                x=max(x(group.rate), x(group.recorded_rate or 0)) + 8,
                y=y + 20,
                cls="amount",
            ),
        ]
        if group.recorded_rate is not None:
            at = x(group.recorded_rate)
            parts.append(tag("line", x1=at, x2=at, y1=y, y2=y + 30, cls="recorded"))
    if reference:
        parts.append(tag("line", x1=x(0.8 * reference), x2=x(0.8 * reference), y1=0, y2=height - 26, cls="fifths"))
    return tag(
        "svg", *parts, viewBox=f"0 0 {BARS_WIDTH} {height}", role="img", cls="rates",
        aria_label=f"Approval rates by {fairness.column}",
    )  # fmt: skip
