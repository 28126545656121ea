"""`affiant replay`: logged input through the registered bytes again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text

from affiant.cli import replaying
from affiant.cli.moments import moment
from affiant.cli.references import reference
from affiant.cli.session import Session, command
from affiant.cli.views.tables import mark, plain_table
from affiant.common.errors import Problem
from affiant.common.replaying import Replayed

PANEL = "Proofs"
SHOWN = 20
TOLD_SECONDS = 2.0

_STYLES = {"bit_exact": "green", "within_tolerance": "yellow", "mismatch": "red", "not_replayable": "dim"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "replay", PANEL)(replay)


def replay(
    session: Session,
    prediction_id: Annotated[str | None, typer.Argument(metavar="[PREDICTION-ID]", help="One prediction.")] = None,
    model: Annotated[str | None, typer.Option(help="Those of loan, or of loan/2.")] = None,
    since: Annotated[str | None, typer.Option(help="Received from then on: 24h, 7d, 2026-11-23.")] = None,
    until: Annotated[str | None, typer.Option(help="Received before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 1_000,
) -> None:
    """Run the logged input through the registered bytes again, and say whether the same comes out.

      affiant replay 019a2f6e-… --as iris
      affiant replay --model loan --since 24h --as iris

    bit_exact: the same to the last bit. within_tolerance: the same labels, numbers that differ a little, and by how
    much. mismatch: more than that; exit code 1 then. not_replayable: and why (erased, another system's, the bytes are
    gone, no answer was given). Each record's proof is verified first; the bytes are fetched by digest and checked; the
    run is in a process of its own, with limits, as the model server would run it. A request of several rows is run as
    it came.
    """
    if (prediction_id is None) == (model is None):
        raise Problem("name one prediction, or a model with --model", hint="affiant replay --help")
    if prediction_id is not None:
        ids: Iterable[str] = [prediction_id]
    else:
        wanted = reference(model or "")
        window = {"since": moment(since), "until": moment(until)}
        ids = replaying.listed(session.services, limit, model=wanted.model, version=wanted.version, **window)
    begun = time.monotonic()
    found = _replayed(session, ids)
    seconds = time.monotonic() - begun
    counts: Counter[str] = Counter(one.state for one in found)
    session.show(
        {"counts": counts, "seconds": round(seconds, 3), "replayed": [msgspec.to_builtins(one) for one in found]},
        *_views(found, counts, seconds),
    )
    if counts["mismatch"]:
        raise typer.Exit(1)


def _replayed(session: Session, ids: Iterable[str]) -> list[Replayed]:
    found: list[Replayed] = []
    told = time.monotonic()
    with replaying.Replays(session.services, _log_key(session)) as replays:
        for prediction_id in ids:
            found.append(replays.replay(prediction_id))
            if time.monotonic() - told > TOLD_SECONDS:
                told = time.monotonic()
                session.note(f"{len(found):,} replayed…")
    return found


def _log_key(session: Session) -> str:
    try:
        return session.home.log_key.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _views(found: list[Replayed], counts: Counter[str], seconds: float) -> list[RenderableType]:
    if not found:
        return [Text("no prediction is on record there")]
    said = [
        mark(f"{counts[state]:,} {state.replace('_', ' ')}", style) for state, style in _STYLES.items() if counts[state]
    ]
    views: list[RenderableType] = [*said, Text(f"{len(found):,} requests in {seconds:.1f} s", style="dim")]
    other = [one for one in found if one.state != "bit_exact"]
    if other:
        table = plain_table("prediction", "state", "differs by", "why")
        for one in other[:SHOWN]:
            differs = f"{one.difference:.3g}" if one.difference else "–"
            why = "; ".join(text for text in (one.reason, one.software) if text)
            table.add_row(one.prediction_id, one.state, differs, why or "–")
        views.append(table)
    if len(other) > SHOWN:
        views.append(Text(f"and {len(other) - SHOWN} more (--output json has all)", style="dim"))
    return views
