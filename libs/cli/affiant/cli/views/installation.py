"""How a running installation looks: its addresses, who is who, the state of each process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from affiant.cli import home as homes
from affiant.cli.system import System
from affiant.cli.views.tables import mark, plain_table


@dataclass(frozen=True)
class Row:
    """One process. `reasons`: why it takes no work, by its own words."""

    name: str
    state: str
    url: str
    pid: int | None
    restarts: int
    reasons: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """Its state in one or a few words."""
        if self.state == "waiting":
            return "crashed; starting again"
        return "; ".join(self.reasons) or ("ready" if self.state == "running" else self.state)

    @property
    def style(self) -> str:
        return "green" if self.word == "ready" else "yellow" if self.state == "running" else "red"


def description(system: System) -> dict[str, Any]:
    """The same as `welcome`, for programs."""
    people = {name: list(roles) for name, roles in homes.PEOPLE.items() if "service" not in roles}
    return {"home": str(system.home.path), "urls": system.urls, "people": people}


def welcome(system: System) -> list[RenderableType]:
    """What a person needs at the start: who is who, and what to do next."""
    who = plain_table("person", "roles", "does")
    for name, roles in homes.PEOPLE.items():
        if roles != ("service",):
            who.add_row(name, ", ".join(roles), "; ".join(homes.DUTIES[role] for role in roles))
    addresses = plain_table("part", "address")
    for name, url in system.urls.items():
        addresses.add_row(name, url)
    return [
        Text("\nAffiant runs. ", style="bold green") + Text(f"Everything lies in {system.home.path}\n"),
        addresses,
        Text(),
        who,
        Text(),
        Text("Speak in a person's name with --as; without it you are ana. Tokens: secrets/tokens/<person>.", "dim"),
        Text("Next, in another terminal: affiant register model.onnx --name loan …   or   affiant --help\n", "dim"),
    ]


def status(rows: list[Row], deployments: list[dict[str, Any]]) -> RenderableType:
    """The live table."""
    table = plain_table("part", "state", "address", "pid", "restarts")
    for row in rows:
        table.add_row(row.name, mark(row.word, row.style), row.url, str(row.pid or "–"), str(row.restarts))
    parts: list[RenderableType] = [table]
    if deployments:
        parts += [Text(), _deployed(deployments)]
    return Group(*parts, Text("\nCtrl-C stops it.", style="dim"))


def _deployed(deployments: list[dict[str, Any]]) -> Table:
    table = plain_table("model", "serves", "state", "address")
    for one in deployments:
        style = {"serving": "green", "failed": "red"}.get(one["state"], "yellow")
        table.add_row(
            f"{one['model']} ({one['alias']})", str(one["version"]), mark(one["state"], style), one.get("url") or "–"
        )
    return table
