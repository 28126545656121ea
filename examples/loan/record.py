"""What the auditor says, and whether it agrees with what this program saw. Every count is asked for, none assumed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from math import sqrt
from typing import Any

from examples.loan import dossier
from examples.loan.flow import Flow
from examples.loan.outcome import Answer, Case, Comparison, Fairness, Group, Totals
from examples.loan.progress import Running
from examples.loan.stage import Stage, until

STILL_SECONDS = 120.0
"""How long a count may stand still before the wait is given up (and the report says what is missing): on a busy
machine alibi alone takes half a minute to load."""

PAGE = 500
MISSING = "(missing)"


async def wait_audited(stage: Stage, flow: Flow, step: Running) -> None:
    """Wait until the auditor has as many predictions as were sent, or no longer gets more."""

    async def count() -> int:
        summary = await _summary(stage)
        step.count(summary["predictions"], flow.sent)
        return int(summary["predictions"])

    await _wait(count, flow.sent)


async def wait_explained(stage: Stage, flow: Flow, step: Running) -> None:
    """Wait until every denial is explained (or failed to be), or nothing moves any more."""
    denied = sum(answer.adverse for answer in flow.answers)
    explainer = stage.door("explainer", "iris")

    async def count() -> int:
        queue = await explainer.get("/v1/queue")
        step.say("" if queue["done"] else "the explainer's workers are still loading alibi")
        summary = await _summary(stage)
        done = int(summary["explained"] + summary["explanation_failed"])
        step.count(done, denied)
        return done

    await _wait(count, denied)


async def _wait(count: Callable[[], Awaitable[int]], wanted: int) -> None:
    best, since = -1, time.monotonic()

    async def settled() -> bool:
        nonlocal best, since
        found = await count()
        if found > best:
            best, since = found, time.monotonic()
        return found >= wanted or time.monotonic() - since > STILL_SECONDS

    await until(settled, 900.0, "the record is not complete")


async def _summary(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = await stage.door("auditor", "iris").get("/v1/summary", model=stage.model)
    return found


async def totals(stage: Stage, flow: Flow) -> Totals:
    """What was sent beside what is in the record, compared id by id."""
    summary = await _summary(stage)
    recorded = Counter([str(line["prediction_id"]) async for line in predictions(stage)])
    answered = {answer.prediction_id for answer in flow.answers}
    return Totals(
        sent=flow.sent,
        answered=len(flow.answers),
        failed=len(flow.failures),
        audited=sum(recorded.values()),
        missing=len(answered - recorded.keys()),
        unknown=len(recorded.keys() - answered),
        doubled=sum(times - 1 for times in recorded.values()),
        gaps=int(summary["missing"]),
        denied=sum(answer.adverse for answer in flow.answers),
        explained=int(summary["explained"]),
        explanation_failed=int(summary["explanation_failed"]),
    )


async def predictions(stage: Stage, **query: str | int) -> AsyncIterator[dict[str, Any]]:
    """Every prediction of the model in the record, page by page."""
    auditor, cursor = stage.door("auditor", "iris"), ""
    while True:
        page = await auditor.get("/v1/predictions", model=stage.model, limit=PAGE, cursor=cursor, **query)
        for line in page["predictions"]:
            yield line
        cursor = page["next"] or ""
        if not cursor:
            return


async def fairness(stage: Stage, flow: Flow) -> tuple[Fairness, ...]:
    """Approval rates by each protected column, as the auditor counts them, and counted again here."""
    auditor = stage.door("auditor", "iris")
    found = []
    for column in stage.table.protected.columns:
        told = await auditor.get("/v1/fairness", model=stage.model, column=str(column))
        found.append(_fairness(stage, str(column), told, _count(stage, str(column), flow.answers)))
    return tuple(found)


def _count(stage: Stage, column: str, answers: list[Answer]) -> dict[str, tuple[int, int, int]]:
    """By group: answers, favourable ones, and how many of the same people the table's own decision favoured."""
    groups: dict[str, tuple[int, int, int]] = {}
    values = stage.table.protected[column].to_numpy()[stage.parts.held_out]
    recorded = (stage.table.labels == stage.table.favourable).to_numpy()[stage.parts.held_out]
    for answer in answers:
        group = str(values[answer.row]) or MISSING
        rows, favourable, before = groups.get(group, (0, 0, 0))
        groups[group] = (rows + 1, favourable + (not answer.adverse), before + int(recorded[answer.row]))
    return groups


def _fairness(stage: Stage, column: str, told: dict[str, Any], counted: dict[str, tuple[int, int, int]]) -> Fairness:
    groups = tuple(
        Group(g["value"], g["rows"], g["favourable"], g["rate"], _recorded(counted.get(g["value"])))
        for g in told["groups"]
    )
    by_value = {group.value: group for group in groups}
    truths = {(truth.group, truth.reference): truth for truth in stage.table.truth if truth.column == column}
    reference = str(told["reference"])
    comparisons = []
    for line in told["comparisons"]:
        truth = truths.get((line["value"], reference))
        opposite = truths.get((reference, line["value"]))
        comparisons.append(
            Comparison(
                value=line["value"],
                parity_difference=line["statistical_parity_difference"],
                impact_ratio=line["disparate_impact_ratio"],
                standard_error=_standard_error(by_value[line["value"]], by_value[reference]),
                truth=truth.parity_difference if truth else -opposite.parity_difference if opposite else None,
                truth_because=(truth or opposite).because if truth or opposite else "",  # type: ignore[union-attr]
            )
        )
    same = {g.value: (g.rows, g.favourable) for g in groups} == {v: c[:2] for v, c in counted.items()}
    return Fairness(column, reference, groups, tuple(comparisons), same)


def _recorded(counted: tuple[int, int, int] | None) -> float | None:
    return counted[2] / counted[0] if counted else None


def _standard_error(group: Group, reference: Group) -> float:
    """Of the difference of two independent shares."""
    return sqrt(sum(g.rate * (1 - g.rate) / g.rows for g in (group, reference)))


async def denied_case(stage: Stage) -> Case | None:
    """A denied application to tell of: its anchor holds and is short. None when nobody was denied."""
    auditor = stage.door("auditor", "iris")
    cases = []
    async for line in predictions(stage, adverse="true"):
        found = await auditor.get(f"/v1/predictions/{line['prediction_id']}")
        cases.append(dossier.case(found, stage.table, stage.log_key()))
        if len(cases) == 24:
            break
    return max(cases, key=dossier.tellable) if cases else None


def complaints(totals: Totals, fairness: tuple[Fairness, ...], flow: Flow, case: Case | None) -> list[str]:
    """Every promise that was not kept, in words; none when all is well."""
    proof = case.proof if case else None
    rules = [
        (totals.failed, f"{totals.failed} applications were not answered: {'; '.join(flow.failures[:3])}"),
        (totals.audited != totals.sent, f"{totals.sent} sent, but {totals.audited} in the record"),
        (totals.missing, f"{totals.missing} answered applications are missing from the record"),
        (totals.unknown, f"{totals.unknown} records belong to no answer"),
        (totals.doubled, f"{totals.doubled} records are doubled"),
        (totals.gaps, f"the auditor finds {totals.gaps} numbered requests that were never logged"),
        (totals.explained != totals.denied, f"{totals.denied} denials, but {totals.explained} explained"),
        (case is None and totals.denied, "no denial could be read back from the record"),
        (case and not proof, "the record of the denial shown has no proof"),
        (proof and proof.objection, f"the proof of the denial shown is wrong: {proof and proof.objection}"),
    ]
    wrong = [f"by {f.column}: the auditor counts other groups than were sent" for f in fairness if not f.recounted]
    return [words for broken, words in rules if broken] + wrong
