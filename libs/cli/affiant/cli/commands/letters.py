"""Letters: the reasons of an adverse decision, for the person whom it concerns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from affiant.cli import verifying
from affiant.cli.commands.predictions import log_key, record_of
from affiant.cli.session import Session, command
from affiant.cli.views import letter as views
from affiant.cli.views.letter import Letter
from affiant.common.errors import NotFound, Problem

PANEL = "Predictions"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "letter", PANEL)(letter)


def letter(
    session: Session,
    prediction_id: Annotated[
        str, typer.Argument(metavar="PREDICTION-ID", help="As the answer to the request gave it.")
    ],
    row: Annotated[int, typer.Option(min=1, help="Which row of the request, counted from 1.")] = 1,
    sender: Annotated[str, typer.Option(help="Who writes; named at the end.")] = "",
    html: Annotated[Path | None, typer.Option(help="Write it as an HTML page to this file as well.")] = None,
) -> None:
    """Write the letter that tells a person why a decision went against them, in the words reviewed with the version.

      affiant letter 019a2f6e-…  --sender "Example Bank" --html letter.html --as iris

    The reasons come from the audit log, and the record's proof is verified first. Reasons that do not hold when they
    are tried on the model, or that another seed would not name, are in no letter: the command says why.
    """
    prediction_id, found = record_of(session, prediction_id)
    verdict = verifying.verdict(found, prediction_id, log_key(session))
    if not verdict.verifies:
        raise Problem(f"the record does not verify: {verdict.objection}", hint="affiant doctor checks the whole log")
    written = letter_of(found, prediction_id, row - 1, sender)
    if html is not None:
        html.write_text(views.page(written), encoding="utf-8")
        session.note(f"written to {html}")
    data = {"prediction_id": prediction_id, "row": row, "reasons": written.reasons, "letter": views.text(written)}
    session.show(data, Text(views.text(written)))


def letter_of(found: dict[str, Any], prediction_id: str, row: int, sender: str) -> Letter:
    """Raises `Problem` saying why there is no letter."""
    logged = found["record"]
    labels, adverse = logged.get("labels", []), logged.get("adverse", [])
    if not row < len(labels):
        raise NotFound(f"prediction {prediction_id} has no row {row + 1}", hint=f"it has {len(labels)} rows")
    if not (row < len(adverse) and adverse[row]):
        raise Problem("the decision was not adverse: there is nothing to give reasons for")
    events = [one["event"] for one in found["explanations"] if one["event"].get("row", 0) == row]
    told = [event["reasons"] for event in events if event.get("reasons")]
    if not told:
        raise Problem(
            "no reasons are on record for this decision",
            hint="affiant explain ID --method shap, for a version that was registered with --reasons",
        )
    # The last one is the newest: whoever asks again wants its word.
    reasons = told[-1]
    objection = reasons.get("objection") or ("" if reasons["faithful"] else "the reasons do not hold on the model")
    if objection:
        raise Problem(
            f"no letter: {objection}",
            hint="a person must look at this decision; affiant prediction shows all of it",
            details={"reasons": reasons},
        )
    return Letter(
        prediction_id=prediction_id,
        model=f"{logged['model']}/{logged['version']}",
        decided_at=logged["received_at"],
        decision=str(labels[row]),
        reasons=[one["text"] for one in reasons["reasons"]],
        baseline=reasons["baseline"],
        table_digest=reasons["table_digest"],
        sender=sender,
    )
