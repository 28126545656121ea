"""How the completeness report looks."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from affiant.cli.views.tables import exactly, plain_table

MOST_RANGES = 20
_ENDS = {"ended": "ended", "serving": "serving", "open": "open end"}


def report(found: dict[str, Any], model: str | None) -> list[RenderableType]:
    """The sum in a sentence, then each replica, then what is not here."""
    of = (f" of {model}" if model else "") + (f" on {found['day']} (UTC)" if found["day"] else "")
    recorded = found["served"] - found["missing"] - found["removed"]
    if found["complete"]:
        head = Text(f"✓ served = recorded = {found['served']} requests{of}", style="green")
    else:
        lacking = [f"{found[what]} {what}" for what in ("missing", "removed") if found[what]]
        head = Text(f"✗ {found['served']} served, {recorded} recorded{of}: {', '.join(lacking)}", style="bold red")
    views: list[RenderableType] = [head]
    if found["open_ends"]:
        views.append(Text(f"! {found['open_ends']} replicas ended without saying so: open ends", style="yellow"))
    if found["replicas"]:
        views += [Text(), _replicas(found["replicas"])]
    return [*views, *_absent(found["replicas"])]


def _replicas(lines: list[dict[str, Any]]) -> RenderableType:
    right = ("recorded", "numbers", "said")
    table = plain_table("model", "replica", "epoch", "recorded", "numbers", "end", "said", right=right)
    for one in lines:
        numbers = f"{one['first']}–{one['last']}" if one["received"] else "–"
        said = "–" if one["drawn"] is None else str(one["drawn"])
        end = _ENDS.get(one["end"], one["end"])
        table.add_row(one["model"], one["replica"], str(one["epoch"]), str(one["received"]), numbers, end, said)
    return table


def _absent(lines: list[dict[str, Any]]) -> list[RenderableType]:
    views: list[RenderableType] = []
    for one in lines:
        who = f"{one['model']} {one['replica']}"
        said = [f"{who}: missing {_range(gap)} since {exactly(gap['since'])}" for gap in one["missing"]]
        said += [f"{who}: removed from the store: {_range(gap)}" for gap in one["removed"]]
        views += [Text(line, style="red") for line in said[:MOST_RANGES]]
        if len(said) > MOST_RANGES:
            views.append(Text(f"{who}: and {len(said) - MOST_RANGES} ranges more (--output json has all)"))
    return [Text(), *views] if views else []


def _range(gap: dict[str, Any]) -> str:
    return str(gap["first"]) if gap["first"] == gap["last"] else f"{gap['first']}–{gap['last']}"
