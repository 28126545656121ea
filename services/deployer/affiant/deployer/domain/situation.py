"""What decides about a deployment: what is wanted, what was announced, what failed, what is there.

A *slot* is one alias of one model: an address that one version at a time answers at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from affiant.common.events import ModelSpec

Phase = Literal["preparing", "starting", "ready", "draining", "failed"]


class Slot(NamedTuple):
    """One alias of one model."""

    model: str
    alias: str


class Wish(Struct, frozen=True, kw_only=True):
    """What was promoted. `id` is the promotion's: a version that is promoted anew is wished for anew.

    `noted_at` is when the deployer learned of it (seconds since 1970).
    """

    id: str
    spec: ModelSpec
    promoted_at: str
    noted_at: float
    traceparent: str = ""


class Serving(Struct, frozen=True, kw_only=True):
    """What was last announced as deployed, and for which wish."""

    wish_id: str
    spec: ModelSpec
    replica: str
    url: str
    since: str


class Trouble(Struct, frozen=True, kw_only=True):
    """How a version failed under a wish. `failures` counts in a row; `crashes` those after it had been deployed.

    `told` is the reason that was last published. `final`: another attempt would end the same way.
    """

    wish_id: str
    replica: str
    failures: int
    crashes: int
    retry_at: float
    at: float
    reason: str
    told: str = ""
    final: bool = False


@dataclass(frozen=True)
class Instance:
    """One server of one version, as the back end sees it. Times are seconds since 1970.

    `changed_at`: since when it is in its phase; `heard_at`: when it last answered; `drain_asked_at`: when it was
    told to stop accepting. `reason` (one line) and `log` (its last lines) tell why it failed, or is not ready yet;
    `final` says that the same version would fail again. `pid` is 0 where the back end has no such thing.
    """

    slot: Slot
    version: int
    digest: str
    replica: str
    phase: Phase
    started_at: float
    changed_at: float
    heard_at: float
    drain_asked_at: float | None = None
    pid: int = 0
    reason: str = ""
    log: str = ""
    final: bool = False

    def serves(self, spec: ModelSpec | None) -> bool:
        """Whether this is a server of that very version."""
        return spec is not None and (self.version, self.digest) == (spec.version, spec.digest)


@dataclass(frozen=True)
class Limits:
    """How patient the deployer is, in seconds; `tell_crashes`: crashes in a row before they are published."""

    ready: float = 30.0
    silent: float = 20.0
    drain: float = 25.0
    well: float = 60.0
    first_retry: float = 0.25
    longest_retry: float = 60.0
    look: float = 0.05
    tell_crashes: int = 3


@dataclass(frozen=True)
class Situation:
    """Everything that decides about one slot. `address` is empty while nothing is bound."""

    slot: Slot
    wish: Wish | None = None
    serving: Serving | None = None
    troubles: Mapping[int, Trouble] = field(default_factory=dict)
    archived: frozenset[int] = frozenset()
    instances: tuple[Instance, ...] = ()
    address: str = ""

    @property
    def wanted(self) -> ModelSpec | None:
        """The version that should be served."""
        if self.wish is None or self.wish.spec.version in self.archived:
            return None
        return self.wish.spec

    @property
    def fallback(self) -> ModelSpec | None:
        """The version that was served before, for as long as the wanted one has only failed."""
        if self.wanted is None or self.serving is None or self.trouble(self.wanted) is None:
            return None
        spec = self.serving.spec
        return None if spec.version in self.archived or spec.version == self.wanted.version else spec

    def trouble(self, spec: ModelSpec) -> Trouble | None:
        """How that version failed under the present wish; an earlier wish's failures count no more."""
        trouble = self.troubles.get(spec.version)
        return trouble if trouble is not None and self.wish is not None and trouble.wish_id == self.wish.id else None
