"""Forgetting: erase payloads, hold them, say how long they are kept; and who was shown them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from affiant.cli.session import Session, command
from affiant.cli.views.tables import plain_table, when
from affiant.common.errors import Problem

PANEL = "Personal data"

Reason = Annotated[str, typer.Option(help="Kept in the log for good: name nobody in it.")]
Subject = Annotated[str | None, typer.Option(help="Whom it is about: the request's subject_ref.")]
Prediction = Annotated[str | None, typer.Option(help="One prediction, by its id.")]
Model = Annotated[str | None, typer.Option(help="A model.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "erase", PANEL)(erase)
    command(app, "hold", PANEL)(hold)
    command(app, "holds", PANEL)(holds)
    command(app, "retention", PANEL)(retention)
    command(app, "reads", PANEL)(reads)


def erase(
    session: Session,
    reason: Reason,
    subject: Subject = None,
    prediction: Prediction = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would erase.")] = False,
) -> None:
    """Erase payloads for good: what went in, what came out, and what was said of it. Every proof stays valid.

      affiant erase --subject applicant-4711 --reason "request under article 17" --dry-run --as omar
      affiant erase --prediction 019a2f6e-… --reason "logged by mistake" --as omar

    Needs the role operator. The record shows by whom, when and why; a legal hold forbids it.
    """
    if (subject is None) == (prediction is None):
        raise Problem("erase what? --subject or --prediction", hint="affiant erase --help")
    body = {"subject": subject, "prediction_id": prediction, "reason": reason, "dry_run": dry_run}
    found = session.services.ask("auditor", "POST", "/v1/erasures", json=body, timeout=600.0).json()
    session.show(found, *_erased(found))


def _erased(found: dict[str, Any]) -> list[Text]:
    many = f"{found['count']:,} predictions ({found['entries']:,} entries with what was said of them)"
    if found["dry_run"]:
        lines = [Text(f"would erase {many}")]
        lines += [Text(f"  {one}", style="dim") for one in found["predictions"][:20]]
        return [*lines, Text("→ without --dry-run it is done, and cannot be undone", style="yellow")]
    said = ", ".join(str(one) for one in found["statements"])
    pending = [Text(f"! {one}", style="yellow") for one in found["pending"]]
    return [Text(f"✓ erased {many}; said in entry {said} of the log", style="green"), *pending]


def hold(
    session: Session,
    reason: Reason,
    lift: Annotated[str | None, typer.Option(help="Lift this hold, by its id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every prediction there is.")] = False,
    model: Model = None,
    subject: Subject = None,
    prediction: Prediction = None,
    since: Annotated[str | None, typer.Option(help="Only what was received from then on (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was received before then.")] = None,
) -> None:
    """Set a legal hold, or lift one: what it covers cannot be erased, by nobody and by no retention class.

      affiant hold --model loan --since 2026-01-01T00:00:00Z --reason "case 7/26" --as iris
      affiant hold --lift 019a2f6e-… --reason "settled" --as iris

    Needs the role auditor: who erases does not lift holds. Both are entries of the log.
    """
    if lift is not None:
        found = session.services.post("auditor", f"/v1/holds/{lift}/lift", {"reason": reason})
        session.show(found, Text(f"✓ hold {lift} is lifted", style="green"))
        return
    given = {"all": "" if everything else None, "model": model, "subject": subject, "prediction": prediction}
    chosen = [(scope, value) for scope, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise Problem("hold what? one of --all, --model, --subject, --prediction", hint="affiant hold --help")
    scope, value = chosen[0]
    body = {"scope": scope, "value": value, "reason": reason, "since": since, "until": until}
    found = session.services.post("auditor", "/v1/holds", body)
    session.show(found, Text(f"✓ held; to lift it: affiant hold --lift {found['hold_id']} --reason …", style="green"))


def holds(session: Session) -> None:
    """List the legal holds in force.

    affiant holds --as iris
    """
    found = session.services.get("auditor", "/v1/holds")
    table = plain_table("hold", "covers", "from", "until", "reason", "set by", "set at")
    for one in found["holds"]:
        covers = f"{one['scope']} {one['value']}".strip()
        since, until = one["since"] or "–", one["until"] or "–"
        table.add_row(one["hold_id"], covers, since, until, one["reason"], one["set_by"], when(one["set_at"]))
    session.show(found, table if found["holds"] else Text("no legal hold is in force", style="dim"))


def retention(
    session: Session,
    model: Model = None,
    tag: Annotated[str | None, typer.Option(help="Versions with this tag: key=value.")] = None,
    days: Annotated[int | None, typer.Option(min=0, help="Keep payloads for so long; 0 for ever.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the class.")] = False,
    reason: Annotated[str, typer.Option(help="Kept in the log for good.")] = "",
) -> None:
    """Show the retention classes, or set one: after so many days the auditor erases the payloads by itself.

      affiant retention
      affiant retention --model loan --days 730 --reason "policy 12" --as omar
      affiant retention --tag sector=retail --remove --reason "merged" --as omar

    A model's own class goes before its versions' tags, those before the setting. What a legal hold covers stays.
    """
    if model is None and tag is None:
        found = session.services.get("auditor", "/v1/retention")
        session.show(found, *_classes(found))
        return
    if (model is None) == (tag is None) or (days is None) != remove or not reason:
        raise Problem(
            "a class needs --model or --tag, --days or --remove, and --reason", hint="affiant retention --help"
        )
    kind: Literal["model", "tag"] = "tag" if model is None else "model"
    body = {"kind": kind, "value": model or tag, "days": days, "reason": reason}
    found = session.services.post("auditor", "/v1/retention", body)
    session.show(found, *_classes(found))


def reads(
    session: Session,
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION-ID", help="Whose payload.")],
) -> None:
    """Show who was shown a prediction's payload, when and how; each is an entry of the log.

    affiant reads 019a2f6e-… --as iris
    """
    found = session.services.get("auditor", f"/v1/predictions/{prediction_id}/reads")
    table = plain_table("when", "by", "how", "entry", right=("entry",))
    for one in found["reads"]:
        table.add_row(when(one["at"]), one["by"], one["how"], str(one["index"]))
    session.show(found, table if found["reads"] else Text("nobody was shown its payload", style="dim"))


def _classes(found: dict[str, Any]) -> list[Any]:
    table = plain_table("class", "kept for", "reason", "set by", "set at")
    for one in found["rules"]:
        name = f"{one['kind']} {one['value']}"
        table.add_row(name, _days(one["days"]), one["reason"], one["set_by"], when(one["set_at"]))
    return [table, Text(f"everything else: {_days(found['default_days'])}", style="dim")]


def _days(days: int) -> str:
    return f"{days:,} days" if days else "ever"
