"""The life of a version: registered, promoted under an alias, deprecated, archived; and who may do it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from affiant.common.errors import Conflict, Forbidden, Problem
from affiant.common.events import ALIASES, Check, ModelSpec
from affiant.common.ids import MODEL_NAME

State = Literal["registered", "deprecated", "archived"]
Served = Literal["serving", "failed", "undeployed"]


IMAGE = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Deployment:
    """What the deployer last said of a version under an alias; `url` is empty unless it is served."""

    alias: str
    state: Served
    url: str
    reason: str
    at: str


@dataclass(frozen=True)
class Version:
    """One version. All but `state`, `tags` and `image` (in `spec`), `aliases` and `deployment` never changes."""

    model: str
    version: int
    digest: str
    state: State
    author: str
    registered_at: str
    spec: ModelSpec
    checks: tuple[Check, ...]
    aliases: tuple[str, ...] = ()
    deployment: Deployment | None = None
    traffic: int = 0


@dataclass(frozen=True)
class Promotion:
    """One move of an alias. `version` is None where archiving took the alias away.

    `approved_by` is the person, other than the author, by whose word the version stands under the alias; `by`
    moved the alias (on a rollback another person may do that). `before` is the move that a rollback returns to.
    `traffic` is the percentage of the champion's requests that a challenger answers.
    """

    id: int
    model: str
    alias: str
    version: int | None
    at: str
    approved_by: str
    by: str
    reason: str
    rollback: bool
    before: int | None
    traffic: int = 0


@dataclass(frozen=True)
class Entry:
    """One line of the history: who did what, when and why. `version` is None for a refused registration."""

    id: int
    model: str
    version: int | None
    at: str
    by: str
    action: str
    reason: str
    details: Mapping[str, object]


def check_model_name(name: str) -> None:
    """Raises `Problem` (422) unless `name` is a DNS label: it becomes a subject, a path and a Kubernetes name."""
    if not MODEL_NAME.fullmatch(name):
        raise Problem(
            f"{name!r} cannot be a model's name",
            status=422,
            hint="Use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends.",
        )


def check_alias(alias: str) -> None:
    """Raises `Problem` (422) unless `alias` is one that exists."""
    if alias not in ALIASES:
        raise Problem(f"there is no alias {alias!r}", status=422, hint=f"The aliases are {' and '.join(ALIASES)}.")


def check_promotable(version: Version, approver: str) -> None:
    """Raises `Forbidden` for the author, `Conflict` for a version that is out of use.

    The four-eyes rule: whoever made a version cannot be the one who approves it.
    """
    if approver == version.author:
        raise Forbidden(
            f"{approver} registered {version.model} version {version.version} and so may not promote it",
            hint="Ask another person with the role approver to promote it.",
        )
    if version.state != "registered":
        raise Conflict(
            f"{version.model} version {version.version} is {version.state}",
            hint="Choose a version that is still registered, or register the file again as a new version.",
        )


def check_share(version: Version, alias: str, traffic: int, champion: Promotion | None) -> None:
    """Raises `Problem` (422) for a share that has no meaning, `Conflict` where there is nothing to share."""
    if alias != "challenger" or not 0 <= traffic < 100:
        raise Problem(
            f"the {alias} cannot have {traffic} % of the champion's requests",
            status=422,
            hint="A challenger can have 0 to 99; with 100 a version is the champion: promote it to champion.",
        )
    if traffic and (champion is None or champion.version is None):
        raise Conflict(
            f"{version.model} has no champion whose requests could be shared", hint="Promote a champion first."
        )
    if traffic and champion is not None and champion.version == version.version:
        raise Conflict(
            f"{version.model} version {version.version} is the champion: it answers every request already",
            hint="Give a share to another version.",
        )


def check_deprecatable(version: Version) -> None:
    """Raises `Conflict` for an archived version. One that holds an alias goes on being served."""
    if version.state == "archived":
        raise Conflict(
            f"{version.model} version {version.version} is archived already",
            hint="Nothing more needs to be done: an archived version is out of use.",
        )


def check_image(version: Version, image: str) -> None:
    """Raises `Problem` (422) for anything but a registry, a repository and a digest, `Conflict` where it is too late.

    A tag may point to something else tomorrow: what was approved must be what is served.
    """
    if not IMAGE.fullmatch(image):
        raise Problem(
            f"{image[:200]!r} does not name an image by its digest",
            status=422,
            hint="registry/repository@sha256:<64 hex digits>, never a tag; `affiant package` pushes and records it",
        )
    if version.state == "archived":
        raise Conflict(
            f"{version.model} version {version.version} is archived", hint="Package a version that is in use."
        )


def check_archivable(version: Version, *, force: bool) -> None:
    """Raises `Conflict` for the champion, unless `force`: without it the model would stop answering."""
    if "champion" in version.aliases and not force:
        raise Conflict(
            f"version {version.version} is the champion of {version.model}",
            hint="Promote another version or roll back first, or archive with force (`--force`) to stop serving it.",
        )


def rollback_target(
    current: Promotion | None, moves: Mapping[int, Promotion], usable: Callable[[int], bool]
) -> Promotion:
    """The earlier move that a rollback of the alias returns to.

    Goes back along `before`, past versions that are no longer `usable` or that the alias points to already; so a
    second rollback goes further back and does not return to what was just left. Raises `Conflict` at the end.
    """
    now = current.version if current else None
    earlier = moves.get(current.before or 0) if current else None
    while earlier is not None:
        if earlier.version is not None and earlier.version != now and usable(earlier.version):
            return earlier
        earlier = moves.get(earlier.before or 0)
    raise Conflict(
        "there is no earlier version to roll back to",
        hint="Only a version that held the alias before and is not archived can be returned to; promote one instead.",
    )


def shown_deployment(deployments: Sequence[Deployment]) -> Deployment | None:
    """The one that tells most of a version under several aliases: one that is served, the champion's, the newest."""
    ranked = sorted(deployments, key=lambda each: (each.state == "serving", each.alias == "champion", each.at))
    return ranked[-1] if ranked else None


def version_at(moves: Sequence[Promotion], at: str) -> Promotion | None:
    """The move of an alias that was in force at a time; None before the first one. `moves` are oldest first."""
    before = [move for move in moves if move.at <= at]
    return before[-1] if before else None
