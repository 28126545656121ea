"""The report at the end of a run, for a terminal or a log."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from examples.loan import words
from examples.loan.outcome import Case, Fairness, Outcome
from examples.loan.trials import commands
from examples.loan.waterfall import bars

BAR_CELLS = 40


def show(outcome: Outcome, console: Console, page: str) -> None:
    """Print everything; `page` is where the HTML page lies."""
    parts: list[RenderableType] = [Text(), Rule(style="dim"), _headline(outcome), Text(), _totals(outcome)]
    if outcome.complaints:
        parts += [Text(f"  ✗ {complaint}", style="bold red") for complaint in outcome.complaints]
    if outcome.case:
        parts += [_title("One denial, in plain words"), *_case(outcome, outcome.case)]
    for fairness in outcome.fairness:
        parts += [_title(f"Approved, by {fairness.column}"), _fairness(fairness)]
    parts += [_title("Where it lies"), _places(outcome, page), _title("What to try next"), _next(outcome), Text()]
    console.print(Padding(Group(*parts), (0, 1)), soft_wrap=False, highlight=False)


def _headline(outcome: Outcome) -> Text:
    first, second = words.headline(outcome)
    style = "bold green" if outcome.kept_every_promise else "bold red"
    return Text.assemble(("\n" + first + " ", "bold"), (second, style))


def _title(title: str) -> Text:
    return Text(f"\n{title}", style="bold cyan")


def _totals(outcome: Outcome) -> Table:
    t = outcome.totals
    figures = [
        (t.sent, "sent", True),
        (t.audited, "in the record", t.audited == t.sent),
        (t.explained, f"of {words.plural(t.denied, 'denial')} explained", t.explained == t.denied),
        (t.missing + t.gaps, "missing", not t.missing + t.gaps),
        (t.doubled + t.unknown, "doubled", not t.doubled + t.unknown),
        (t.failed, "failed", not t.failed),
    ]
    grid = Table.grid(padding=(0, 4))
    grid.add_row(*(Text(f"{count:,}", style="bold" if good else "bold red") for count, _, good in figures))
    grid.add_row(*(Text(title, style="dim") for _, title, _ in figures))
    return grid


def _case(outcome: Outcome, case: Case) -> list[RenderableType]:
    told: list[RenderableType] = [
        Text(f"prediction {case.prediction_id}, answered by version {case.version}", style="dim")
    ]
    decided = f"{outcome.table.target} = {case.label}"
    if case.anchor:
        condition = " and ".join(case.anchor.clauses)
        sentence = f"While {condition}, the decision stays " if condition else "Whatever is said, the decision is "
        told.append(Text.assemble("\n", sentence, (decided, "bold red"), "."))
        told.append(
            Text(
                f"So it is for {words.at_least(case.anchor.precision)} of similar cases (precision); "
                f"the condition fits {words.at_least(case.anchor.coverage)} of people (coverage).\n",
                style="dim",
            )
        )
    if case.waterfall:
        told.append(_waterfall(case))
    if case.proof:
        proof = case.proof
        verdict = proof.objection or "checked here, from the payload to the signature"
        told.append(
            Text(
                f"\nsworn as leaf {proof.index:,} of {proof.tree_size:,}, root {words.short(proof.root)}, "
                f"signed by {proof.origin}: {verdict}",
                style="bold red" if proof.objection else "dim",
            )
        )
    return told


def _waterfall(case: Case) -> Table:
    """SHAP values as bars from level to level, from the average to this application."""
    assert case.waterfall is not None  # noqa: S101  # the caller looked
    steps = bars(case.waterfall)
    levels = [case.waterfall.baseline, *(step.end for step in steps)]
    low, high = min(levels), max(levels)
    unit = BAR_CELLS / max(high - low, 1e-9)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    start = round((case.waterfall.baseline - low) * unit)
    grid.add_row(
        Text("average", style="dim"), Text(" " * start + "│", style="dim"), Text(words.percent(case.waterfall.baseline))
    )
    for step in steps:
        first, last = sorted((round((step.begin - low) * unit), round((step.end - low) * unit)))
        bar = " " * first + "█" * max(1, last - first)
        worse = step.end >= step.begin
        grid.add_row(
            Text(step.title), Text(bar, style="red" if worse else "green"), Text(words.points(step.end - step.begin))
        )
    end = round((case.waterfall.output - low) * unit)
    grid.add_row(
        Text("this application", style="bold"),
        Text(" " * end + "│", style="bold"),
        Text(words.percent(case.waterfall.output), style="bold"),
    )
    return grid


def _fairness(fairness: Fairness) -> Table:
    compared = {comparison.value: comparison for comparison in fairness.comparisons}
    known = any(comparison.truth is not None for comparison in fairness.comparisons)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in ("", "decisions", "approved", "in the table", "difference", "ratio"):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    if known:
        table.add_column("truth", justify="right", no_wrap=True)
    for group in fairness.groups:
        comparison = compared.get(group.value)
        if comparison is None:
            figures = [Text("reference", style="dim"), Text("")]
        else:
            ratio = comparison.impact_ratio
            out = ratio is not None and not 0.8 <= ratio <= 1.25
            margin = 1.96 * comparison.standard_error
            figures = [
                Text(f"{words.signed(comparison.parity_difference)} ± {margin:.3f}"),
                Text("none" if ratio is None else f"{ratio:.3f}", style="bold red" if out else ""),
            ]
        if known:
            truth = comparison.truth if comparison else None
            figures.append(Text("" if truth is None else words.signed(truth), style="bold"))
        recorded = "" if group.recorded_rate is None else words.percent(group.recorded_rate, 1)
        table.add_row(
            Text(words.clipped(group.value, 20)), Text(f"{group.rows:,}"),
            Text(words.percent(group.rate, 1), style="bold"), Text(recorded, style="dim"), *figures,
        )  # fmt: skip
    return table


def _places(outcome: Outcome, page: str) -> Group:
    """Each path has a line of its own: one that is broken in two cannot be copied."""
    places = (("this report as a page", page), ("records, proofs, models, logs", outcome.home))
    return Group(*(Text.assemble((f"# {what}\n", "dim"), path, overflow="fold") for what, path in places))


def _next(outcome: Outcome) -> Group:
    lines = (Text.assemble((f"# {why}\n", "dim"), command, overflow="fold") for command, why in commands(outcome))
    return Group(*lines)
