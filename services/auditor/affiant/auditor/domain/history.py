"""What stood at a moment: which versions there were, which alias pointed where by whose word, what answered.

Folded from the events of registry and deployer alone, in the order of what they tell of. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from affiant.common.events import (
    Event,
    ModelArchived,
    ModelDeployed,
    ModelDeprecated,
    ModelPromoted,
    ModelRegistered,
    ModelUndeployed,
)


@dataclass(frozen=True)
class Told:
    """An event of the lifecycle and where it stands in the log."""

    index: int
    event: Event


@dataclass(frozen=True)
class AliasStanding:
    """An alias pointed to this version since `since`. `traffic`: the percentage of requests that it was to answer."""

    alias: str
    version: int
    digest: str
    since: str
    approved_by: str
    by: str
    reason: str
    rollback: bool
    traffic: int
    entry: int


@dataclass(frozen=True)
class DeploymentStanding:
    """A version answered under an alias since `since`. `traffic`: the percentage that reached it, 0 where not told."""

    alias: str
    version: int
    digest: str
    since: str
    url: str
    backend: str
    replicas: list[str]
    traffic: int
    entry: int


@dataclass(frozen=True)
class VersionStanding:
    """A version was known, in this state, since `since`."""

    version: int
    digest: str
    author: str
    registered_at: str
    state: str
    since: str
    entry: int


@dataclass
class Standing:
    """What stood of one model."""

    aliases: dict[str, AliasStanding] = field(default_factory=dict)
    deployments: dict[str, DeploymentStanding] = field(default_factory=dict)
    versions: dict[int, VersionStanding] = field(default_factory=dict)


_WHEN: dict[type[Event], str] = {
    ModelRegistered: "registered_at",
    ModelPromoted: "promoted_at",
    ModelDeprecated: "deprecated_at",
    ModelArchived: "archived_at",
    ModelDeployed: "deployed_at",
    ModelUndeployed: "undeployed_at",
}


def moment_of(event: Event) -> str:
    """When what the event tells of happened; empty for an event that changes nothing here."""
    name = _WHEN.get(type(event))
    return str(getattr(event, name)) if name else ""


def as_of(told: Iterable[Told], at: str | None) -> Standing:
    """What stood at `at` (inclusive; UTC as events have it), or stands after the last event."""
    dated = [(moment_of(one.event), one.index, one) for one in told]
    standing = Standing()
    for moment, _, one in sorted(entry for entry in dated if entry[0]):
        if at is None or moment <= at:
            _fold(standing, one)
    return standing


def _fold(standing: Standing, one: Told) -> None:
    event: Any = one.event
    match event:
        case ModelRegistered():
            spec, at = event.spec, event.registered_at
            line = VersionStanding(event.version, spec.digest, spec.author, at, "registered", at, one.index)
            standing.versions[event.version] = line
        case ModelPromoted():
            standing.aliases[event.alias] = AliasStanding(
                alias=event.alias,
                version=event.version,
                digest=event.spec.digest,
                since=event.promoted_at,
                approved_by=event.approved_by,
                by=event.by or event.approved_by,
                reason=event.reason,
                rollback=event.rollback,
                traffic=int(getattr(event, "traffic", 0)),
                entry=one.index,
            )
        case ModelDeprecated():
            _restate(standing, event.version, "deprecated", event.deprecated_at, one.index)
        case ModelArchived():
            _restate(standing, event.version, "archived", event.archived_at, one.index)
            for alias in event.removed_aliases:
                standing.aliases.pop(alias, None)
        case ModelDeployed():
            standing.deployments[event.alias] = DeploymentStanding(
                alias=event.alias,
                version=event.version,
                digest=event.digest,
                since=event.deployed_at,
                url=event.url,
                backend=event.backend,
                replicas=event.replicas,
                traffic=int(getattr(event, "traffic", 0)),
                entry=one.index,
            )
        case ModelUndeployed():
            # Of a version that was replaced already nothing is taken away.
            known = standing.deployments.get(event.alias)
            if known is not None and known.version == event.version:
                del standing.deployments[event.alias]


def _restate(standing: Standing, version: int, state: str, at: str, entry: int) -> None:
    known = standing.versions.get(version)
    if known is not None:
        standing.versions[version] = VersionStanding(
            version, known.digest, known.author, known.registered_at, state, at, entry
        )
