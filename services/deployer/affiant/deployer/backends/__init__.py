"""Back ends: where model servers run. `local` runs them as processes of this machine, `kubernetes` in a cluster.

A back end observes and does; it decides nothing. What it is told to do it begins and returns: whether it worked
is seen at the next observation.
"""

from __future__ import annotations

from typing import Protocol

from affiant.common.events import ModelSpec
from affiant.deployer.domain.situation import Instance, Route, Slot
from affiant.deployer.domain.steps import Kept


class Backend(Protocol):
    """What the reconciler needs of a back end. Every method may be called again with the same words.

    `shares_by`: how a challenger gets a share of the champion's requests ("weights", "replicas"); empty where it
    cannot, because the back end does not lead the addresses itself (then `route` and `redirect` mean nothing);
    `no_shares` says why then.
    """

    name: str

    @property
    def shares_by(self) -> str:
        """How shares are given."""

    @property
    def no_shares(self) -> str:
        """Why they cannot be."""

    def share_in_words(self, slot: Slot) -> str:
        """How the challenger gets its share of the requests to the model's champion at this moment."""

    def leads(self) -> bool:
        """Whether this deployer is the one that may change anything."""

    async def open(self) -> None:
        """Find the servers that an earlier deployer left running."""

    async def observe(self) -> list[Instance]:
        """Every server there is, also those that ended and were not discarded yet."""

    def address(self, slot: Slot) -> str:
        """The base URL that the slot's servers answer at, stable over versions; empty while none is open."""

    async def start(self, slot: Slot, spec: ModelSpec) -> None:
        """Begin to start a server of this version beside those that run."""

    def route(self, slot: Slot) -> Route | None:
        """Where the slot's address leads."""

    async def redirect(self, slot: Slot, route: Route) -> None:
        """Lead the slot's address to these servers."""

    async def maintain(self, slot: Slot, kept: Kept) -> list[str]:
        """Make a server that goes on what it should be; says what was not so. Costs nothing where all is well."""

    async def drain(self, instance: Instance) -> None:
        """Tell a server to stop accepting, to finish what is under way, and to end."""

    async def discard(self, instance: Instance) -> None:
        """End a server at once where it still runs, and forget it."""

    async def release(self, slot: Slot) -> None:
        """Close the slot's address; the same one is opened again when a server is started."""

    async def close(self, *, stop: bool) -> None:
        """Let go of everything; with `stop` the servers are drained and ended first, else they go on."""
