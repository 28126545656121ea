"""The log from outside: export it, verify it, prove what is in it."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from affiant.cli import cosigning
from affiant.cli.commands.groups import export
from affiant.cli.cosigning import make_notary, read_notary
from affiant.cli.exporting import LogExport, Range
from affiant.cli.session import Session, command
from affiant.common.errors import Problem
from affiant.verify import program
from affiant.verify.program import Unreadable

PANEL = "Proofs"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(export, "log")(export_log)
    command(app, "verify", PANEL)(verify)
    command(app, "proof", PANEL)(proof)
    command(app, "cosign", PANEL)(cosign)


def export_log(
    session: Session,
    out: Annotated[Path, typer.Option(help="A new folder; or one that this command began, to go on.")],
    first: Annotated[int, typer.Option("--from", min=0, help="The first entry, counted from 0.")] = 0,
    last: Annotated[int | None, typer.Option("--to", min=1, help="The entry after the last; all by default.")] = None,
    cosigned: Annotated[bool, typer.Option("--cosigned", help="Up to the newest cosigned checkpoint.")] = False,
) -> None:
    """Write the log, or a part of it, into a folder that stands by itself.

      affiant export log --out audit-2026 --as iris
      affiant verify audit-2026

    The folder has the layout of C2SP tlog-tiles. Called again it goes on where it was, or adds what is new.
    """
    with _progress(session, "exported") as told:
        work = LogExport(session.services, out, Range(first, last), told, cosigned=cosigned)
        found = work.run(_own_key(session))
    many = found.last - found.first
    session.show(
        {"folder": str(out), "origin": found.origin, "size": found.size, "first": found.first, "last": found.last},
        Text(f"{many:,} of {found.size:,} entries of {found.origin} are in {out}"),
        Text(f"→ affiant verify {out}", style="dim"),
    )


class _Told:
    """Progress for people on a terminal; as a function to call, and as a context that shows it."""

    def __init__(self, session: Session, words: str) -> None:
        columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TextColumn("entries"), TimeRemainingColumn())
        quiet = session.json or not session.notes.is_terminal
        self._bar = Progress(*columns, console=session.notes, transient=True, disable=quiet)
        self._task = self._bar.add_task(words, total=None)

    def __enter__(self) -> _Told:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, of: int) -> None:
        self._bar.update(self._task, completed=done, total=of)


def _progress(session: Session, words: str) -> _Told:
    return _Told(session, words)


def verify(
    session: Session,
    folder: Annotated[Path | None, typer.Argument(help="An exported log or a dossier; a zip of one.")] = None,
    key: Annotated[str, typer.Option(help="The log's public key, got on another way than the folder.")] = "",
    witness: Annotated[list[str], typer.Option(help="A checkpoint kept elsewhere, or a folder of them.")] = [],
    require_cosigner: Annotated[list[str], typer.Option(help="The public key of who must have cosigned.")] = [],
    consistency: Annotated[list[str], typer.Option(help="What affiant proof --from --to -o json gave.")] = [],
    complete: Annotated[bool, typer.Option("--complete", help="Fail also where numbers are missing.")] = False,
    older: Annotated[bool, typer.Option("--older", help="The folder is older than the witness's newest.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; one for each processor by default.")] = 0,
    write: Annotated[Path | None, typer.Option(help="Write the verifier itself here, to run it elsewhere.")] = None,
) -> None:
    """Check an exported log, or a dossier, from its bytes to the signed root. Needs no running service.

      affiant verify audit-2026 --witness /mnt/notary/checkpoints
      affiant verify --write affiant_verify.py      that file alone checks it on a machine without Affiant

    It names the first bad entry and checks the rest all the same; exit code 1 where something does not hold.
    """
    if write is not None:
        write.write_text(inspect.getsource(program), encoding="utf-8")
        session.show({"written": str(write)}, Text(f"python {write} FOLDER --key log.vkey"))
    if folder is None:
        if write is None:
            raise Problem("which folder?", hint="affiant verify --help")
        return
    try:
        asked = program.question(
            str(folder), key or _known_key(session, folder), witness, require_cosigner, consistency,
            complete=complete, older=older, jobs=jobs,
        )  # fmt: skip
        with _progress(session, "verified") as told:
            report = program.verify(asked, told)
    except Unreadable as error:
        raise Problem(str(error), hint="affiant export log --help") from error
    session.show(report.as_json(), *[Text(line, style=_style(line)) for line in report.lines()])
    if not report.ok:
        raise typer.Exit(1)


def _style(line: str) -> str:
    return {"✗": "red", "✓": "green", "!": "yellow"}.get(line[:1], "")


def _own_key(session: Session) -> str:
    """The key that goes along with an export, for convenience."""
    path = session.home.log_key
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _known_key(session: Session, folder: Path) -> str:
    """This installation's own key, where the folder is of its log: better than the one that lies in the folder."""
    own = _own_key(session)
    try:
        origin = program.read_note((program.Source(str(folder)).read("checkpoint") or b"").decode()).origin
    except (Unreadable, UnicodeDecodeError):
        return ""
    return own if own.partition("+")[0] == origin else ""


def proof(
    session: Session,
    prediction_id: Annotated[
        str | None, typer.Argument(metavar="[PREDICTION-ID]", help="Prove that it is there.")
    ] = None,
    first: Annotated[int | None, typer.Option("--from", min=1, help="The size of the smaller log.")] = None,
    second: Annotated[int | None, typer.Option("--to", min=1, help="The size of the larger; all by default.")] = None,
) -> None:
    """Prove that a prediction is in the log, or that the log of one size is the beginning of a larger one.

      affiant proof 019a2f6e-… > prediction.tlog-proof
      affiant proof --from 20000 --to 31000 --output json > consistency.json

    The first is written as a C2SP tlog-proof, the second as RFC 9162 has it, in hex.
    """
    if (prediction_id is None) == (first is None):
        raise Problem("prove what? a prediction by its id, or --from and --to by sizes", hint="affiant proof --help")
    if prediction_id is not None:
        found = session.services.get("auditor", f"/v1/predictions/{prediction_id}/proof")
        session.show(found, Text(_tlog_proof(found), end=""))
        return
    found = session.services.get("auditor", "/v1/consistency", first=first, second=second)
    lines = [f"first   {found['first']} {found['first_root']}", f"second  {found['second']} {found['second_root']}"]
    session.show(found, Text("\n".join([*lines, *[f"        {step}" for step in found["proof"]]])))


def _tlog_proof(found: dict[str, Any]) -> str:
    """https://c2sp.org/tlog-proof; the leaf goes along as the extra data that is needed to hash it."""
    from base64 import b64encode

    steps = [b64encode(bytes.fromhex(step)).decode() for step in found["path"]]
    extra = b64encode(found["leaf"].encode()).decode()
    head = ["c2sp.org/tlog-proof@v1", f"extra {extra}", f"index {found['index']}", *steps, ""]
    return "\n".join([*head, found["checkpoint"]])


def cosign(
    session: Session,
    key: Annotated[Path, typer.Option(help="Your own private key; what was seen of the log is kept beside it.")],
    log_key: Annotated[str, typer.Option(help="The log's public key, got on another way.")] = "",
    make: Annotated[str, typer.Option(help="Make a new key under this name: a URL without its scheme.")] = "",
) -> None:
    """Swear to the log's newest checkpoint with a key of your own: that it only grew since you last looked.

      affiant cosign --key notary.pem --make notary.example/affiant
      affiant cosign --key notary.pem --log-key log.vkey --as iris
      affiant verify audit-2026 --require-cosigner notary.pem.vkey

    Nothing is sworn where the log was rolled back or rewritten: exit code 1. Run it at an interval, elsewhere.
    """
    if make:
        made = make_notary(key, make)
        session.show({"verifier_key": made.verifier_key}, Text(made.verifier_key))
        return
    try:
        trusted = program.read_text(log_key) if log_key else _own_key(session)
    except Unreadable as error:
        raise Problem(str(error)) from error
    if not trusted:
        raise Problem("the log's public key is not at hand", hint="--log-key log.vkey")
    found = cosigning.cosign(session.services, read_notary(key), trusted)
    grew = f", {found.size - found.before:,} more than you saw before" if found.before else ""
    words = f"✓ {found.name} swears to {found.size:,} entries of {found.origin}{grew}"
    session.show(asdict(found), Text(words, style="green"))
