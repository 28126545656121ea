"""What is on record: lists of predictions by whatever is known of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from affiant.cli.moments import moment
from affiant.cli.references import reference
from affiant.cli.session import Session, command
from affiant.cli.views import predictions as views
from affiant.common.errors import Problem

PANEL = "Predictions"

ModelOption = Annotated[str | None, typer.Option("--model", help="loan, or loan/2 for one version.")]
SinceOption = Annotated[str | None, typer.Option(help="Received from then on: 24h, 7d, 2026-11-23, or a full time.")]
UntilOption = Annotated[str | None, typer.Option(help="Received before then.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "predictions", PANEL)(predictions)
    command(app, "drift", PANEL)(drift)


def predictions(
    session: Session,
    model: ModelOption = None,
    digest: Annotated[str | None, typer.Option(help="sha256:… of the model's file.")] = None,
    request_id: Annotated[str | None, typer.Option(help="The caller's own id of the request.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whom they are about: the request's subject_ref.")] = None,
    adverse: Annotated[bool | None, typer.Option("--adverse/--favourable", help="By how it was decided.")] = None,
    label: Annotated[str | None, typer.Option(help="By the decision, in the model's own word.")] = None,
    status: Annotated[str | None, typer.Option(help="answered or failed.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="A condition on what went in: income<3.5, purpose=car, income= (missing).")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended, as it said.")] = None,
) -> None:
    """List predictions on record, newest first.

      affiant predictions --model loan --adverse --since 24h
      affiant predictions --subject applicant-4711
      affiant predictions --model loan/2 --where "income<3.5" --where purpose=car --label no

    Several conditions must all hold, of the same row of a request. affiant export writes all of them to a file.
    """
    asked = selection(model, digest, request_id, subject, adverse, label, status, where, since, until)
    found = session.services.get("auditor", "/v1/predictions", **asked, limit=limit, cursor=cursor)
    session.show(found, *views.listed(found["predictions"]), *_more(found["next"]))


def drift(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="loan, or loan/2 for one version.")],
    since: Annotated[str, typer.Option(help="Where the window begins: 7d, 2026-11-23, or a full time.")] = "7d",
    until: UntilOption = None,
    reference_since: Annotated[str | None, typer.Option(help="Where the reference begins; the first record.")] = None,
    reference_until: Annotated[str | None, typer.Option(help="Where it ends; where the window begins.")] = None,
) -> None:
    """Show how inputs and scores moved: a window of time beside a reference.

      affiant drift loan --since 7d
      affiant drift loan/2 --since 2026-11-01 --reference-since 2026-09-01 --reference-until 2026-10-01

    PSI: the population stability index (over 0.25 is a change, by a rule of thumb of credit scoring). KS: the
    Kolmogorov-Smirnov distance and its p-value, for numbers. JS: the Jensen-Shannon distance, 0 to 1.
    """
    wanted = reference(model)
    found = session.services.get(
        "auditor",
        "/v1/drift",
        model=wanted.model,
        version=wanted.version,
        since=moment(since),
        until=moment(until),
        reference_since=moment(reference_since),
        reference_until=moment(reference_until),
    )
    session.show(found, *views.drifted(found))


def selection(
    model: str | None,
    digest: str | None,
    request_id: str | None,
    subject: str | None,
    adverse: bool | None,
    label: str | None,
    status: str | None,
    where: list[str] | None,
    since: str | None,
    until: str | None,
) -> dict[str, Any]:
    """What the auditor is asked with. Raises `Problem` for what cannot be meant."""
    if status not in (None, "answered", "failed"):
        raise Problem(f"{status!r} is no status", hint="answered or failed")
    wanted = reference(model) if model else None
    return {
        "model": wanted.model if wanted else None,
        "version": wanted.version if wanted else None,
        "digest": digest,
        "request_id": request_id,
        "subject_ref": subject,
        "adverse": None if adverse is None else str(adverse).lower(),
        "label": label,
        "status": status,
        "where": where or None,
        "since": moment(since),
        "until": moment(until),
    }


def find(session: Session, text: str) -> str | None:
    """The id of the one prediction that has this request id, or is about this subject; None where there is none.

    Raises `Problem` naming the newest where there are several.
    """
    for name in ("request_id", "subject_ref"):
        found = session.services.get("auditor", "/v1/predictions", **{name: text}, limit=20)["predictions"]
        if len(found) == 1:
            return str(found[0]["prediction_id"])
        if found:
            option = "--request-id" if name == "request_id" else "--subject"
            newest = ", ".join(one["prediction_id"] for one in found[:3])
            raise Problem(
                f"{text} stands for several predictions; the newest: {newest}",
                hint=f"affiant predictions {option} {text}",
                status=409,
            )
    return None


def _more(cursor: str | None) -> list[Text]:
    return [Text(f"→ the next page: --cursor {cursor}", style="dim")] if cursor else []
