"""Predictions: ask a deployed model, look one up, have one explained."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.text import Text

from affiant.cli import inference, references, verifying
from affiant.cli.commands import queue, records
from affiant.cli.inference import Answer, Row, Spec
from affiant.cli.references import Reference, reference
from affiant.cli.session import Session, command
from affiant.cli.views import predictions as views
from affiant.common.errors import NotFound, Problem, Unavailable

PANEL = "Predictions"
FINISHED = frozenset({"done", "failed", "expired"})

PredictionId = Annotated[str, typer.Argument(metavar="PREDICTION-ID", help="As the answer to the request gave it.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "predict", PANEL)(predict)
    command(app, "prediction", PANEL)(prediction)
    command(app, "explain", PANEL)(explain)


def predict(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="loan for the champion, loan/2 for that version.")],
    row: Annotated[str | None, typer.Option(help='One application as JSON: {"income": 40, "purpose": "car"}.')] = None,
    csv: Annotated[Path | None, typer.Option(help="A CSV file with a header: one request for each row.")] = None,
    rows: Annotated[str | None, typer.Option(help="Which rows of the file, counted from 1: 3 or 1-5.")] = None,
) -> None:
    """Ask a deployed model for its decision, as an application would (Open Inference Protocol v2).

      affiant predict loan --row '{"income": 40, "purpose": "car", "race": "a"}'
      affiant predict loan --csv applications.csv --rows 1-5

    Every answer has a prediction id; affiant prediction <id> shows its record.
    """
    chosen = list(_chosen_rows(row, csv, rows))
    target = _Target.find(session, reference(model))
    spec = target.spec(session, str(target.version))
    if row is not None:
        inference.refuse_unknown(spec, chosen[0][1])
    elif ignored := inference.unknown_columns(spec, chosen[0][1]):
        session.note(f"the model has no use for: {', '.join(ignored)}")
    with httpx.Client(base_url=target.url, timeout=30) as client:
        answers = [(number, _ask(session, client, target, given)) for number, given in chosen]
    session.show(
        {"model": target.model, "predictions": [{"row": number} | asdict(found) for number, found in answers]},
        *views.answers(target.model, answers),
    )


class _Target:
    """A deployed model: where it answers, and what its versions are like."""

    def __init__(self, deployment: dict[str, Any]) -> None:
        self.model: str = deployment["model"]
        self.version: int = deployment["version"]
        self.url: str = deployment["url"]
        self._specs: dict[str, Spec] = {}

    @classmethod
    def find(cls, session: Session, wanted: Reference) -> _Target:
        """The deployment that serves what was asked for. Raises `Problem` saying what is served."""
        known = session.services.get("deployer", "/v1/deployments")["deployments"]
        of_model = [one for one in known if one["model"] == wanted.model]
        for one in of_model:
            fits = one["version"] == wanted.version if wanted.version else one["alias"] == "champion"
            if fits and one.get("url"):
                return cls(one)
        served = ", ".join(f"{one['model']}/{one['version']} as {one['alias']} ({one['state']})" for one in of_model)
        raise NotFound(
            f"{wanted} is not deployed" + (f"; deployed: {served}" if served else ""),
            hint=f"affiant deployments; promote it: affiant promote {wanted.model}/{wanted.version or 1} --as ben",
        )

    def spec(self, session: Session, version: str) -> Spec:
        """What a version takes and answers. Versions may change between two requests."""
        if version not in self._specs:
            path = f"/v1/models/{self.model}/versions/{version}"
            self._specs[version] = session.services.get("registry", path)["spec"]
        return self._specs[version]


def _chosen_rows(row: str | None, file: Path | None, which: str | None) -> Iterator[tuple[int, Row]]:
    if (row is None) == (file is None):
        raise Problem("give one application with --row, or a file with --csv", hint="affiant predict --help")
    if row is not None:
        yield 1, _json_row(row)
    elif file is not None:
        table = inference.read_csv(_text(file))
        for place in references.rows(which) if which else range(len(table)):
            if place >= len(table):
                raise Problem(f"{file} has {len(table)} rows; there is no row {place + 1}")
            yield place + 1, table[place]


def _json_row(text: str) -> Row:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Problem(
            f"--row is not JSON: {error}", hint="""such as --row '{"income": 40, "purpose": "car"}'"""
        ) from error
    if not isinstance(found, dict):
        raise Problem("--row must be one JSON object: column names and values")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Problem(f"{file} is not UTF-8 text: {error}", hint="save the CSV file as UTF-8") from error


def _ask(session: Session, client: httpx.Client, target: _Target, row: Row) -> Answer:
    body = inference.request(target.spec(session, str(target.version)), row)
    try:
        response = client.post(f"/v2/models/{target.model}/infer", json=body)
    except httpx.HTTPError as error:
        words = f"{target.model} does not answer at {target.url} ({type(error).__name__})"
        raise Unavailable(words, hint="affiant deployments says how it is") from error
    found = response.json()
    if not response.is_success:
        raise Problem(
            str(found.get("error", found)),
            status=response.status_code,
            hint="affiant doctor" * (response.status_code == 503),
        )
    return inference.answer(target.spec(session, str(found.get("model_version", target.version))), found)


def prediction(session: Session, prediction_id: PredictionId) -> None:
    """Show the record of one prediction: what went in, what came out, why, and its proof.

    The caller's own request id or a subject reference will do where it stands for one prediction. The proof is
    verified here, from the payload's bytes to the signed root; exit code 1 where it does not verify.

    affiant prediction 019a2f6e-…  --as iris
    """
    prediction_id, found = record_of(session, prediction_id)
    verdict = verifying.verdict(found, prediction_id, log_key(session))
    if not verdict.verifies:
        # What is not sworn to is shown to nobody as a record; programs get all of it, to look into.
        session.show(found | {"verified": asdict(verdict)}, views.verified(verdict))
        raise typer.Exit(1)
    session.show(found | {"verified": asdict(verdict)}, *views.record(found), views.verified(verdict))


def record_of(session: Session, text: str) -> tuple[str, dict[str, Any]]:
    """A prediction's id and its record, by that id or by another that stands for one prediction."""
    try:
        return text, _by_id(session, text)
    except Problem as problem:
        if problem.status != 404 or (other := records.find(session, text)) is None:
            raise
        return other, _by_id(session, other)


def _by_id(session: Session, prediction_id: str) -> dict[str, Any]:
    return dict(session.services.get("auditor", f"/v1/predictions/{quote(prediction_id, safe='')}"))


def log_key(session: Session) -> str:
    """The log's public key from the installation's folder, not from the answer that it checks; empty where unknown."""
    try:
        return session.home.log_key.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def explain(
    session: Session,
    prediction_id: PredictionId,
    row: Annotated[int, typer.Option(min=1, help="Which row of the request, counted from 1.")] = 1,
    method: Annotated[
        list[str],
        typer.Option(help="anchor, shap, counterfactual; the first two by default.", callback=references.known_methods),
    ] = [],
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 120.0,
    wait: Annotated[bool, typer.Option(help="Wait for the explanation.")] = True,
    status: Annotated[
        bool, typer.Option("--status", help="Only tell how its explanations stand; ask nothing.")
    ] = False,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which nobody needs it any more.")] = None,
) -> None:
    """Have a prediction explained, wait for it, and show it: an anchor in words, SHAP values as a waterfall.

    affiant explain 019a2f6e-…
    affiant explain 019a2f6e-… --method anchor --no-wait
    affiant explain 019a2f6e-… --method counterfactual
    affiant explain 019a2f6e-… --status
    """
    if status:
        queue.show_status(session, prediction_id)
        return
    asked: dict[str, Any] = {"prediction_id": prediction_id, "row": row - 1}
    if deadline is not None:
        asked["deadline_seconds"] = deadline
    methods = references.names(method)
    state = session.services.post("explainer", "/v1/explanations", asked | ({"methods": methods} if methods else {}))
    if wait:
        state = _finished(session, prediction_id, row - 1, state, timeout)
    if state["state"] in ("failed", "expired"):
        raise Problem(
            f"no explanation: {state['state']}: {state.get('reason') or 'no reason was given'}",
            details={"explanation": state},
        )
    event = state.get("event")
    session.show(
        state,
        *(
            views.explanation(event)
            if event
            else [Text(f"{state['state']}; ask again: affiant explain {prediction_id}")]
        ),
    )


def _finished(session: Session, prediction_id: str, row: int, state: dict[str, Any], timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    shown = ""
    while True:
        if state["state"] != shown:
            shown = state["state"]
            session.note(f"{shown}…" if shown not in FINISHED else shown)
        if shown in FINISHED and (shown != "done" or state.get("event")):
            return state
        if time.monotonic() > deadline:
            raise Problem(
                f"not explained within {timeout:g} s: it is {shown}",
                status=504,
                hint="it goes on; ask again, or --timeout 600",
            )
        time.sleep(0.2)
        found = session.services.get("explainer", f"/v1/explanations/{prediction_id}")["explanations"]
        state = next((one for one in found if one["row"] == row), state)
