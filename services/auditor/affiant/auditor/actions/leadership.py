"""Which of several auditors writes the log. One leads; the others stand by, answer reads, and lead when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import structlog

from affiant.auditor.actions import metrics
from affiant.auditor.actions.checkpoints import Checkpoints
from affiant.auditor.actions.writer import Writer
from affiant.auditor.store import schema
from affiant.auditor.store.database import Standby, StoreAway

log = structlog.get_logger(__name__)

ASK_SECONDS = 1.0
"""How often a standby tries to lead, and a leader makes sure that it does."""

Work = Callable[[], list[Coroutine[Any, Any, None]]]


class Leadership:
    """Leads when it can, and runs the leader's work for as long as it does."""

    def __init__(self, writer: Writer, signing: Checkpoints) -> None:
        self.role: Literal["leader", "standby"] = "standby"
        self.fault = ""
        """Why this auditor can neither lead nor answer; empty where it can."""
        self.readable = asyncio.Event()
        """Set once there is a store of the present version."""
        self._writer = writer
        self._signing = signing
        self._opened = False

    async def settle(self) -> None:
        """Lead or stand by, whichever it is now. Raises `Problem` where that cannot be mended by waiting."""
        try:
            await self._writer.open()
            await self._signing.open()
            self._become("leader", "")
        except Standby:
            await self._stand_by()
        except StoreAway as reason:
            self._become("standby", f"the store is away: {reason}")

    async def run(self, work: Work) -> None:
        """Run `work` while this process leads, until cancelled."""
        while True:
            if self.role == "leader":
                await self._lead(work)
            await asyncio.sleep(ASK_SECONDS)
            await self.settle()

    async def _lead(self, work: Work) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hold())
                for part in work():
                    tasks.create_task(part)
        except* Standby as lost:
            self._become("standby", "")
            log.warning("another auditor leads now", reason=str(lost.exceptions[0]))

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(ASK_SECONDS)
            try:
                await self._writer.lead()
            except Standby:
                raise
            except StoreAway:
                # The intake holds what arrived and tells of it; the store comes back with this leader or another.
                continue

    async def _stand_by(self) -> None:
        try:
            stored = await self._writer.version()
            if stored == schema.version():
                await self._signing.follow()
                self._become("standby", "")
            else:
                self._become("standby", f"the store is of version {stored}, this auditor reads {schema.version()}")
        except StoreAway as reason:
            self._become("standby", f"the store is away: {reason}")

    def _become(self, role: Literal["leader", "standby"], fault: str) -> None:
        if not self._opened or (role, fault) != (self.role, self.fault):
            log.info("this auditor leads" if role == "leader" else "this auditor stands by", fault=fault or None)
        self.role, self.fault, self._opened = role, fault, True
        metrics.leader.set(role == "leader")
        if role == "standby":
            # What only a leader measures would stand still here, and keep an alert alive.
            metrics.store_away.set(0)
            metrics.pending.clear()
            metrics.oldest_unaudited.clear()
        if not fault:
            self.readable.set()
