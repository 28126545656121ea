"""How predictions, their records and their explanations look."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from affiant.cli import inference
from affiant.cli.inference import Answer, Spec
from affiant.cli.verifying import Verdict
from affiant.cli.views.events import describe
from affiant.cli.views.explanation import anchor, reasons, waterfall, ways_out
from affiant.cli.views.tables import mark, pairs, plain_table, value, when
from affiant.common.events import BY_TYPE, ModelRegistered, type_of


def answers(model: str, found: list[tuple[int, Answer]]) -> list[RenderableType]:
    """One line for each row that was sent."""
    table = plain_table("row", "decision", "score", "answered by", "prediction id", right=("row", "score"))
    for number, one in found:
        score = "–" if one.score is None else f"{one.score:.3f}"
        table.add_row(
            str(number), decision(one.decision, one.adverse), score, f"{model}/{one.version}", one.prediction_id
        )
    hint = f"→ affiant prediction {found[0][1].prediction_id}" if found else ""
    decided = any(one.score is not None for _, one in found)
    score = "score: the probability of the favourable decision"
    none = "registered without --favourable: the outputs are recorded, but no decision is read from them"
    return [table, Text(score if decided else none, style="dim"), Text(hint, style="dim")]


def decision(label: Any, adverse: bool | None) -> Text:
    """The decision in the model's own word, marked by whether it is the one hoped for."""
    if adverse is None:
        return Text("–" if label is None else value(label))
    return mark(f"{value(label)} ({'adverse' if adverse else 'favourable'})", "red" if adverse else "green")


def record(found: dict[str, Any]) -> list[RenderableType]:
    """The whole record of one prediction, for a person."""
    if found["record"] is None:
        return _forgotten(found)
    logged, spec = found["record"], _spec(found)
    views: list[RenderableType] = [_head(found), *_decisions(logged)]
    for row in range(max(len(logged.get("labels", [])), 1) if logged.get("inputs") else 0):
        views += _values(logged, spec, row)
    explanations = [one["event"] for one in found["explanations"] if one["event"]]
    for event in explanations:
        views += [Text(), *explanation(event)]
    if not explanations and logged.get("labels"):
        views.append(Text(f"\nnot explained (yet) → affiant explain {logged['prediction_id']}", style="dim"))
    return [*views, *_afterwards(found), *_lineage(found["lineage"]), *_proof(found)]


def _forgotten(found: dict[str, Any]) -> list[RenderableType]:
    """What is left of a prediction whose payload was erased: that it was made, and by what it was erased."""
    erased = found["erased"]
    facts = pairs(
        ("prediction", Text(found["event_id"], style="bold")),
        ("erased", f"{when(erased['erased_at'])} by {erased['by']}, {erased['rule']}: {erased['reason']}"),
        ("said in", f"entry {erased['index']} of the log"),
    )
    return [facts, *_lineage(found["lineage"]), *_proof(found)]


def listed(found: list[dict[str, Any]]) -> list[RenderableType]:
    """One line for each prediction on record."""
    if not found:
        return [Text("no such prediction is on record", style="dim")]
    table = plain_table(
        "received", "model", "decision", "score", "request", "subject", "prediction id", right=("score",)
    )
    for one in found:
        table.add_row(
            when(one["received_at"]),
            f"{one['model']}/{one['version'] or '?'}",
            _outcome(one),
            ", ".join("–" if score is None else f"{score:.3f}" for score in one["scores"][:3]),
            one["request_id"],
            one["subject_ref"],
            one["prediction_id"],
        )
    return [table]


def drifted(found: dict[str, Any]) -> list[RenderableType]:
    """One line for each column, what moved most first."""
    names = ("column", "rows", "reference", "missing", "PSI", "KS", "p", "JS")
    table = plain_table(*names, right=names[1:])
    lines = found["columns"]
    for line in sorted(lines, key=lambda one: -((one["comparison"] or {}).get("population_stability_index") or 0)):
        figures = line["comparison"] or {}
        shown = ("population_stability_index", "kolmogorov_smirnov", "p_value", "jensen_shannon_distance")
        numbers = ["–" if figures.get(name) is None else f"{figures[name]:.3f}" for name in shown]
        missing = f"{line['missing']} / {line['reference_missing']}"
        table.add_row(line["column"], f"{line['rows']:,}", f"{line['reference_rows']:,}", missing, *numbers)
    window = f"{when(found['since'])} to {when(found['until']) if found['until'] else 'now'}"
    return [table, Text(f"{window}, beside what came before {when(found['reference_until'])}", style="dim")]


def _outcome(one: dict[str, Any]) -> Text:
    if one["status"] == "failed":
        return mark(f"failed: {one['error'][:60]}", "red")
    if one["rows"] > 1:
        return Text(f"{one['rows']} rows" + (f", {one['adverse_rows']} adverse" if one["adverse_rows"] else ""))
    adverse = None if one["adverse_rows"] is None else one["adverse_rows"] > 0
    return decision(one["labels"][0] if one["labels"] else None, adverse)


def verified(verdict: Verdict) -> RenderableType:
    """What was checked here of the proof, or, in red, why it does not hold."""
    if not verdict.verifies:
        advice = "\n→ keep the store as evidence; affiant doctor checks the whole of it"
        return Text(f"✗ DOES NOT VERIFY: {verdict.objection}", style="bold red") + Text(advice, style="cyan")
    if verdict.signature == "verified":
        return Text("✓ verified here: payload → leaf → root → signature", style="green")
    return Text("✓ verified here: payload → leaf → root", style="green") + Text(
        f"\n! signature {verdict.signature}", style="yellow"
    )


def _spec(found: dict[str, Any]) -> Spec | None:
    """The version as it was registered, which names the columns; `None` for a model of another system."""
    registered = (one["event"] for one in found["lineage"] if one["type"] == type_of(ModelRegistered))
    return next((event["spec"] for event in registered if event["version"] == found["record"].get("version")), None)


def _head(found: dict[str, Any]) -> RenderableType:
    logged = found["record"]
    version = "an unknown version" if logged.get("version") is None else f"{logged['model']}/{logged['version']}"
    served = f", as {logged['alias']}" if logged.get("alias") else ""
    return pairs(
        ("prediction", Text(logged["prediction_id"], style="bold")),
        ("model", f"{version if logged.get('version') is not None else logged['model'] + ', ' + version}{served}"),
        ("digest", logged.get("digest")),
        ("received", when(logged["received_at"])),
        ("status", logged["status"] + (f": {logged['error']}" if logged.get("error") else "")),
        ("replica", f"{logged['replica']} #{logged['sequence']}" if logged.get("replica") else None),
        ("source", found.get("source")),
        ("subject", logged.get("subject_ref")),
    )


def _decisions(logged: dict[str, Any]) -> list[RenderableType]:
    labels, scores, adverse = (logged.get(name, []) for name in ("labels", "scores", "adverse"))
    lines: list[RenderableType] = []
    for row, label in enumerate(labels):
        score = f"  score {scores[row]:.3f}" if row < len(scores) else ""
        lines.append(Text() + decision(label, adverse[row] if row < len(adverse) else None) + Text(score))
    return [Text(), *lines] if lines else []


def _values(logged: dict[str, Any], spec: Spec | None, row: int) -> list[RenderableType]:
    cells = inference.cells(spec, logged.get("inputs", []), row)
    beside = inference.cells(None, logged.get("context", []), row)
    lines = [(name, value(found)) for name, found in cells]
    lines += [(f"{name} (not seen by the model)", value(found)) for name, found in beside]
    title = "What went in" if row == 0 else f"What went in, row {row + 1}"
    return [Text(f"\n{title}", style="bold underline"), Padding(pairs(*lines), (0, 0, 0, 2), expand=False)]


def explanation(event: dict[str, Any]) -> list[RenderableType]:
    """An explanation, or why there is none."""
    if "reason" in event:
        return [mark(f"no explanation: {event.get('state', 'failed')}: {event['reason']}", "red")]
    row = f" (row {event['row'] + 1})" if event.get("row") else ""
    views: list[RenderableType] = [Text(f"Why {value(event['explained_label'])}?{row}", style="bold underline")]
    if event.get("reasons"):
        views += [*(Padding(view, (0, 0, 0, 2), expand=False) for view in reasons(event["reasons"])), Text()]
    if event.get("anchor"):
        views += [Padding(view, (0, 0, 0, 2), expand=False) for view in anchor(event["anchor"])]
    if event.get("shap"):
        views += [Text(), Padding(waterfall(event["shap"], event["explained_output"]), (0, 0, 0, 2), expand=False)]
    if event.get("counterfactuals"):
        views += [Text(), Padding(ways_out(event["counterfactuals"]), (0, 0, 0, 2), expand=False)]
    views += [mark(warning, "yellow") for warning in event.get("warnings", [])]
    software = ", ".join(f"{name} {version}" for name, version in event.get("software", {}).items())
    made = f"seed {event['seed']} · {event['background_rows']} background rows · {event['duration_ms']:.0f} ms"
    return [*views, Text(f"{made} · {software}", style="dim")]


def _afterwards(found: dict[str, Any]) -> list[RenderableType]:
    """What became of the decision, and what a person decided instead; what was superseded is marked."""
    told = [
        *_told(found.get("outcomes", []), "outcome", "label", "observed_at"),
        *_told(found.get("overrides", []), "override", "decision", "overridden_at"),
    ]
    if not told:
        return []
    lines = Padding(pairs(*told), (0, 0, 0, 2), expand=False)
    return [Text("\nWhat was said of it afterwards", style="bold underline"), lines]


def _told(found: list[dict[str, Any]], what: str, label: str, at: str) -> list[tuple[str, Text]]:
    # Oldest first: the last one of each row is the one that holds.
    holding = {one["event"].get("row", 0): one["index"] for one in found if one["event"]}
    lines = []
    for one in found:
        event = one["event"]
        if event is None:
            continue
        row = event.get("row", 0)
        holds = holding[row] == one["index"]
        who = f"{event['on_behalf_of']}, told by {event['by']}" if event.get("on_behalf_of") else event["by"]
        why = event.get("reason") or event.get("comment")
        said = f"{value(event[label])}  {when(event[at])}, {who}" + (f": {why}" if why else "")
        text = Text(said if holds else f"{said} (superseded)", style="" if holds else "dim")
        lines.append((what if row == 0 else f"{what}, row {row + 1}", text))
    return lines


def _lineage(found: list[dict[str, Any]]) -> list[RenderableType]:
    """What the registry and the deployer said about this version: who brought it, who approved it."""
    if not found:
        return []
    lines = pairs(*((when(one["time"]), _line(one)) for one in found))
    return [Text("\nHow the model came here", style="bold underline"), Padding(lines, (0, 0, 0, 2), expand=False)]


def _line(one: dict[str, Any]) -> str:
    kind = BY_TYPE.get(one["type"])
    if kind is None:
        return str(one["type"])
    return f"{kind.name.replace('_', ' ')}: {describe(msgspec.convert(one['event'], kind))}"


def _proof(found: dict[str, Any]) -> list[RenderableType]:
    proof = found["proof"]
    signer = proof["verifier_key"].partition("+")[0]
    facts = pairs(
        ("entry", f"{found['index']} of {proof['size']}"),
        ("audited", when(found["audited_at"])),
        ("leaf hash", found["leaf_hash"]),
        ("inclusion proof", f"{len(proof['path'])} hashes up to the root {proof['root']}"),
        ("signed by", signer),
    )
    offline = Text("  --output json holds the whole proof, to verify elsewhere", style="dim")
    return [Text("\nIn the audit log", style="bold underline"), Padding(facts, (0, 0, 0, 2), expand=False), offline]
