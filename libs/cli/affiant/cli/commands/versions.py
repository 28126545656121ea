"""A version as a whole, and explanations as pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import RenderableType
from rich.text import Text

from affiant.cli.references import reference
from affiant.cli.session import Session, command
from affiant.cli.views import explanation
from affiant.common.errors import Problem

PANEL = "Predictions"
FINISHED = ("done", "failed")

Kind = Literal["waterfall", "force", "importance", "ale", "partial_dependence", "beeswarm"]
OF_ROWS = ("waterfall", "force")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "explain-model", PANEL)(explain_model)
    command(app, "plot", PANEL)(plot)


def explain_model(
    session: Session,
    version: Annotated[str, typer.Argument(metavar="MODEL/VERSION", help="Such as loan/2.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 300.0,
) -> None:
    """What a version does as a whole: which columns count, and how the output goes with their values.

    It is computed once, when the version is first promoted; this asks for it, waits and shows it.

    affiant explain-model loan/2
    """
    path = f"{_path(version)}/explanation"
    state = session.services.post("explainer", path, {})
    deadline = time.monotonic() + timeout
    shown = ""
    while state["state"] not in FINISHED:
        if state["state"] != shown:
            shown = state["state"]
            session.note(f"{shown}…")
        if time.monotonic() > deadline:
            raise Problem(
                f"not explained within {timeout:g} s: it is {shown}", status=504, hint="it goes on; ask again"
            )
        time.sleep(0.2)
        state = session.services.get("explainer", path)
    if state["state"] == "failed":
        raise Problem(f"{version} cannot be explained as a whole: {state['reason']}", details={"explanation": state})
    session.show(state, *_overview(version, state["event"]))


def plot(
    session: Session,
    what: Annotated[str, typer.Argument(metavar="PREDICTION|MODEL/VERSION", help="A prediction's id, or loan/2.")],
    kind: Annotated[Kind, typer.Option(help="Of a prediction: waterfall or force; the others are of a version.")],
    out: Annotated[Path, typer.Option(help="Where the SVG goes.")],
    row: Annotated[int, typer.Option(min=1, help="Which row of the request, counted from 1.")] = 1,
) -> None:
    """Draw an explanation as an SVG picture, light or dark as its reader's screen is.

    affiant plot 019a2f6e-… --kind waterfall --out why.svg
    affiant plot loan/2 --kind beeswarm --out loan.svg
    """
    if (kind in OF_ROWS) == ("/" in what):
        fits = "waterfall or force" if "/" not in what else "importance, ale, partial_dependence or beeswarm"
        raise Problem(f"there is no {kind} of {what}", hint=f"--kind {fits}")
    where = f"/v1/explanations/{what}/plots/{kind}.svg?row={row - 1}"
    if "/" in what:
        where = f"{_path(what)}/plots/{kind}.svg"
    answer = session.services.ask("explainer", "GET", where)
    out.write_text(answer.text, encoding="utf-8")
    session.show({"file": str(out)}, Text(f"drawn: {out}"))


def _path(version: str) -> str:
    found = reference(version)
    if found.version is None:
        raise Problem(f"{version} names no version", hint=f"write {version}/1")
    return f"/v1/models/{found.model}/versions/{found.version}"


def _overview(version: str, event: dict[str, Any]) -> list[RenderableType]:
    made = f"{event['background_rows']} background rows · seed {event['seed']} · {event['duration_ms']:.0f} ms"
    return [
        Text(f"{version} as a whole: what counts for the {event['explained_output']}", style="bold underline"),
        explanation.importance(event["importance"]),
        *(Text(f"! {warning}", style="yellow") for warning in event.get("warnings", [])),
        Text(made, style="dim"),
        Text(f"curves: affiant plot {version} --kind partial_dependence --out curves.svg", style="cyan"),
    ]
