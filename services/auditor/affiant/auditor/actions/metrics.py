"""What a platform engineer watches: how far behind, how large the batches, how slow the disk."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from affiant.auditor.actions.record import Outcome

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

_recorded = Counter("affiant_auditor_events_total", "Events by what became of them", ["result"])
batch_events = Histogram(
    "affiant_auditor_batch_events", "Events in one transaction", buckets=(1, 2, 5, 10, 50, 100, 500, 1_000, 2_000)
)
write_seconds = Histogram(
    "affiant_auditor_write_seconds",
    "Writing one batch, with the sync to the disk",
    buckets=_SECONDS,
)
sync_seconds = Histogram(
    "affiant_auditor_sync_seconds", "The commit alone: what the disk, or the database, takes", buckets=_SECONDS
)
lag_seconds = Histogram(
    "affiant_auditor_lag_seconds",
    "From the bus having the oldest event of a batch until it is durable here",
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 7_200),
)
leader = Gauge("affiant_auditor_leader", "1 for the auditor that writes the log, 0 for one that stands by")
log_size = Gauge("affiant_auditor_log_entries", "Entries in the log")
store_bytes = Gauge("affiant_auditor_store_bytes", "Room that the store takes")
disk_free_bytes = Gauge("affiant_auditor_disk_free_bytes", "Room that is left on the disk of data_dir")
quarantined = Gauge("affiant_auditor_quarantined_messages", "Messages that could not enter the record")
checkpoint_age = Gauge(
    "affiant_auditor_checkpoint_age_seconds", "Age of the newest checkpoint while entries wait for the next; else 0"
)
contradiction = Gauge(
    "affiant_auditor_contradiction", "1 when the log contradicts its own checkpoints: nothing is signed"
)
unwitnessed = Gauge("affiant_auditor_unwitnessed", "1 while checkpoints cannot be written to the witness folder")
store_away = Gauge("affiant_auditor_store_away", "1 while the store cannot be written")
pending = Gauge("affiant_auditor_pending_events", "Events on the bus that are not durable here yet", ["durable"])
oldest_unaudited = Gauge(
    "affiant_auditor_oldest_unaudited_seconds", "Age of the oldest event that is not durable here yet", ["durable"]
)


def count(outcome: Outcome) -> None:
    """Add a batch to the counters."""
    _recorded.labels("kept").inc(outcome.kept)
    _recorded.labels("doubled").inc(outcome.doubled)
    for fault in outcome.faults:
        _recorded.labels(fault.kind).inc()
