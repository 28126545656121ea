"""The steps that lead from what is there to what is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from affiant.common.events import ModelSpec
from affiant.deployer.domain.situation import Instance, Route, Trouble


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
    """Remember how this server failed, publish it where `tell` says so, and discard it unless it recovers by itself."""

    instance: Instance
    spec: ModelSpec
    trouble: Trouble
    tell: bool
    still_serving: int | None


@dataclass(frozen=True)
class Announce:
    """Publish that this server's version is deployed. `seconds`: from its start, or from the wish if that is later.

    `traffic`: the percentage of the champion's requests that it answers as the challenger.
    """

    instance: Instance
    spec: ModelSpec
    wish_id: str
    previous_version: int | None
    seconds: float
    traffic: int = 0


@dataclass(frozen=True)
class Withdraw:
    """Publish that this version is served no more; `idle`: that it was scaled to zero."""

    spec: ModelSpec
    idle: bool = False


@dataclass(frozen=True)
class Redirect:
    """Lead the slot's address to these servers from now on."""

    route: Route


@dataclass(frozen=True)
class Kept:
    """A server that goes on, as it should be: not a step, but what is compared with what is there at every look.

    `percent`: the share of the champion's requests that it answers as the challenger, or leaves to the challenger as
    the champion. `asleep`: scaled to zero.
    """

    spec: ModelSpec
    instance: Instance
    percent: int = 0
    asleep: bool = False


@dataclass(frozen=True)
class Release:
    """Give up the open address: nothing will answer there for now."""


Step = Start | Drain | Discard | Fail | Announce | Withdraw | Redirect | Release
