"""The steps that lead from what is there to what is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from affiant.common.events import ModelSpec
from affiant.deployer.domain.situation import Instance, Trouble


@dataclass(frozen=True)
class Start:
    """Start a server of this version."""

    spec: ModelSpec


@dataclass(frozen=True)
class Drain:
    """Let this server finish what is under way and end."""

    instance: Instance


@dataclass(frozen=True)
class Discard:
    """End this server at once, if it still runs, and forget it."""

    instance: Instance


@dataclass(frozen=True)
class Fail:
    """Remember how this server failed, publish it where `tell` says so, and discard it."""

    instance: Instance
    spec: ModelSpec
    trouble: Trouble
    tell: bool
    still_serving: int | None


@dataclass(frozen=True)
class Announce:
    """Publish that this server's version is deployed. `seconds`: from its start, or from the wish if that is later."""

    instance: Instance
    spec: ModelSpec
    wish_id: str
    previous_version: int | None
    seconds: float


@dataclass(frozen=True)
class Withdraw:
    """Publish that this version is served no more."""

    spec: ModelSpec


@dataclass(frozen=True)
class Release:
    """Give up the open address: nothing will answer there for now."""


Step = Start | Drain | Discard | Fail | Announce | Withdraw | Release
