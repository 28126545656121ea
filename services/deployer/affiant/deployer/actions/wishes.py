"""Noting what is wanted. Nothing is done about it here: the reconciler is woken, and sees the whole."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import structlog

from affiant.common import ids
from affiant.common.errors import Refused
from affiant.common.events import ALIASES, ModelArchived, ModelPromoted
from affiant.deployer.actions import facts
from affiant.deployer.domain.situation import Slot, Wish
from affiant.deployer.store import Store

log = structlog.get_logger(__name__)

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_IMAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,400}@sha256:[0-9a-f]{64}$")


class Wishes:
    """What the registry wants to be served. `wake` makes the reconciler look at once."""

    def __init__(self, store: Store, wake: Callable[[], None], *, no_shares: str = "") -> None:
        """`no_shares`: why a challenger cannot be given a share of the champion's requests, where it cannot."""
        self._store = store
        self._wake = wake
        self._no_shares = no_shares

    async def promoted(self, event: ModelPromoted, *, event_id: str, traceparent: str) -> None:
        """This version is wanted under this alias. Raises `Refused` where the event contradicts itself."""
        _check(event)
        wish = Wish(
            id=event_id,
            spec=event.spec,
            promoted_at=event.promoted_at,
            noted_at=time.time(),
            traceparent=traceparent,
            traffic=0 if self._no_shares else event.traffic,
        )
        slot = Slot(event.model, event.alias)
        message = facts.no_share(slot, wish, self._no_shares) if event.traffic and self._no_shares else None
        news = await asyncio.to_thread(self._store.wish, slot, wish, message)
        if news:
            log.info("promotion noted", model=slot.model, alias=slot.alias, version=event.version)
        else:
            log.warning(
                "a promotion that is no news was passed over",
                model=slot.model,
                alias=slot.alias,
                version=event.version,
                promoted_at=event.promoted_at,
            )
        self._wake()

    async def archived(self, event: ModelArchived) -> None:
        """This version must not be served any more, under any alias."""
        aliases = event.removed_aliases
        await asyncio.to_thread(self._store.archive, event.model, event.version, aliases, event.archived_at)
        log.info("archiving noted", model=event.model, version=event.version)
        self._wake()


def _check(event: ModelPromoted) -> None:
    # These become file names, a path of the registry's API and a subject: they are looked at before they are kept.
    if not ids.MODEL_NAME.fullmatch(event.model):
        raise Refused(f"{event.model!r} is not a model's name")
    if event.alias not in ALIASES:
        raise Refused(f"{event.alias!r} is not an alias")
    if (event.spec.model, event.spec.version) != (event.model, event.version):
        raise Refused(f"the promotion of {event.model} version {event.version} carries another version's spec")
    if event.traffic and (event.alias != "challenger" or not 0 < event.traffic < 100):
        raise Refused(f"{event.traffic} % of the champion's requests cannot be given to the {event.alias}")
    if event.spec.image and not _IMAGE.match(event.spec.image):
        raise Refused(f"{event.spec.image!r} does not name an image by its digest")
    if not _DIGEST.match(event.spec.digest):
        raise Refused(f"{event.spec.digest!r} is not a digest (sha256:<64 hex digits>)")
