"""What became of decisions (`affiant outcome`), and what people decided instead (`affiant override`)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from affiant.cli import references
from affiant.cli.session import Session, command
from affiant.common.errors import NotFound, Problem

PANEL = "Predictions"
AT_ONCE = 500

PredictionId = Annotated[
    str | None, typer.Argument(metavar="PREDICTION-ID", help="As the answer to the request gave it.")
]
Row = Annotated[int, typer.Option(min=1, help="Which row of the request, counted from 1.")]
Behalf = Annotated[str, typer.Option(help="Whose word it is, where you only pass it on.")]
Moment = Annotated[str | None, typer.Option(help="RFC 3339, with a time zone; now where it is left out.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "outcome", PANEL)(outcome)
    command(app, "override", PANEL)(override)


def outcome(
    session: Session,
    prediction_id: PredictionId = None,
    label: Annotated[str | None, typer.Option(help="What it turned out to be, a class of the model.")] = None,
    row: Row = 1,
    observed_at: Moment = None,
    comment: Annotated[str, typer.Option(help="Kept with it.")] = "",
    on_behalf_of: Behalf = "",
    file: Annotated[
        Path | None,
        typer.Option("--csv", help="Columns prediction_id, label; row, observed_at, comment, on_behalf_of."),
    ] = None,
) -> None:
    """Record what became of a decision: the ground truth, known later. It is an entry of the log like the decision.

    A later outcome for the same row supersedes an earlier one; both stay on record.

      affiant outcome 019a2f6e-… --label repaid
      affiant outcome --csv repaid.csv
    """
    if file is not None:
        _in_bulk(session, file, "outcomes", ("label",), ("observed_at", "comment", "on_behalf_of"), prediction_id)
        return
    body = {"label": _given("--label", label), "comment": comment, "observed_at": observed_at}
    _one(session, prediction_id, "outcomes", body | {"on_behalf_of": on_behalf_of}, row)


def override(
    session: Session,
    prediction_id: PredictionId = None,
    decision: Annotated[str | None, typer.Option(help="What is decided instead, a class of the model.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")] = "",
    row: Row = 1,
    overridden_at: Moment = None,
    on_behalf_of: Behalf = "",
    file: Annotated[
        Path | None,
        typer.Option("--csv", help="Columns prediction_id, decision, reason; row, overridden_at, on_behalf_of."),
    ] = None,
) -> None:
    """Record that a person decided otherwise than the model, and why. The model's decision stays on record beside it.

    affiant override 019a2f6e-… --decision approved --reason "income proven by payslips" --as ben
    affiant override --csv reviewed.csv --as ben
    """
    if file is not None:
        optional = ("overridden_at", "on_behalf_of")
        _in_bulk(session, file, "overrides", ("decision", "reason"), optional, prediction_id)
        return
    if not reason.strip():
        raise Problem("an override needs a reason", hint='--reason "income proven by payslips"')
    body = {"decision": _given("--decision", decision), "reason": reason, "overridden_at": overridden_at}
    _one(session, prediction_id, "overrides", body | {"on_behalf_of": on_behalf_of}, row)


def _given(option: str, text: str | None) -> str | int:
    if text is None:
        raise Problem(f"{option} is missing", hint=f"give {option}, or a file with --csv")
    return references.label(text)


def _one(session: Session, prediction_id: str | None, kind: str, body: dict[str, Any], row: int) -> None:
    if prediction_id is None:
        raise Problem("which prediction?", hint="give its id, or a file with --csv")
    body = {name: value for name, value in body.items() if value not in (None, "")} | {"row": row - 1}
    told = session.services.post("auditor", f"/v1/predictions/{prediction_id}/{kind}", body)
    session.show(told, _answer(1, told["audited"]), Text(f"→ affiant prediction {prediction_id}", style="dim"))


def _in_bulk(
    session: Session,
    file: Path,
    kind: str,
    required: tuple[str, ...],
    optional: tuple[str, ...],
    prediction_id: str | None,
) -> None:
    if prediction_id is not None:
        raise Problem("give one prediction's id, or a file with --csv, not both")
    lines = list(_lines(file, ("prediction_id", *required), ("row", *optional)))
    if not lines:
        raise Problem(f"{file} has a header and no line")
    ids: list[str] = []
    audited = True
    for start in range(0, len(lines), AT_ONCE):
        chunk = lines[start : start + AT_ONCE]
        try:
            told = session.services.post("auditor", f"/v1/{kind}", {kind: chunk})
        except Problem as problem:
            # What was taken stays: sending the file again changes nothing but the moment from which its words hold.
            problem.message = f"lines {start + 2} to {start + len(chunk) + 1} of {file}: {problem.message}"
            problem.hint = f"{problem.hint} ({len(ids)} of {len(lines)} were recorded before)".strip()
            raise
        ids += told["event_ids"]
        audited = audited and told["audited"]
        session.note(f"{len(ids)} of {len(lines)}")
    session.show({"event_ids": ids, "audited": audited}, _answer(len(ids), audited))


def _lines(file: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        table = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Problem(f"{file} is not UTF-8 text: {error}", hint="save the CSV file as UTF-8") from error
    header = table.fieldnames or []
    if missing := [name for name in required if name not in header]:
        known = ", ".join((*required, *optional))
        raise Problem(f"{file} has no column {', '.join(missing)}", hint=f"the header may name: {known}")
    for number, line in enumerate(table, start=2):
        given = {name: line[name] for name in (*required, *optional) if line.get(name)}
        if lacking := [name for name in required if name not in given]:
            raise Problem(f"line {number} of {file} has no {', '.join(lacking)}")
        yield given | {name: _cell(file, number, name, given[name]) for name in ("row", "label") if name in given}


def _cell(file: Path, number: int, name: str, text: str) -> str | int:
    if name == "label":
        return references.label(text)
    if not text.isdecimal() or text == "0":
        raise Problem(f"line {number} of {file}: row {text!r} is none", hint="rows are counted from 1")
    return int(text) - 1


def _answer(count: int, audited: bool) -> Text:
    said = f"✓ {count} recorded" + (", and in the audit log" if audited else "; the audit log has it in a moment")
    return Text(said, style="green")
