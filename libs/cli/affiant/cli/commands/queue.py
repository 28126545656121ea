"""The explainer's queue: what waits, runs and has ended."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import typer
from rich.table import Table
from rich.text import Text

from affiant.cli.session import Session, command
from affiant.cli.views.tables import ago, plain_table

PANEL = "Predictions"
State = Literal["queued", "running", "done", "failed", "expired"]
PRIORITIES = ("on request", "adverse", "other")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "explanations", PANEL)(explanations)


def explanations(
    session: Session,
    state: Annotated[State, typer.Option(help="queued, running, done, failed or expired.")] = "queued",
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the oldest first.")] = 20,
) -> None:
    """How the explainer stands: what waits and for how long, what runs, what failed and why.

    affiant explanations
    affiant explanations --state failed --model loan
    """
    asked = {"state": state, "limit": limit} | ({"model": model} if model else {})
    found = session.services.get("explainer", f"/v1/explanations?{urlencode(asked)}")
    queue = found["queue"]
    counted = " · ".join(f"{queue[each]} {each}" for each in ("queued", "running", "done", "failed", "expired"))
    oldest = f"; the oldest has waited {queue['oldest_queued_seconds']:.0f} s" if queue["queued"] else ""
    nothing = Text(f"none is {state}")
    session.show(found, Text(f"{counted}{oldest}"), _table(found["explanations"]) if found["explanations"] else nothing)


def show_status(session: Session, prediction_id: str) -> None:
    """How the explanations of a prediction stand."""
    found = session.services.get("explainer", f"/v1/explanations/{quote(prediction_id, safe='')}")
    session.show(found, _table(found["explanations"]))


def _table(explanations: list[dict[str, Any]]) -> Table:
    table = plain_table(
        "prediction", "row", "model", "state", "priority", "queued", "methods", "reason", right=("row",)
    )
    for each in explanations:
        table.add_row(
            each["prediction_id"],
            str(each["row"] + 1),
            f"{each['model']}/{each['version']}",
            each["state"],
            PRIORITIES[each["priority"]],
            ago(each["queued_at"]),
            ", ".join(each["methods"]),
            each["reason"],
        )
    return table
