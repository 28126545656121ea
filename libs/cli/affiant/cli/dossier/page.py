"""The dossier as one HTML file: no script, nothing from elsewhere, opens from disk, prints well, light and dark."""

from __future__ import annotations

from importlib import resources
from itertools import chain

from affiant.cli.dossier import parts
from affiant.cli.dossier.facts import Facts, Json, Row, shown, when
from affiant.cli.dossier.markup import Raw, tag, together


def render(found: Json, verified: str) -> str:
    """The whole document; `verified` says what was checked of the proofs when the dossier was made."""
    of = Facts(found)
    style = resources.files(__package__ or "").joinpath("style.css").read_text(encoding="utf-8")
    # Nothing may be loaded or run, whatever was sent to the model and stands in the cells of this page.
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"Dossier {of.prediction['event_id']}"),
        tag("style", Raw(style)),
    )
    rows = of.rows()
    shown_rows = rows[: parts.MOST_ROWS]
    body = chain(
        [_masthead(of), _opening(of, rows)],
        chain.from_iterable((parts.decision(of, row), parts.why(row), parts.afterwards(row)) for row in shown_rows),
        [
            _rest(rows),
            parts.lineage(of),
            parts.fairness(of),
            parts.completeness(of),
            parts.reads(of),
            parts.proofs(of, verified),
        ],
        [_footer()],
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


def _masthead(of: Facts) -> Raw:
    made = f"Dossier of one decision · made {when(of.found['made_at'])}"
    return tag("div", tag("b", "Affiant"), tag("span", made), cls="masthead")


def _opening(of: Facts, rows: list[Row]) -> Raw:
    record = of.record
    duration = record.get("duration_us")
    facts = [
        ("prediction", tag("span", of.prediction["event_id"], cls="mono")),
        ("subject", record.get("subject_ref")),
        ("caller's request", record.get("request_id")),
        ("took", f"{duration / 1000:.1f} ms" if duration else None),
        ("entry of the log", str(of.prediction["index"])),
    ]
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts if value]
    return together(
        tag("h1", *(tag("span", line) for line in headline(of, rows))),
        tag("p", _lead(of, rows), cls="lead"),
        tag("dl", *listed, cls="strip"),
    )


def headline(of: Facts, rows: list[Row]) -> list[str]:
    """The decision in one or two plain sentences."""
    if not of.record:
        return [f"What {of.version} decided here was erased.", "That it decided, and when, is still proven."]
    if of.record["status"] == "failed":
        return [f"{of.version} gave no answer.", of.record.get("error", "")[:200]]
    if not rows or rows[0].label is None:
        return [f"{of.version} answered; no decision is read from its outputs."]
    if len(rows) > 1:
        adverse = sum(row.adverse is True for row in rows)
        return [f"{of.version} decided {len(rows)} cases at once.", f"{adverse} of them unfavourably."]
    row = rows[0]
    lines = [f"{of.version} decided: {shown(row.label)}."]
    if row.override:
        who = row.override.get("on_behalf_of") or row.override["by"]
        lines.append(f"{who} decided instead: {shown(row.override['decision'])}.")
    return lines


def _lead(of: Facts, rows: list[Row]) -> str:
    said = [f"The request came on {when(of.received_at)}."]
    if gone := of.prediction.get("erased"):
        how = "on request" if gone["rule"] == "request" else "at the end of its retention"
        said.append(
            f"Erased {how} on {when(gone['erased_at'])} by {gone['by']}: {gone['reason']} (entry {gone['index']})."
        )
    if len(rows) == 1 and rows[0].adverse is not None:
        score = "" if rows[0].score is None else f", with a probability of {rows[0].score:.1%} for the favourable class"
        said.append(f"The decision is {rows[0].word} to the person concerned{score}.")
    champion = [one for one in of.found["standing"]["aliases"] if one["version"] == of.found["version"]]
    if champion:
        one = champion[0]
        said.append(f"This version was {one['alias']} since {when(one['since'])}, approved by {one['approved_by']}.")
    if len(rows) == 1 and rows[0].outcome:
        said.append(f"Later it became known: {shown(rows[0].outcome['label'])}.")
    return " ".join(said)


def _rest(rows: list[Row]) -> Raw | None:
    left = len(rows) - parts.MOST_ROWS
    return tag("p", f"{left} more rows are in dossier.json.", cls="note") if left > 0 else None


def _footer() -> Raw:
    said = (
        "Made from the audit log by affiant dossier. dossier.json beside this page holds the same for programs, "
        "log/ the proofs. This page says what is on record; it is no legal advice."
    )
    return tag("footer", tag("p", said))
