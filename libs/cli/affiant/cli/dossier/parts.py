"""The sections of the page."""

from __future__ import annotations

import msgspec

from affiant import plots
from affiant.cli.dossier.facts import Facts, Json, Row, percent, shown, signed, when
from affiant.cli.dossier.markup import Child, Raw, facts, section, table, tag, together
from affiant.cli.views.events import describe
from affiant.common.events import BY_TYPE, Shap

MOST_ROWS = 20
"""Rows of a request that the page shows; the data beside it has all."""


def decision(of: Facts, row: Row) -> Raw:
    """What went into one row and what came out."""
    title = "What went in, and what came out" + (f": row {row.number + 1}" if row.number else "")
    seen = [(name, shown(value)) for name, value in row.seen]
    beside = [(name, shown(value)) for name, value in row.beside]
    protected = set((of.spec or {}).get("protected", []))
    rows: list[tuple[Child, ...]] = [(_named(name, "protected" * (name in protected)), value) for name, value in seen]
    rows += [(_named(name, "protected; the model does not see it"), value) for name, value in beside]
    score = "" if row.score is None else f"{row.score:.4f}"
    out = facts(
        ("decision", shown(row.label) if row.label is not None else None),
        ("reading", row.word),
        ("score", f"{score} (probability of the favourable class)" if score else None),
    )
    inputs = table(("column", "value"), rows) if rows else tag("p", "nothing that could be read", cls="note")
    return section(title, None, tag("div", tag("div", inputs), tag("div", out), cls="pair"), cls="long")


def _named(name: str, remark: str) -> Raw:
    return together(name, tag("small", remark) if remark else None)


def why(row: Row) -> Raw | None:
    """The explanation, or why there is none; None where none was asked for."""
    event = row.explanation
    if event is None and row.failure is None:
        return None
    title = "Why" + (f": row {row.number + 1}" if row.number else "")
    if event is None:
        failure: Json = row.failure or {}
        return section(title, f"No explanation: {failure.get('state')}: {failure.get('reason')}")
    note = (
        f"Computed {when(event['explained_at'])} against {event['background_rows']} background rows with the recorded "
        f"seed {event['seed']}. An explanation is a reading of the model, not the model itself."
    )
    warnings = [tag("p", f"! {warning}", cls="warning") for warning in event.get("warnings", [])]
    return section(title, note, _anchor(event), _shap(event), _reasons(event), _ways_out(event), *warnings)


def _anchor(event: Json) -> Raw | None:
    anchor = event.get("anchor")
    if not anchor:
        return None
    held = f"Precision {percent(anchor['precision'])}; covers {percent(anchor['coverage'])} of the background."
    if not anchor["success"]:
        held += f" No anchor reached {percent(anchor['threshold'], 0)}: this is the best one found."
    sentence = anchor.get("sentence") or " and ".join(anchor["clauses"])
    return together(tag("blockquote", sentence), tag("p", held, cls="note"))


def _shap(event: Json) -> Raw | None:
    if not event.get("shap"):
        return None
    shap = msgspec.convert(event["shap"], Shap)
    # The picture escapes what it shows by itself.
    picture = Raw(plots.waterfall(shap, event["explained_output"]))
    caption = (
        "How each column moved the output from its average over the background (SHAP values, "
        f"{shap.estimator}; they miss the output by {abs(shap.additivity_error):.1e})."
    )
    return tag("figure", picture, tag("figcaption", caption))


def _reasons(event: Json) -> Raw | None:
    """The principal reasons in the words that were reviewed, what trying them on the model gave, and any objection."""
    found = event.get("reasons")
    if not found:
        return None
    items = [
        tag("li", one["text"], tag("small", f"{one['column']} = {shown(one.get('value'))}")) for one in found["reasons"]
    ]
    tried = (
        f"Against the baseline of {found['baseline']}. Tried on the model: with the baseline's values in these columns "
        f"the score goes from {found['score_before']:.3f} to {found['score_after']:.3f}, and "
        f"{percent(found['decision_changes'], 0)} of such cases are decided favourably."
    )
    objection = found.get("objection")
    return together(
        tag("h3", "Principal reasons"),
        tag("ol", *items),
        tag("p", tried, cls="note"),
        tag("p", f"! Not to be told as they stand: {objection}", cls="warning") if objection else None,
    )


def _ways_out(event: Json) -> Raw | None:
    ways = event.get("counterfactuals")
    if not ways:
        return None
    items = [tag("li", way["sentence"]) for way in ways]
    return together(tag("h3", "What would have led to another decision"), tag("ol", *items))


def afterwards(row: Row) -> Raw | None:
    """What became of it, and what a person decided instead."""
    if not row.outcome and not row.override:
        return None
    lines: list[tuple[str, Child]] = []
    if row.override:
        said = row.override
        lines += [("decided instead", shown(said["decision"])), ("because", said["reason"]), *_who("overridden", said)]
    if row.outcome:
        said = row.outcome
        lines += [("what became of it", shown(said["label"])), ("note", said.get("comment")), *_who("observed", said)]
    title = "Afterwards" + (f": row {row.number + 1}" if row.number else "")
    note = "Said after the decision and kept beside it; the model's own decision is not changed."
    return section(title, note, facts(*lines))


def _who(verb: str, said: Json) -> list[tuple[str, Child]]:
    by = f"{said['on_behalf_of']}, told by {said['by']}" if said.get("on_behalf_of") else said["by"]
    before = f", supersedes {said['superseded']} earlier" if said["superseded"] else ""
    return [(verb, f"{when(said[f'{verb}_at'])}, by {by} (entry {said['entry']}{before})")]


def lineage(of: Facts) -> Raw:
    """The version that answered, and who had approved it, as of that moment."""
    title = "The model, as of that moment"
    if of.registered is None:
        said = f"{of.model} was never registered here: another system made this decision."
        return section(title, said, facts(("source", of.prediction["source"]), ("digest", of.record.get("digest"))))
    entry, event = of.registered
    spec, moment = event["spec"], of.received_at
    checks = event.get("checks", [])
    passed = sum(check["passed"] for check in checks)
    about = facts(
        ("version", of.version),
        ("file", tag("span", spec["digest"], cls="mono")),
        ("author", spec["author"]),
        ("registered", f"{when(event['registered_at'])} (entry {entry})"),
        ("described as", spec.get("description")),
        ("background data", tag("span", spec.get("background_digest") or "none", cls="mono")),
        ("checks", f"{passed} of {len(checks)} passed"),
        ("computed by", of.record.get("runtime")),
        ("answered by", _replica(of.record)),
    )
    items = [
        tag("li", f"{'✓' if check['passed'] else '✗'} {check['name']}: {check['detail']}", cls=None) for check in checks
    ]
    checked = tag("div", tag("h3", "Checks before registration"), tag("ul", *items, cls="plain"))
    note = f"What stood on {when(moment)}, by the events in the log up to then."
    whole = (tag("div", about, checked, cls="pair"), tag("h3", "Who had approved what"), _approvals(of), _later(of))
    return section(title, note, *whole, cls="long")


def _replica(record: Json) -> str | None:
    if not record.get("replica"):
        return None
    return f"{record['replica']}, request {record.get('sequence')}, as {record.get('alias') or 'no alias'}"


def _approvals(of: Facts) -> Raw:
    model = of.model
    rows: list[tuple[Child, ...]] = [
        (
            one["alias"] + (f", {one['traffic']} % of the requests" if one["traffic"] else ""),
            f"{model}/{one['version']}",
            one["approved_by"] + (f" (moved by {one['by']}: rollback)" if one["rollback"] else ""),
            when(one["since"]),
            one["reason"] or "–",
            one["entry"],
        )
        for one in of.found["standing"]["aliases"]
    ]
    if not rows:
        return tag("p", "No version had been promoted at that moment.", cls="warning")
    return table(("alias", "version", "approved by", "since", "why", "entry"), rows, frozenset({5}))


def _later(of: Facts) -> Raw | None:
    later = of.later()
    if not later:
        return None
    items = [tag("li", f"{when(at)}: {_told(line)} (entry {line['index']})") for at, line in later]
    summary = tag("summary", "What happened to this version after the decision")
    return tag("details", summary, tag("ul", *items))


def _told(line: Json) -> str:
    kind = BY_TYPE.get(line["type"])
    if kind is None:
        return str(line["type"])
    return f"{kind.name.replace('_', ' ')}: {describe(msgspec.convert(line['event'], kind))}"


def fairness(of: Facts) -> Raw | None:
    """Group figures of that day, by protected column."""
    found = of.found["fairness"]
    if not found:
        return None
    note = (
        f"Decisions of {of.model} on {of.received_at[:10]} (UTC), by group. Statistical parity "
        "difference and disparate impact ratio are beside the reference group; below 0.8 is the four-fifths rule of "
        "the US Uniform Guidelines (29 CFR 1607.4 D)."
    )
    caveats = dict.fromkeys(one["errors"]["caveat"] for one in found if one["errors"]["groups"])
    warnings = [tag("p", f"! {caveat}", cls="warning") for caveat in caveats if caveat]
    return section("Did groups fare alike that day?", note, *map(_by_column, found), *warnings, cls="long")


def _by_column(one: Json) -> Raw:
    beside = {each["value"]: each for each in one["comparisons"]}
    rates = {each["value"]: each for each in one["errors"]["groups"]}
    errors = {each["value"]: each for each in one["errors"]["comparisons"]}
    rows: list[tuple[Child, ...]] = []
    for group in one["groups"]:
        value = group["value"]
        ratio = beside.get(value, {}).get("disparate_impact_ratio")
        low = ratio is not None and ratio < 0.8
        cells: list[Child] = [
            value + (" (reference)" if value == one["reference"] else ""),
            group["rows"],
            percent(group["rate"]),
            signed(beside.get(value, {}).get("statistical_parity_difference")),
            tag("b", f"{ratio:.3f} !", cls="alert") if low else "–" if ratio is None else f"{ratio:.3f}",
        ]
        if rates:
            cells += [
                percent(rates.get(value, {}).get("true_positive_rate")),
                signed(errors.get(value, {}).get("equal_opportunity_difference")),
            ]
        rows.append(tuple(cells))
    heads: tuple[str, ...] = ("group", "decisions", "favourable", "parity difference", "impact ratio")
    if rates:
        heads += ("true positive rate", "equal opportunity difference")
    return together(tag("h3", f"By {one['column']}"), table(heads, rows, frozenset(range(1, len(heads)))))


def completeness(of: Facts) -> Raw:
    """Whether everything of that day was recorded."""
    found = of.found["completeness"]
    of_whom = f"{of.model} on {found['day']} (UTC)"
    if found["complete"]:
        said = f"Everything that was served of {of_whom} is on record: {found['served']:,} requests."
    else:
        said = (
            f"Of {found['served']:,} requests to {of_whom}, {found['missing']:,} never arrived in the log and "
            f"{found['removed']:,} were removed from the store."
        )
    if found["open_ends"]:
        said += f" {found['open_ends']} replicas ended without saying how many they had numbered."
    return section("Was everything recorded that day?", tag("span", said, cls=None if found["complete"] else "alert"))


def reads(of: Facts) -> Raw | None:
    """Who had been shown the content before this dossier was made; these entries have no proof here."""
    found = of.found.get("reads")
    if not found:
        return None
    rows: list[tuple[Child, ...]] = [(one["by"], one["how"], when(one["at"]), one["index"]) for one in found]
    note = "Every read of a personal payload is an entry of the log; these are not among those proven below."
    return section("Who has read it", note, table(("who", "how", "when", "entry"), rows, frozenset({3})), cls="long")


def proofs(of: Facts, verified: str) -> Raw:
    """What is sworn to, and how to check it without us."""
    prediction, proof = of.prediction, of.prediction["proof"]
    note = (
        "Each entry of the log is a leaf of a Merkle tree (RFC 6962) that commits to the stored bytes; the root is "
        "signed. Every statement on this page comes from the entries below; each has its proof in log/entries.jsonl."
    )
    about = facts(
        ("entry", f"{prediction['index']} of {proof['size']:,}"),
        ("in the log since", when(prediction["audited_at"])),
        ("leaf hash", tag("span", prediction["leaf_hash"], cls="mono")),
        ("root", tag("span", proof["root"], cls="mono")),
        ("signed by", proof["verifier_key"].partition("+")[0]),
        ("verified when this was made", verified),
    )
    rows: list[tuple[Child, ...]] = []
    for one in of.found["entries"]:
        leaf = msgspec.json.decode(one["leaf"], type=dict[str, str | int])
        rows.append((one["index"], str(leaf["type"]), str(leaf["audited_at"]), str(leaf["source"])))
    steps = tag(
        "pre",
        "affiant verify .                            # in this folder, or with the zip's name\n"
        "python affiant_verify.py . --key log.vkey   # without Affiant; affiant verify --write makes the file",
    )
    advice = (
        "Get the public key (log.vkey) and, if you can, a newer checkpoint on another way than this dossier: "
        "whoever could forge the log could forge the key beside it."
    )
    entries = tag(
        "details",
        tag("summary", f"The {len(rows)} entries that this page rests on"),
        table(("entry", "what", "in the log since", "source"), rows, frozenset({0})),
    )
    return section(
        "Proof",
        note,
        about,
        tag("h3", "The checkpoint"),
        tag("pre", proof["checkpoint"]),
        tag("h3", "How to verify"),
        steps,
        tag("p", advice, cls="note"),
        entries,
        cls="long",
    )
