"""Back ends: where model servers run. `local` runs them as processes of this machine.

A back end observes and does; it decides nothing. What it is told to do it begins and returns: whether it worked
is seen at the next observation.
"""

from __future__ import annotations

from typing import Protocol

from affiant.common.events import ModelSpec
from affiant.deployer.domain.situation import Instance, Slot


class Backend(Protocol):
    """What the reconciler needs of a back end. Every method may be called again with the same words."""

    name: str

    async def open(self) -> None:
        """Find the servers that an earlier deployer left running."""

    async def observe(self) -> list[Instance]:
        """Every server there is, also those that ended and were not discarded yet."""

    def address(self, slot: Slot) -> str:
        """The base URL that the slot's servers answer at, stable over versions; empty while none is open."""

    async def start(self, slot: Slot, spec: ModelSpec) -> None:
        """Begin to start a server of this version beside those that run."""

    async def drain(self, instance: Instance) -> None:
        """Tell a server to stop accepting, to finish what is under way, and to end."""

    async def discard(self, instance: Instance) -> None:
        """End a server at once where it still runs, and forget it."""

    async def release(self, slot: Slot) -> None:
        """Close the slot's address; the same one is opened again when a server is started."""

    async def close(self, *, stop: bool) -> None:
        """Let go of everything; with `stop` the servers are drained and ended first, else they go on."""
