"""How models, versions, histories and deployments look."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from affiant.cli.views.tables import ago, exactly, mark, pairs, plain_table, when
from affiant.common.events import ALIASES

_STATES = {"serving": "green", "registered": "green", "failed": "red", "archived": "red", "deprecated": "yellow"}


def registered(view: dict[str, Any]) -> list[RenderableType]:
    """What a new version is told to be, the checks that it passed, and what comes next."""
    name = f"{view['model']}/{view['version']}"
    next_step = f"→ another person approves it: affiant promote {name} --reason … --as ben"
    title = Text(f"{name} is registered", style="bold green")
    return [title, *checks(view), *_warnings(view), Text(next_step, style="dim")]


def _warnings(view: dict[str, Any]) -> list[RenderableType]:
    """A protected column among the model's own is allowed, and worth a second look."""
    protected = set(view["spec"].get("protected", []))
    seen = ", ".join(one["name"] for one in view["spec"]["columns"] if one["name"] in protected)
    if not seen:
        return []
    said = f"the model SEES the protected {'columns' if ',' in seen else 'column'} {seen}: is that meant?"
    return [Text("! ", style="bold yellow") + Text(said, style="yellow")]


def checks(view: dict[str, Any]) -> list[RenderableType]:
    """One line for each check."""
    return [
        (Text("  ✓ ", "green") if one["passed"] else Text("  ✗ ", "red")) + Text(f"{one['name']}: {one['detail']}")
        for one in view.get("checks", [])
    ]


def model_list(models: list[dict[str, Any]]) -> RenderableType:
    """All models."""
    if not models:
        return Text("no models yet → affiant register model.onnx --name loan --help")
    table = plain_table("model", "latest", "champion", "challenger", "versions", right=("versions",))
    for one in models:
        held = [_number(one["aliases"].get(alias)) for alias in ALIASES]
        table.add_row(one["model"], _number(one["latest_version"]), *held, str(one["version_count"]))
    return table


def versions(model: dict[str, Any]) -> list[RenderableType]:
    """The versions of one model."""
    table = plain_table("version", "aliases", "state", "author", "registered", "deployed", "digest")
    for one in model.get("versions", []):
        table.add_row(
            f"{one['model']}/{one['version']}",
            ", ".join(one["aliases"]) or "–",
            mark(one["state"], _STATES.get(one["state"], "yellow")),
            one["author"],
            ago(one["registered_at"]),
            _deployment(one.get("deployment")),
            one["digest"][:19] + "…",
        )
    return [table]


def version(view: dict[str, Any]) -> list[RenderableType]:
    """Everything about one version."""
    spec = view["spec"]
    decision = spec.get("decision") or {}
    facts = pairs(
        ("version", Text(f"{view['model']}/{view['version']}", style="bold")),
        ("what for", spec.get("description")),
        ("state", mark(view["state"], _STATES.get(view["state"], "yellow"))),
        ("aliases", ", ".join(view["aliases"])),
        ("deployed", _deployment(view.get("deployment")).replace("–", "no")),
        ("author", view["author"]),
        ("registered", when(view["registered_at"])),
        ("digest", view["digest"]),
        ("size", f"{spec['size_bytes']:,} bytes"),
        ("favourable", decision.get("favourable")),
        ("classes", ", ".join(map(str, decision.get("classes", [])))),
        ("protected", ", ".join(spec.get("protected", []))),
        ("reasons", _worded(spec.get("reasons"))),
        ("tags", ", ".join(f"{key}={text}" for key, text in (view.get("tags") or spec.get("tags") or {}).items())),
    )
    title = Text("\nColumns", style="bold underline")
    return [facts, title, _columns(spec), Text("\nChecks", style="bold underline"), *checks(view)]


def history(entries: list[dict[str, Any]]) -> RenderableType:
    """Who did what, oldest first, with the reason and what else was recorded."""
    table = plain_table("when", "who", "what", "version", "why", "with")
    for one in entries:
        # The checks of a refused file are in the JSON form; the reason beside them names the one that failed.
        details = [
            f"{name.replace('_', ' ')} {found}"
            for name, found in one["details"].items()
            if found not in (None, "", []) and name != "checks"
        ]
        said = (one["by"], one["action"], _number(one["version"]), one["reason"] or "–", "; ".join(details) or "–")
        table.add_row(exactly(one["at"]), *said)
    return table


def standing(found: dict[str, Any]) -> list[RenderableType]:
    """What stood of a model at a moment, with the entry of the log that says so."""
    model = found["model"]
    views: list[RenderableType] = [Text(f"{model} at {exactly(found['at'])}", style="bold")]
    for one in found["aliases"]:
        share = f", to answer {one['traffic']} % of the requests" if one["traffic"] else ""
        facts = pairs(
            ("since", exactly(one["since"])),
            ("approved by", one["approved_by"]),
            ("moved by", one["by"] + (" (rollback)" if one["rollback"] else "")),
            ("why", one["reason"]),
            ("digest", one["digest"]),
            ("entry", one["entry"]),
        )
        views += [
            Text(f"\n{one['alias']}: {model}/{one['version']}{share}"),
            Padding(facts, (0, 0, 0, 2), expand=False),
        ]
    if not found["aliases"]:
        views.append(Text("\nno version was promoted", style="dim"))
    for one in found["deployments"]:
        share = f", {one['traffic']} % of the requests" if one["traffic"] else ""
        facts = pairs(
            ("since", exactly(one["since"])),
            ("at", f"{one['url']} ({one['backend']}){share}"),
            ("replicas", ", ".join(one["replicas"])),
            ("entry", one["entry"]),
        )
        said = Text(f"\nanswered as {one['alias']}: {model}/{one['version']}")
        views += [said, Padding(facts, (0, 0, 0, 2), expand=False)]
    if not found["deployments"]:
        views.append(Text("\nnothing answered", style="dim"))
    table = plain_table("version", "state", "since", "author", "registered", "entry", right=("version", "entry"))
    for one in found["versions"]:
        since, registered = exactly(one["since"]), exactly(one["registered_at"])
        table.add_row(str(one["version"]), one["state"], since, one["author"], registered, str(one["entry"]))
    return [*views, Text(), table]


def champion(found: dict[str, Any], at: str | None) -> list[RenderableType]:
    """Which version an alias pointed to, and by whose word."""
    verb = "was" if at else "is"
    facts = pairs(
        ("since", exactly(found["since"])),
        ("until", exactly(found["until"]) if found.get("until") else None),
        ("approved by", found["approved_by"]),
        ("moved by", found["by"] + (" (rollback)" if found.get("rollback") else "")),
        ("why", found["reason"]),
        ("digest", found["digest"]),
    )
    title = Text(f"{found['model']}/{found['version']}", style="bold") + Text(f" {verb} the {found['alias']}")
    return [title, Padding(facts, (0, 0, 0, 2), expand=False)]


def deployments(found: list[dict[str, Any]]) -> RenderableType:
    """What is served, replica by replica."""
    if not found:
        return Text("nothing is deployed → affiant promote loan/1 --as ben")
    table = plain_table("model", "alias", "version", "state", "since", "address", "replicas", right=("version",))
    for one in found:
        table.add_row(
            one["model"],
            one["alias"] + (f" ({one['traffic']} %)" if one.get("traffic") else ""),
            str(one["version"]),
            mark(
                one["state"] + (f": {one['reason']}" if one.get("reason") else ""), _STATES.get(one["state"], "yellow")
            ),
            ago(one.get("since")),
            one.get("url") or "–",
            "\n".join(_replica(replica) for replica in one.get("replicas", [])) or "–",
        )
    return table


def _replica(one: dict[str, Any]) -> str:
    restarts = f", {one['restarts']} restarts" if one.get("restarts") else ""
    return f"v{one.get('version')} pid {one.get('pid')} {one.get('state')}{restarts}"


def _worded(reasons: dict[str, Any] | None) -> str | None:
    """Which words the approver approves with the version."""
    if reasons is None:
        return None
    words = "; ".join(f"{one['column']}: {one['text']}" for one in reasons["texts"])
    return f"{words} ({reasons['digest'][:19]})"


def _columns(spec: dict[str, Any]) -> Table:
    table = plain_table("column", "kind", "type", "")
    protected = set(spec.get("protected", []))
    for one in spec["columns"]:
        table.add_row(one["name"], one["kind"], one["datatype"], "protected" if one["name"] in protected else "")
    for name in sorted(protected - {one["name"] for one in spec["columns"]}):
        table.add_row(name, "", "", "protected; not seen by the model, logged beside it")
    return table


def _deployment(found: dict[str, Any] | None) -> str:
    if not found:
        return "–"
    return str(found["state"]) + (f" ({found['reason']})" if found.get("reason") else "")


def _number(found: Any) -> str:
    return "–" if found is None else str(found)
