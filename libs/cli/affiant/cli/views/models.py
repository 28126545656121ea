"""How models, versions, histories and deployments look."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from affiant.cli.views.tables import ago, mark, pairs, plain_table, when

_STATES = {"serving": "green", "registered": "green", "failed": "red", "archived": "red", "deprecated": "yellow"}


def registered(view: dict[str, Any]) -> list[RenderableType]:
    """What a new version is told to be, the checks that it passed, and what comes next."""
    name = f"{view['model']}/{view['version']}"
    next_step = f"→ another person approves it: affiant promote {name} --reason … --as ben"
    return [Text(f"{name} is registered", style="bold green"), *checks(view), Text(next_step, style="dim")]


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
        aliases = _aliases(one)
        numbers = [version["version"] for version in one.get("versions", [])]
        latest = one.get("latest_version") or one.get("latest") or (max(numbers) if numbers else None)
        count = one.get("version_count") or len(numbers) or latest
        name = str(one.get("model") or one.get("name"))
        table.add_row(
            name, _number(latest), *(_number(aliases.get(a)) for a in ("champion", "challenger")), _number(count)
        )
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
        ("deployed", _deployment(view.get("deployment"))),
        ("author", view["author"]),
        ("registered", when(view["registered_at"])),
        ("digest", view["digest"]),
        ("size", f"{spec['size_bytes']:,} bytes"),
        ("favourable", decision.get("favourable")),
        ("classes", ", ".join(map(str, decision.get("classes", [])))),
        ("protected", ", ".join(spec.get("protected", []))),
        ("tags", ", ".join(f"{key}={text}" for key, text in (view.get("tags") or spec.get("tags") or {}).items())),
    )
    title = Text("\nColumns", style="bold underline")
    return [facts, title, _columns(spec), Text("\nChecks", style="bold underline"), *checks(view)]


def history(entries: list[dict[str, Any]]) -> RenderableType:
    """Who did what, oldest first. Whatever else an entry says goes into the last column."""
    table = plain_table("when", "who", "what", "version", "why and how")
    for one in entries:
        known = {"at", "when", "who", "by", "what", "action", "event", "model", "version", "reason"}
        more = [str(one["reason"])] if one.get("reason") else []
        more += [
            f"{key} {text}" for key, text in one.items() if key not in known and text not in (None, "", [], {}, False)
        ]
        table.add_row(
            when(one.get("at") or one.get("when")),
            str(one.get("who") or one.get("by") or "–"),
            str(one.get("what") or one.get("action") or one.get("event")),
            _number(one.get("version")),
            "; ".join(more),
        )
    return table


def champion(found: dict[str, Any], alias: str) -> list[RenderableType]:
    """Which version an alias pointed to, by whose word."""
    if found.get("version") is None:
        return [Text(f"there was no {alias} then")]
    lines = [
        (key.replace("_", " "), text) for key, text in found.items() if key not in ("model", "version", "alias", "spec")
    ]
    return [
        Text(f"{found['model']}/{found['version']}", style="bold") + Text(f" was the {alias}"),
        Padding(pairs(*lines), (0, 0, 0, 2)),
    ]


def deployments(found: list[dict[str, Any]]) -> RenderableType:
    """What is served, replica by replica."""
    if not found:
        return Text("nothing is deployed → affiant promote loan/1 --as ben")
    table = plain_table("model", "alias", "version", "state", "since", "address", "replicas", right=("version",))
    for one in found:
        table.add_row(
            one["model"],
            one["alias"],
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


def _aliases(model: dict[str, Any]) -> dict[str, Any]:
    found = model.get("aliases") or {}
    return found if isinstance(found, dict) else {}


def _number(found: Any) -> str:
    return "–" if found is None else str(found)
