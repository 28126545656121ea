"""The section of the page about one denial: why, with what, and where it is sworn."""

from __future__ import annotations

from examples.loan import waterfall, words
from examples.loan.markup import Child, Raw, section, tag, together
from examples.loan.outcome import Case, Outcome, Proof


def show(outcome: Outcome) -> Raw:
    """The section."""
    case = outcome.case
    if case is None:
        return section("One denial, in plain words", "Nobody was denied in this run.")
    when = case.received_at[:19].replace("T", " at ")
    note = together(
        "Prediction ", tag("code", case.prediction_id), f", answered by version {case.version} on {when} UTC."
    )
    picture = _steps(case) if case.waterfall else tag("p", "No SHAP values are on record.")
    return section(
        "One denial, in plain words",
        note,
        tag(
            "div",
            tag("div", tag("div", *_anchor(outcome, case)), tag("figure", picture, style="margin:0"), cls="case"),
            tag(
                "div",
                tag("div", tag("h3", "What was applied with"), _inputs(case)),
                tag("div", tag("h3", "Where it is sworn"), _sworn(case)),
                cls="pair",
            ),
            cls="card",
        ),
        long=True,
    )


def _anchor(outcome: Outcome, case: Case) -> list[Raw]:
    decided = f"{outcome.table.target} = {case.label}"
    anchor = case.anchor
    if anchor is None:
        return [tag("p", "No anchor is on record for this denial.")]
    if not anchor.clauses:
        quote = tag("blockquote", "Whatever the application says, the decision is ", tag("strong", decided), ".")
    else:
        clauses = [tag("em", clause, cls="whole" if len(clause) < 34 else None) for clause in anchor.clauses]
        parts = [part for clause in clauses for part in (Raw(" and "), clause)][1:]
        quote = tag("blockquote", "While ", *parts, ", the decision stays ", tag("strong", decided), ".")
    held = (
        f"In {words.at_least(anchor.precision)} of similar cases the model decides the same, whatever else the "
        f"application says. The condition fits {words.at_least(anchor.coverage)} of the people whom it learned from."
    )
    told = [quote, _meter("precision", anchor.precision), _meter("coverage", anchor.coverage), tag("p", held)]
    if not anchor.success:
        told.append(tag("p", "No condition was found that holds in 95 % of cases; this is the best one.", cls="note"))
    told.append(
        tag(
            "p",
            f"An anchor, found by Alibi with the recorded seed {case.seed}: asked again, it gives the same answer.",
            cls="note",
        )
    )
    return told + [tag("p", warning, cls="note") for warning in case.warnings]


def _meter(title: str, share: float) -> Raw:
    filled = tag("i", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%")
    return tag("div", tag("span", title), tag("b", filled), tag("span", words.at_least(share)), cls="meter")


def _steps(case: Case) -> Raw:
    legend = tag(
        "p",
        tag("span", tag("i", cls="worse-key"), "towards denial"),
        tag("span", tag("i", cls="better-key"), "away from denial"),
        cls="legend",
    )
    title = tag("h3", "How the probability of denial came about")
    assert case.waterfall is not None  # noqa: S101  # the caller looked
    return together(
        title,
        legend,
        waterfall.svg(case.waterfall),
        tag("p", case.waterfall.estimator, cls="note", style="margin-top:16px"),
    )


def _inputs(case: Case) -> Raw:
    named = " ".join(case.anchor.clauses) if case.anchor else ""
    rows = [
        tag(
            "tr",
            tag("th", name),
            tag("td", words.value(value), cls="right"),
            cls="named" if _is_named(name, named) else None,
        )
        for name, value in case.inputs.items()
    ]
    beside = [
        tag("tr", tag("th", f"{name} (not seen by the model)"), tag("td", words.value(value), cls="right"))
        for name, value in case.context.items()
    ]
    return tag("table", *rows, *beside)


def _is_named(column: str, clauses: str) -> bool:
    return column in clauses.replace("=", " ").split()


def _sworn(case: Case) -> Raw:
    lines: list[tuple[str, Child]] = [
        ("decision", f"{case.label} · probability of approval {words.percent(case.score, 1)}"),
        ("model file", words.short(case.digest, 24)),
        (
            "answered by",
            f"{case.replica}, its request no. {case.sequence:,}" if case.replica else f"version {case.version}",
        ),
        ("explained at", f"{case.explained_at[11:19]} UTC" if case.explained_at else "not explained"),
    ]
    proof = _proof_lines(case.proof) if case.proof else [("proof", "none on record")]
    return tag("table", *(tag("tr", tag("th", name), tag("td", text)) for name, text in [*lines, *proof]), cls="facts")


def _proof_lines(proof: Proof) -> list[tuple[str, Child]]:
    walked = "checked here from the payload to the signature" if not proof.objection else proof.objection.upper()
    return [
        (
            "leaf",
            together(
                f"no. {proof.index:,} of {proof.tree_size:,}, ",
                tag("span", words.short(proof.leaf_hash, 24), cls="mono"),
            ),
        ),
        ("proof", f"{words.plural(proof.path_length, 'hash', 'hashes')}; {walked}"),
        ("root", tag("span", words.short(proof.root, 32), cls="mono")),
        ("signed by", proof.origin),
        ("signature", tag("span", words.short(proof.signature, 40), cls="mono")),
    ]
