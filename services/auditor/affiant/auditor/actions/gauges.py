"""What a platform engineer watches of the store, measured at an interval by every auditor, whether it leads or not."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import structlog

from affiant.auditor.actions import metrics
from affiant.auditor.actions.checkpoints import Checkpoints
from affiant.auditor.store import checkpoints, entries, facts
from affiant.auditor.store.database import Connection, Database, StoreAway

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0


class _Seen(NamedTuple):
    size: int
    signed: checkpoints.Signed | None
    quarantined: int


async def watch_store(database: Database, data_dir: Path, signing: Checkpoints, readable: asyncio.Event) -> None:
    """Set the gauges until cancelled."""
    await readable.wait()
    while True:
        try:
            await asyncio.to_thread(_measure, database, data_dir)
        except (StoreAway, OSError) as error:
            log.warning("the store cannot be measured now", reason=str(error))
        metrics.contradiction.set(1 if signing.fault else 0)
        metrics.unwitnessed.set(1 if signing.unwitnessed else 0)
        await asyncio.sleep(INTERVAL_SECONDS)


def _measure(database: Database, data_dir: Path) -> None:
    with database.reading() as connection:
        seen = _look(connection)
    metrics.log_size.set(seen.size)
    metrics.quarantined.set(seen.quarantined)
    metrics.checkpoint_age.set(_age(seen, datetime.now(UTC)))
    metrics.store_bytes.set(database.bytes())
    metrics.disk_free_bytes.set(shutil.disk_usage(data_dir).free)


def _look(connection: Connection) -> _Seen:
    return _Seen(facts.number(connection, facts.SIZE), checkpoints.last(connection), entries.quarantined(connection))


def _age(seen: _Seen, now: datetime) -> float:
    """Seconds since the newest checkpoint was signed, while entries wait for the next; else 0."""
    if seen.signed is None or seen.signed.size >= seen.size:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(seen.signed.signed_at)).total_seconds())
