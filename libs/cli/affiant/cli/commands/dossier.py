"""`affiant dossier`: the whole story of one decision, in a folder or zip that stands by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from affiant.cli import verifying
from affiant.cli.commands.predictions import PredictionId
from affiant.cli.dossier import bundle
from affiant.cli.session import Session, command
from affiant.common.errors import Problem

PANEL = "Predictions"

_HOLDS = {"verified": "payload → leaf → root → signature, with the installation's own key"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "dossier", PANEL)(dossier)


def dossier(
    session: Session,
    prediction_id: PredictionId,
    out: Annotated[
        Path | None, typer.Option(help="A new folder, or a file.zip.", show_default="dossier-<id> here")
    ] = None,
) -> None:
    """Gather the whole story of one decision: a page that opens offline and prints, data, and proofs.

      affiant dossier 019a2f6e-…  --as iris
      affiant dossier 019a2f6e-… --out case-4711.zip --as iris
      affiant verify case-4711.zip

    What it says of approvals is what stood when the request came, not what stands today; figures are of that day.
    """
    found = session.services.get("auditor", f"/v1/predictions/{prediction_id}/dossier")
    verified = _verified(session, found, prediction_id)
    # What was read before: that this dossier was made is an entry of its own, a moment later.
    found["reads"] = session.services.get("auditor", f"/v1/predictions/{prediction_id}/reads")["reads"]
    place = out or Path(f"dossier-{prediction_id}")
    bundle.write(bundle.files(found, verified), place)
    page = place if place.suffix == ".zip" else place / "index.html"
    told = {"dossier": str(place), "entries": len(found["entries"]), "verified": verified}
    session.show(
        told,
        Text(f"✓ {place}: {len(found['entries'])} entries with their proofs", style="green"),
        Text(f"→ open {page}; affiant verify {place}", style="dim"),
    )


def _verified(session: Session, found: dict[str, object], prediction_id: str) -> str:
    """What was checked here of the prediction's proof. Raises `Problem` where it does not hold: nothing is written."""
    try:
        key = session.home.log_key.read_text(encoding="utf-8").strip()
    except OSError:
        key = ""
    prediction = found["prediction"]
    assert isinstance(prediction, dict)  # noqa: S101 - for the type checker
    if prediction["record"] is None:
        return "the payload was erased: the leaf and its proof alone"
    verdict = verifying.verdict(prediction, prediction_id, key)
    if not verdict.verifies:
        raise Problem(
            f"the auditor's answer does not verify: {verdict.objection}",
            hint="keep the store as evidence; affiant doctor checks the whole of it",
        )
    return _HOLDS.get(verdict.signature, f"payload → leaf → root; signature {verdict.signature}")
