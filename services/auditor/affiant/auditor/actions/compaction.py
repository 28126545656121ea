"""Compaction: what erasures and the outbox leave free goes back to the disk, in small steps between two batches."""

from __future__ import annotations

import asyncio

import structlog

from affiant.auditor.actions.writer import Writer
from affiant.auditor.store.database import StoreAway

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 600.0
STEP_BYTES = 4 * 1024**2
PAUSE_SECONDS = 0.1


async def keep_compact(writer: Writer) -> None:
    """Compact at an interval, until cancelled."""
    while True:
        try:
            freed = await compact(writer)
        except StoreAway as reason:
            log.warning("the store cannot be compacted now", reason=str(reason))
        else:
            if freed:
                log.info("the store is compacted", freed_bytes=freed)
        await asyncio.sleep(INTERVAL_SECONDS)


async def compact(writer: Writer) -> int:
    """Give back what is free; returns how many bytes. Recording goes on between the steps."""
    freed = 0
    while step := await writer.compact(STEP_BYTES):
        freed += step
        await asyncio.sleep(PAUSE_SECONDS)
    return freed
