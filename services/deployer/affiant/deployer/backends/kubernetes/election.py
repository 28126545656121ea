"""One deployer acts, however many there are: a Lease says which.

As client-go's leader election does it: whoever holds the Lease renews it; another takes it over when it was not
renewed for its duration *by the other's own clock*, so clocks need not agree. A holder that could not renew for
`deadline` seconds acts no more, well before another may begin.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from affiant.common.errors import Unavailable
from affiant.deployer.backends.kubernetes.cluster import LEASE, Cluster, Object, Refusal

log = structlog.get_logger(__name__)


class Election:
    """Runs for the Lease `name` until cancelled. `changed` is called when this deployer begins to lead, or ends."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        identity: str,
        *,
        seconds: float,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._changed = changed
        self._clock = clock
        self._renewed_at = float("-inf")
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._led = False

    def leads(self) -> bool:
        """Whether this deployer may act at this moment."""
        return self._clock() - self._renewed_at < self._seconds * 2 / 3

    async def run(self) -> None:
        """Hold the Lease, or try to get it, until cancelled."""
        while True:
            began = self._clock()
            try:
                if await self._try():
                    # From before the request: so much is certain, however long the answer took.
                    self._renewed_at = began
                else:
                    self._renewed_at = float("-inf")
            except (Unavailable, Refusal) as trouble:
                log.warning("the lease could not be renewed", lease=self._name, reason=str(trouble))
            except Exception:
                log.exception("the lease could not be renewed", lease=self._name)
            self._tell()
            await asyncio.sleep(self._seconds / 5 * random.uniform(0.9, 1.1))

    async def resign(self) -> None:
        """Give the Lease back, so that another deployer need not wait for it to run out."""
        if not self.leads():
            return
        self._renewed_at = float("-inf")
        try:
            lease = await self._cluster.get(LEASE, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._cluster.replace(lease)
        except (Unavailable, Refusal) as trouble:
            log.warning("the lease was not given back", lease=self._name, reason=str(trouble))

    async def _try(self) -> bool:
        lease = await self._cluster.get(LEASE, self._name)
        if lease is None:
            return await self._take(self._cluster.create(self._lease(None)))
        spec = lease["spec"]
        if spec.get("holderIdentity") == self._identity or self._has_run_out(spec):
            return await self._take(self._cluster.replace(self._lease(lease)))
        return False

    async def _take(self, request: object) -> bool:
        try:
            await request  # type: ignore[misc] # one of two requests, both awaitable
        except Refusal as refusal:
            if refusal.code == 409:
                return False
            raise
        return True

    def _has_run_out(self, spec: Object) -> bool:
        seen = (str(spec.get("holderIdentity", "")), str(spec.get("renewTime", "")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        return not seen[0] or self._clock() - self._seen_at > float(spec.get("leaseDurationSeconds") or self._seconds)

    def _lease(self, before: Object | None) -> Object:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict(before["spec"]) if before else {}
        if spec.get("holderIdentity") != self._identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(before)}
        # Whole seconds, and never less than we ourselves count with.
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(int(-(-self._seconds // 1)), 1),
            "renewTime": now,
        }
        lease = before or {"apiVersion": LEASE.api, "kind": LEASE.name, "metadata": {"name": self._name}}
        return {**lease, "spec": spec}

    def _tell(self) -> None:
        if self.leads() != self._led:
            self._led = self.leads()
            log.info("leading" if self._led else "standing by", lease=self._name, identity=self._identity)
            self._changed()
