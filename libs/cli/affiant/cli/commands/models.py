"""Models and their versions: register, promote, roll back, retire; who did what, and when."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from affiant.cli.references import Reference, key_values, known_methods, label, names, reference, ways
from affiant.cli.session import Session, command
from affiant.cli.views import models as views
from affiant.common.errors import NotFound, Problem
from affiant.common.events import ALIASES

PANEL = "Models"
REGISTER_TIMEOUT_SECONDS = 300.0
"""A registration checks the model in a child process with limits of its own, and loads it."""

Version = Annotated[str, typer.Argument(metavar="MODEL/VERSION", help="Such as loan/2.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Such as loan.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; it is kept for ever.")]
AliasOption = Annotated[str, typer.Option("--alias", help=f"{' or '.join(ALIASES)}.")]


Audit = Literal["acked", "buffered"]
When = Literal["adverse", "all", "none"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "register", PANEL)(register)
    command(app, "models", PANEL)(models)
    command(app, "promote", PANEL)(promote)
    command(app, "rollback", PANEL)(rollback)
    command(app, "deprecate", PANEL)(deprecate)
    command(app, "archive", PANEL)(archive)
    command(app, "history", PANEL)(history)
    command(app, "champion", PANEL)(champion)
    command(app, "deployments", PANEL)(deployments)


def register(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model, in ONNX.")],
    name: Annotated[str, typer.Option(help="The model's name; a known name gets a new version.")],
    background: Annotated[
        Path | None, typer.Option(help="CSV with a header: rows that explanations compare with, 100 or more.")
    ] = None,
    favourable: Annotated[str | None, typer.Option(help="The label that an applicant hopes for.")] = None,
    protected: Annotated[list[str], typer.Option(help="Protected columns, such as race; repeat, or use commas.")] = [],
    tag: Annotated[list[str], typer.Option(help="key=value; repeat.")] = [],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    columns: Annotated[list[str], typer.Option(help="The columns of a single matrix input, in their order.")] = [],
    classes: Annotated[list[str], typer.Option(help="The labels, in the order of the probabilities.")] = [],
    label_output: Annotated[str | None, typer.Option(help="The output with the label, where it is not clear.")] = None,
    probability_output: Annotated[str | None, typer.Option(help="The output with the probabilities.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of a regression: values from here up are `above` (see --favourable).")
    ] = None,
    value_output: Annotated[str | None, typer.Option(help="A regression's output, where it is not clear.")] = None,
    audit: Annotated[Audit, typer.Option(help="acked: no answer before its record is durable; or buffered.")] = "acked",
    explain: Annotated[When, typer.Option(help="Which predictions are explained: adverse, all or none.")] = "adverse",
    explain_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Which share of those.")] = 1.0,
    method: Annotated[
        list[str], typer.Option(help="anchor, shap, counterfactual; the first two by default.", callback=known_methods)
    ] = [],
    reasons: Annotated[
        Path | None, typer.Option(help="YAML: the words in which each column is named as a reason of a denial.")
    ] = None,
    immutable: Annotated[
        list[str], typer.Option(help="Columns that no counterfactual may change; protected ones never change.")
    ] = [],
    one_way: Annotated[
        list[str], typer.Option(help="column=increase or =decrease: what a counterfactual may do.")
    ] = [],
) -> None:
    """Register a model version. It is checked first; a refused one says which check failed and why.

      affiant register loan.onnx --name loan --background train.csv \\
        --favourable approved --protected race

    The background is a sample of the training rows, with the same columns as the model. With --reasons a denial is
    also told in words (affiant letter):

      columns:
        income: The income is low
        debt: {text: The existing debt, above: The existing debt is high}

    Next: another person promotes it, and with it these words.
    """
    methods = {"methods": names(method)} if method else {}
    limits = {"immutable": names(immutable), "one_way": ways(one_way)}
    policy = {"audit": audit, "explain": {"when": explain, "rate": explain_rate} | methods | limits}
    manifest = {
        "description": description,
        "tags": key_values(tag),
        "columns": names(columns),
        "protected": names(protected),
        "favourable": None if favourable is None else label(favourable),
        "label_output": label_output,
        "probability_output": probability_output,
        "value_output": value_output,
        "threshold": threshold,
        "classes": [label(text) for text in names(classes)],
        "policy": policy,
        "reasons": "" if reasons is None else _words(reasons),
    }
    version = _upload(session, reference(name), file, background, manifest)
    session.show(version, *views.registered(version))


def _upload(session: Session, model: Reference, file: Path, background: Path | None, manifest: dict[str, Any]) -> Any:
    files = {"model": (file.name, _bytes(file), "application/octet-stream")}
    if background is not None:
        files["background"] = (background.name, _bytes(background), "text/csv")
    given = {key: value for key, value in manifest.items() if value not in (None, [], {}, "")}
    session.note(f"checking {file.name}…")
    answer = session.services.ask(
        "registry",
        "POST",
        f"/v1/models/{model.model}/versions",
        files=files,
        data={"manifest": json.dumps(given)},
        timeout=REGISTER_TIMEOUT_SECONDS,
    )
    return answer.json()


def _words(file: Path) -> str:
    try:
        return _bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(f"{file} is not UTF-8 text: {error}", hint="save the table of reasons as UTF-8") from error


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error


def models(session: Session, which: Annotated[str | None, typer.Argument(metavar="MODEL[/VERSION]")] = None) -> None:
    """List the models, one model's versions, or everything about one version.

    affiant models
    affiant models loan
    affiant models loan/2
    """
    if which is None:
        found = session.services.get("registry", "/v1/models")
        session.show(found, views.model_list(found["models"]))
        return
    wanted = reference(which)
    if wanted.version is None:
        found = session.services.get("registry", f"/v1/models/{wanted.model}")
        session.show(found, *views.versions(found))
    else:
        found = session.services.get("registry", wanted.path)
        session.show(found, *views.version(found))


def promote(
    session: Session,
    version: Version,
    alias: AliasOption = "",
    reason: Reason = "",
    traffic: Annotated[
        int | None,
        typer.Option(min=0, max=100, help="Percentage of the champion's requests; 100 makes it the champion."),
    ] = None,
) -> None:
    """Approve a version: the alias points to it from now on, and the deployer serves it.

    The author of a version may not approve it; another person with the role approver must. With --traffic the version
    is the challenger and answers that part of the requests to the champion's address, until 100 makes it the champion.

      affiant promote loan/2 --reason "better on thin files" --as ben
      affiant promote loan/2 --alias challenger --as ben
      affiant promote loan/2 --traffic 10 --as ben
    """
    wanted = reference(version)
    share = None if traffic == 100 else traffic
    alias = alias or ("champion" if share is None else "challenger")
    if share:
        _check_shares(session)
    body = {"alias": alias} | ({"reason": reason} if reason else {}) | ({} if share is None else {"traffic": share})
    before = session.services.get("registry", wanted.path)
    done = session.services.post("registry", f"{wanted.path}/promote", body)
    if share and done.get("traffic") == share:
        said = f"{wanted} is the challenger with {share} % of the champion's requests; affiant deployments shows it"
    elif alias in before.get("aliases", []) and before.get("traffic", 0) == done.get("traffic", 0):
        said = f"{wanted} was the {alias} already: nothing was changed, and nothing was written into the history"
    else:
        said = f"{wanted} is the {alias} now; affiant deployments shows when it answers"
    session.show(done, Text(said))


def _check_shares(session: Session) -> None:
    """Before anything is promised: whether the deployer can keep it."""
    found = session.services.get("deployer", "/v1/deployments")
    if found.get("no_shares"):
        raise Problem(found["no_shares"], hint="--alias challenger serves it beside the champion, without a share")


def rollback(session: Session, model: Model, alias: AliasOption = "champion", reason: Reason = "") -> None:
    """Give the alias back to the version that had it before; while a challenger has a share, take that away.

    affiant rollback loan --reason "too many denials" --as ben
    """
    wanted = reference(model)
    body = {"alias": alias} | ({"reason": reason} if reason else {})
    before = session.services.get("registry", f"/v1/models/{wanted.model}")
    done = session.services.post("registry", f"/v1/models/{wanted.model}/rollback", body)
    sharing = [one["version"] for one in before.get("versions", []) if one.get("traffic")]
    if alias == "champion" and sharing and done["version"] == before["aliases"].get("champion"):
        said = f"{wanted.model}/{done['version']} answers every request again; {sharing[0]} has no share any more"
    else:
        said = f"{wanted.model}/{done['version']} is the {alias} again"
    session.show(done, Text(said))


def deprecate(session: Session, version: Version, reason: Reason = "") -> None:
    """Mark a version as no longer to be chosen; where it serves, it goes on serving.

    affiant deprecate loan/1 --reason "older tariff" --as ben
    """
    wanted = reference(version)
    done = session.services.post("registry", f"{wanted.path}/deprecate", {"reason": reason} if reason else {})
    session.show(done, Text(f"{wanted} is deprecated"))


def archive(
    session: Session,
    version: Version,
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="The champion too: nothing serves the model then.")] = False,
) -> None:
    """Take a version out of use: its aliases are removed and it is not served any more. Its records stay.

    affiant archive loan/1 --reason "retired" --as ben
    """
    wanted = reference(version)
    body = ({"reason": reason} if reason else {}) | ({"force": True} if force else {})
    done = session.services.post("registry", f"{wanted.path}/archive", body)
    session.show(done, Text(f"{wanted} is archived"))


def history(
    session: Session,
    model: Model,
    at: Annotated[str | None, typer.Option(help="What stood at a time, such as 2026-11-24T14:03.")] = None,
) -> None:
    """Who changed what, when and why; oldest first.

      affiant history loan
      affiant history loan --at 2026-11-24T14:03

    With --at the auditor answers, from the events of its log alone: which version was champion and challenger at that
    moment, by whose word, what answered requests, and which versions there were.
    """
    if at is not None:
        stood = session.services.get("auditor", f"/v1/history/{reference(model).model}", at=_moment(at))
        session.show(stood, *views.standing(stood))
        return
    found = session.services.get("registry", f"/v1/models/{reference(model).model}/history")
    session.show(found, views.history(found["history"]))


def champion(
    session: Session,
    model: Model,
    at: Annotated[str | None, typer.Option(help="A time, such as 2026-11-03 or 2026-11-03T09:30:00Z.")] = None,
    alias: AliasOption = "champion",
) -> None:
    """Which version was the champion at a given time (now, where none is given).

    affiant champion loan --at 2026-11-03T09:30:00Z
    """
    moment = _moment(at) if at else None
    path = f"/v1/models/{reference(model).model}/champion"
    found = session.services.get("registry", path, at=moment, alias=alias)
    session.show(found, *views.champion(found, at))


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(f"{text!r} is no time", hint="such as 2026-11-03 or 2026-11-03T09:30:00Z") from error
    # A time without a zone is meant as the clock on the wall here.
    return moment.astimezone().isoformat()


def deployments(session: Session) -> None:
    """What is served, by which process, at which address.

    affiant deployments
    """
    found = session.services.get("deployer", "/v1/deployments")
    session.show(found, views.deployments(found["deployments"]))
