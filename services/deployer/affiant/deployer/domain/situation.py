"""What decides about a deployment: what is wanted, what was announced, what failed, what is there.

A *slot* is one alias of one model: an address that one version at a time answers at. The challenger's version may be
given a share of what is asked at the champion's address besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from affiant.common.events import ModelSpec

Phase = Literal["preparing", "starting", "ready", "idle", "draining", "failed"]

NEVER = float("inf")


class Slot(NamedTuple):
    """One alias of one model."""

    model: str
    alias: str


class Wish(Struct, frozen=True, kw_only=True):
    """What was promoted. `id` is the promotion's: a version that is promoted anew is wished for anew.

    `noted_at` is when the deployer learned of it (seconds since 1970). `traffic`: which percentage of the requests to
    the champion's address this version should answer (a challenger's; 0: none).
    """

    id: str
    spec: ModelSpec
    promoted_at: str
    noted_at: float
    traceparent: str = ""
    traffic: int = 0


class Serving(Struct, frozen=True, kw_only=True):
    """What was last announced as deployed, for which wish, and with which share of the champion's requests."""

    wish_id: str
    spec: ModelSpec
    replica: str
    url: str
    since: str
    traffic: int = 0


class Trouble(Struct, frozen=True, kw_only=True):
    """How a version failed under a wish. `failures` counts in a row; `crashes` those after it had been deployed.

    `told` is the reason that was last published, `cause` what kind of reason. `final`: another attempt would end the
    same way.
    """

    wish_id: str
    replica: str
    failures: int
    crashes: int
    retry_at: float
    at: float
    reason: str
    told: str = ""
    cause: str = ""
    final: bool = False


class Route(NamedTuple):
    """Who answers at a slot's address: the server `replica`, but for the `percent` that the challenger answers."""

    replica: str
    percent: int = 0


@dataclass(frozen=True)
class Instance:
    """One server of one version, as the back end sees it. Times are seconds since 1970.

    Where a platform runs several copies of a server and starts them again by itself, all of them together are one
    instance: `copies` names them, `recovers` says that a failed one is worth keeping, and `settled` is false while
    some of them are not yet as they should be. `idle` is the phase of one that was scaled to zero.

    `changed_at`: since when it is in its phase; `heard_at`: when it last answered; `drain_asked_at`: when it was
    told to stop accepting. `reason` (one line) and `log` (its last lines) tell why it failed, or is not ready yet;
    `final` says that the same version would fail again; `cause` (one word) is the kind of reason, where a reason's
    words may change while it stays the same. `pid` is 0 where the back end has no such thing. `image` is the program
    that serves, by its digest, where it comes as one.
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
    cause: str = ""
    copies: tuple[str, ...] = ()
    recovers: bool = False
    settled: bool = True
    image: str = ""

    def serves(self, spec: ModelSpec | None) -> bool:
        """Whether this is a server of that very version."""
        return spec is not None and (self.version, self.digest) == (spec.version, spec.digest)


@dataclass(frozen=True)
class Limits:
    """How patient the deployer is, in seconds; `tell_crashes`: crashes in a row before they are published.

    `idle`: how long a challenger without a share is kept running.
    """

    ready: float = 30.0
    silent: float = 20.0
    drain: float = 25.0
    well: float = 60.0
    first_retry: float = 0.25
    longest_retry: float = 60.0
    look: float = 0.05
    tell_crashes: int = 3
    idle: float = NEVER


@dataclass(frozen=True)
class Situation:
    """Everything that decides about one slot. `address` is empty while nothing is bound.

    `routes`: whether the back end leads an address to the servers itself; then `route` is where it leads now (`None`:
    nowhere). `challenger` is the challenger's ready server, where `share` percent of the champion's requests were
    promised to it. `given` is the share that this slot's version has at this moment.
    """

    slot: Slot
    wish: Wish | None = None
    serving: Serving | None = None
    troubles: Mapping[int, Trouble] = field(default_factory=dict)
    archived: frozenset[int] = frozenset()
    instances: tuple[Instance, ...] = ()
    address: str = ""
    routes: bool = False
    route: Route | None = None
    share: int = 0
    challenger: Instance | None = None
    given: int = 0

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
