"""A model server as the local back end knows it: from the wish to start one until it is discarded."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field

import structlog

from affiant.common.serving import ServerStatus
from affiant.deployer.backends.local import control
from affiant.deployer.backends.local.process import Process
from affiant.deployer.domain.situation import Instance, Phase, Slot

log = structlog.get_logger(__name__)

STATUS_SECONDS = 2.0
"""How long a status may take; a server that computes hard answers late, and is no worse for it."""
QUIET_SECONDS = 1.0
"""A server that is ready is not asked again within this time: its end is noticed without asking."""


@dataclass
class Server:
    """One server. `process` is missing while the model is fetched, `work` is what is being done for it now."""

    slot: Slot
    version: int
    digest: str
    replica: str
    phase: Phase = "preparing"
    started_at: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.time)
    heard_at: float = field(default_factory=time.time)
    drain_asked_at: float | None = None
    reason: str = ""
    final: bool = False
    reported: bool = False
    process: Process | None = None
    work: asyncio.Task[None] | None = None

    def instance(self) -> Instance:
        """What the rules may know of it."""
        return Instance(
            slot=self.slot,
            version=self.version,
            digest=self.digest,
            replica=self.replica,
            phase=self.phase,
            started_at=self.started_at,
            changed_at=self.changed_at,
            heard_at=self.heard_at,
            drain_asked_at=self.drain_asked_at,
            pid=self.process.pid if self.process else 0,
            reason=self.reason,
            log=self._log(),
            final=self.final,
        )

    def _log(self) -> str:
        """Its last lines, where they are all there is to tell why: a server that reports its failure says it itself."""
        if self.process is None or self.phase not in ("starting", "failed") or self.reported:
            return ""
        return self.process.log_tail()

    def enter(self, phase: Phase) -> None:
        """Go to another phase, if it is another."""
        if phase == self.phase:
            return
        self.phase, self.changed_at = phase, time.time()
        if phase == "draining" and self.drain_asked_at is None:
            self.drain_asked_at = self.changed_at

    def fail(self, reason: str, *, final: bool = False) -> None:
        """It failed, for this reason."""
        self.reason, self.final = reason, final
        self.enter("failed")

    def has_ended(self) -> bool:
        """Whether it had a process that runs no more; then it has failed, in case that is news."""
        if self.process is None or self.process.runs():
            return False
        if self.phase != "failed":
            early = " before it was ready" if self.phase == "starting" else ""
            self.fail(f"{self.process.ending()}{early}")
        return True

    async def look(self) -> None:
        """Ask it how it is, unless it answered just now."""
        if self.process is None or self.phase == "failed" or self.has_ended():
            return
        asked_lately = time.time() - self.heard_at < QUIET_SECONDS
        if self.phase == "ready" and self.drain_asked_at is None and asked_lately:
            return
        try:
            status = await control.ask(self.process.config.control_socket, "status", STATUS_SECONDS)
        except control.NoAnswer:
            self.has_ended()
            return
        self._note(status)

    def _note(self, status: ServerStatus) -> None:
        if self.process is None or status.replica != self.replica:
            return
        self.heard_at = time.time()
        self.process.pid = self.process.pid or status.pid
        self.reported = status.state == "failed"
        if status.state == "failed":
            self.fail(status.detail or "the model server reports that it failed")
            return
        # Only while it starts does its detail say what keeps it from being ready.
        self.reason = status.detail if status.state == "starting" else ""
        self.enter(status.state)

    async def drain(self, timeout: float) -> None:
        """Tell it to drain; it answers when that is done. One that cannot be told so yet is sent SIGTERM."""
        if self.process is None:
            return
        try:
            await control.ask(self.process.config.control_socket, "drain", timeout)
        except control.NoAnswer as reason:
            log.info("a model server did not confirm that it drained", replica=self.replica, reason=str(reason))
            self.process.signal(signal.SIGTERM)

    async def kill(self) -> None:
        """End its process now."""
        if self.process is None:
            return
        self.process.signal(signal.SIGKILL)
        # A process in the middle of a disk write ends a little after its signal.
        if not await self.process.ended(5.0):
            log.error("a model server cannot be ended", replica=self.replica, pid=self.process.pid)
        self.process.clear_away()
