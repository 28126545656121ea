"""The report as one HTML file: no script, nothing from elsewhere, opens from disk, prints well, light and dark.

`python -m examples.loan.page outcome.json` makes the page anew from a saved outcome.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from examples.loan import charts, denial, words
from examples.loan.markup import Child, Raw, section, tag, together
from examples.loan.outcome import Comparison, Fairness, Group, Outcome, Version
from examples.loan.trials import commands

_STYLE = Path(__file__).with_name("style.css")


def render(outcome: Outcome) -> str:
    """The whole document."""
    style = _STYLE.read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing may be loaded or run, whatever stands in the table's cells.
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", " ".join(("Affiant:", *words.headline(outcome)))),
        tag("style", Raw(style)),
    )
    body = tag(
        "body",
        tag(
            "main", _masthead(outcome), _opening(outcome), _way(outcome), _timeline(outcome), denial.show(outcome),
            _fairness(outcome), _versions(outcome), _table(outcome), _next(outcome), _footer(outcome),
        ),
    )  # fmt: skip
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _masthead(outcome: Outcome) -> Raw:
    when = f"{outcome.began_at[:10]}, {outcome.began_at[11:16]} UTC"
    return tag("div", tag("b", "Affiant"), tag("span", f"Record of a run · {outcome.model} · {when}"), cls="masthead")


def _opening(outcome: Outcome) -> Raw:
    t, table = outcome.totals, outcome.table
    kept = (
        "Every answer was written down before it was given, every denial was explained, and the model was exchanged "
        f"and put back while they applied. All of it in {outcome.seconds:.0f} seconds."
    )
    lead = (
        f"People from {table.source}, whom no model had seen, applied to a model that was registered by one person and "
        f"approved by another. {kept if outcome.kept_every_promise else ''}"
    )
    figures = tag(
        "div",
        _figure(t.sent, "applications sent, all by HTTP"),
        _figure(t.audited, "in the auditor's log", bad=t.audited != t.sent),
        _figure(t.explained, f"of {words.plural(t.denied, 'denial')} explained", bad=t.explained != t.denied),
        _figure(t.missing + t.gaps, "missing", zero=True),
        _figure(t.doubled + t.unknown, "doubled", zero=True),
        cls="figures",
    )
    return together(
        tag("h1", *(tag("span", line) for line in words.headline(outcome))),
        tag("p", lead, cls="lead"),
        _alarm(outcome),
        figures,
    )


def _figure(count: int, title: str, *, zero: bool = False, bad: bool = False) -> Raw:
    bad = bad or (zero and count > 0)
    kind = "bad" if bad else "zero" if zero else None
    return tag("div", tag("div", f"{count:,}", cls="number"), tag("span", title), cls=kind)


def _alarm(outcome: Outcome) -> Raw | None:
    if outcome.kept_every_promise:
        return None
    lines = (tag("li", complaint) for complaint in outcome.complaints)
    return tag("div", tag("b", "Not every promise was kept"), tag("ul", *lines), cls="alarm")


def _way(outcome: Outcome) -> Raw:
    note = "Four services and a model server, each a process and a store of its own, joined by a message bus and HTTP."
    return section("The way of a decision", note, tag("div", charts.flow(outcome), cls="scroll"))


def _timeline(outcome: Outcome) -> Raw:
    t = outcome.totals
    failed = words.plural(t.failed, "request") if t.failed else "No request"
    note = (
        f"Answers in each half second. {failed} failed while the version changed and changed back; "
        "each record says which version answered."
    )
    legend = tag(
        "p",
        *(
            tag("span", tag("i", cls=_colour(v)), f"version {v.number}: {v.kind}, {words.plural(v.answered, 'answer')}")
            for v in outcome.versions
        ),
        cls="legend",
    )
    moments = (
        tag(
            "li",
            tag("span", f"{moment.at:.1f} s", cls="when"),
            tag(
                "span",
                tag("span", _moment(moment.kind, moment.version, moment.who), cls=moment.kind.split()[0]),
                f": {moment.what}" if moment.what else "",
            ),
        )
        for moment in outcome.moments
    )
    picture = tag("div", charts.timeline(outcome.answers, outcome.moments), cls="scroll")
    return section(
        "Who changed what, while people applied",
        note,
        tag("div", legend, picture, tag("ol", *moments, cls="moments"), cls="card"),
    )


def _moment(kind: str, version: int, who: str) -> str:
    match kind:
        case "refused":
            return f"{who} may not promote version {version}, her own"
        case "rolled back":
            return f"{who} rolls back to version {version}"
        case "deployed":
            return f"version {version} is deployed"
        case _:
            return f"{who} {'registers' if kind == 'registered' else 'promotes'} version {version}"


def _colour(version: Version) -> str:
    return "one" if version.number % 2 else "two"


def _fairness(outcome: Outcome) -> Raw:
    if not outcome.fairness:
        return section(
            "Do groups fare alike?", "No protected column is known for this table; name them with --protected."
        )
    note = (
        "Approval rates of the answers in this run, counted by the auditor and counted again by this program. "
        f"The model {'sees' if outcome.table.protected_are_inputs else 'does not see'} these columns; others can speak "
        "for them."
    )
    legend = tag(
        "p",
        tag("span", tag("i", cls="one"), "largest group, the reference"),
        tag("span", tag("i", cls="two"), "other groups"),
        tag("span", tag("i", cls="tick"), "the table's own decisions on the same people"),
        tag("span", tag("i", cls="dots"), "four fifths of the reference"),
        cls="legend",
    )
    return section(
        "Do groups fare alike?", note, tag("div", legend, *map(_by_column, outcome.fairness), cls="card"), long=True
    )


def _by_column(fairness: Fairness) -> Raw:
    groups = {group.value: group for group in fairness.groups}
    compared = [_comparison(c, groups[c.value], fairness) for c in fairness.comparisons]
    counted = "counted twice, with the same result" if fairness.recounted else "THE TWO COUNTS DIFFER"
    return tag(
        "div",
        tag(
            "div",
            tag("h3", f"By {fairness.column}"),
            charts.rates(fairness),
            tag("p", counted, cls="note", style="margin:6px 0 0"),
        ),
        tag("div", *compared),
        cls="fair",
    )


def _comparison(comparison: Comparison, group: Group, fairness: Fairness) -> Raw:
    ratio = comparison.impact_ratio
    out = ratio is not None and not 0.8 <= ratio <= 1.25
    cells: list[Child] = [
        tag("span", "statistical parity difference"),
        tag("span", f"{words.signed(comparison.parity_difference)} ± {1.96 * comparison.standard_error:.3f}"),
        tag("span", "disparate impact ratio"),
        tag("span", "none" if ratio is None else f"{ratio:.3f}", cls="alert" if out else None),
    ]
    if comparison.truth is not None:
        cells += [tag("span", "the truth, known for this made table"), tag("span", words.signed(comparison.truth))]
    reading = words.ratio_reading(ratio)
    if group.rows < 30:
        reading += f"; but {words.plural(group.rows, 'decision')} are too few to say much"
    if comparison.truth_because:
        reading += f". What is known: {comparison.truth_because}"
    cells.append(tag("span", f"{reading}.", cls="reading"))
    return tag("dl", tag("dt", f"{comparison.value} beside {fairness.reference}"), tag("dd", *cells))


def _versions(outcome: Outcome) -> Raw:
    note = "Trained on the same people, tried on the same held-out people, checked before anybody could promote them."
    return section("The two versions", note, tag("div", *(_version(v) for v in outcome.versions), cls="versions"))


def _version(version: Version) -> Raw:
    rows: list[tuple[str, Child]] = [
        ("registered by", version.author),
        ("approved by", version.approved_by or "nobody"),
        ("held-out AUC", f"{version.auc:.3f}"),
        ("held-out accuracy", words.percent(version.accuracy, 1)),
        ("denials, held out", words.percent(version.adverse_rate, 1)),
        ("weight of a denial in training", f"× {version.adverse_weight:g}"),
        ("ONNX beside scikit-learn", f"{version.largest_difference:.1e} at most, {version.rows_compared:,} rows"),
        ("answered here", f"{version.answered:,}, of which {version.denied:,} denied"),
        ("SHA-256", tag("span", words.short(version.digest, 16), cls="mono")),
    ]
    table = tag("table", *(tag("tr", tag("th", name), tag("td", text, cls="right")) for name, text in rows))
    checks = (tag("li", f"{'✓' if c.passed else '✗'} {c.name}: {c.detail}") for c in version.checks)
    passed = sum(check.passed for check in version.checks)
    summary = tag("summary", f"{passed} of {len(version.checks)} checks passed before registration")
    title = tag("h3", tag("i", cls=_colour(version)), f"Version {version.number}, {version.kind}")
    return tag("div", title, table, tag("details", summary, tag("ul", *checks)), cls="card")


def _table(outcome: Outcome) -> Raw:
    t = outcome.table
    facts = (
        f"{t.rows:,} decisions in {t.source}, {words.percent(t.adverse_rate, 1)} of them {t.target} = {t.adverse}. "
        f"{t.columns} columns reach the model. {t.held_out:,} people were held out; they are the ones who applied."
    )
    notes = tag("ul", *(tag("li", note) for note in t.notes)) if t.notes else tag("p", "Nothing had to be guessed.")
    seconds = tag(
        "table",
        *(tag("tr", tag("th", step.title), tag("td", f"{step.seconds:.1f} s", cls="right")) for step in outcome.steps),
    )
    return section(
        "The table and the time",
        facts,
        tag(
            "div",
            tag("div", tag("h3", "How the table was read"), notes),
            tag("div", tag("h3", "How long each step took"), seconds),
            cls="two-columns",
        ),
    )


def _next(outcome: Outcome) -> Raw:
    lines = [together(tag("span", f"# {why}\n", cls="why"), command, "\n") for command, why in commands(outcome)]
    note = together(
        "Everything of this run lies in ", tag("code", outcome.home), ": records, proofs, model files, logs."
    )
    return section("What to try next", note, tag("pre", *lines))


def _footer(outcome: Outcome) -> Raw:
    return tag(
        "footer",
        f"Made by python -m examples.loan in {outcome.seconds:.1f} s. Parity difference: rate of the group minus that "
        "of the reference, with its 95 % interval; impact ratio: one by the other. A demonstration, not legal advice.",
    )


def main(arguments: list[str]) -> None:
    """Write the page beside the outcome named on the command line."""
    source = Path(arguments[0])
    outcome = msgspec.json.decode(source.read_bytes(), type=Outcome)
    target = source.with_suffix(".html")
    target.write_text(render(outcome), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
