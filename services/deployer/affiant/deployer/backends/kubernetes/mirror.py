"""What the API server has, kept near: a list, and a watch of what happens after it, for ever.

The truth is the server's; the mirror only saves asking for it. Whatever breaks a watch (a connection that dies, 410,
a server that is away) ends in a new list, so nothing that happened meanwhile is missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from affiant.common.delivery import retry_delay
from affiant.common.errors import Unavailable
from affiant.deployer.backends.kubernetes.cluster import Cluster, Gone, Kind, Object, Refusal

log = structlog.get_logger(__name__)


class Mirror:
    """The objects of one kind that have the installation's labels, by name. `changed` is called after each change."""

    def __init__(self, cluster: Cluster, kind: Kind, selector: str, changed: Callable[[], None]) -> None:
        self.kind = kind
        self.objects: dict[str, Object] = {}
        self.is_filled = asyncio.Event()
        self._cluster = cluster
        self._selector = selector
        self._changed = changed
        self._gone: dict[str, int] = {}

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            try:
                since = await self._fill()
                failures = 0
                await self._follow(since)
            except Gone:
                log.info("a watch fell too far behind; listing anew", kind=self.kind.name)
            except Unavailable as trouble:
                log.warning("a watch was lost; listing anew", kind=self.kind.name, reason=trouble.message)
                await self._cluster.recovered()
            except Refusal as refusal:
                # Such as a right that the deployer lacks: an administrator has to act, and may do so at any time.
                failures += 1
                log.error("cannot look at the cluster", kind=self.kind.name, reason=refusal.message)  # noqa: TRY400
                await asyncio.sleep(min(retry_delay(failures), 30.0))
            except Exception:
                # A mirror that ended would show the past for ever.
                failures += 1
                log.exception("a watch failed; listing anew", kind=self.kind.name)
                await asyncio.sleep(min(retry_delay(failures), 30.0))

    def note(self, found: Object) -> None:
        """Take over what the server has just answered, so that it is known before the watch tells it."""
        name, revision = found["metadata"]["name"], _revision(found)
        known = self.objects.get(name)
        if revision <= self._gone.get(name, 0) or (known is not None and revision < _revision(known)):
            return
        self.objects[name] = found

    def forget(self, name: str) -> None:
        """An object was deleted: what the watch still tells of it is older."""
        known = self.objects.pop(name, None)
        if known is not None:
            self._gone[name] = _revision(known)

    async def _fill(self) -> str:
        items, since = await self._cluster.list(self.kind, self._selector)
        known, self.objects = self.objects, {}
        for item in items:
            self.note(self._named(item))
        # What was applied while the list was under way is newer than the list.
        for found in known.values():
            if _revision(found) > int(since):
                self.note(found)
        self._gone.clear()
        self.is_filled.set()
        self._changed()
        return since

    async def _follow(self, since: str) -> None:
        while True:
            async for happened, found in self._cluster.watch(self.kind, self._selector, since):
                since = found["metadata"]["resourceVersion"]
                if happened == "DELETED":
                    self._remove(found)
                elif happened in ("ADDED", "MODIFIED"):
                    self.note(self._named(found))
                if happened != "BOOKMARK":
                    self._changed()

    def _remove(self, found: Object) -> None:
        known = self.objects.get(found["metadata"]["name"])
        # One of the same name may have been made since.
        if known is not None and known["metadata"]["uid"] == found["metadata"]["uid"]:
            del self.objects[found["metadata"]["name"]]

    def _named(self, item: Object) -> Object:
        # Items of a list name neither their kind nor its version.
        return {"apiVersion": self.kind.api, "kind": self.kind.name, **item}


def _revision(found: Object) -> int:
    # Comparable as numbers, by Kubernetes' own word since 1.35 and in fact since ever.
    return int(found["metadata"]["resourceVersion"])
