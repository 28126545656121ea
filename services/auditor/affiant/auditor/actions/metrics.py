"""What a platform engineer watches: how far behind, how large the batches, how slow the disk."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from affiant.auditor.actions.record import Outcome

_recorded = Counter("affiant_auditor_events_total", "Events by what became of them", ["result"])
batch_events = Histogram(
    "affiant_auditor_batch_events", "Events in one transaction", buckets=(1, 2, 5, 10, 50, 100, 500, 1_000, 2_000)
)
write_seconds = Histogram(
    "affiant_auditor_write_seconds",
    "Writing one batch, with the sync to the disk",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
leader = Gauge("affiant_auditor_leader", "1 for the auditor that writes the log, 0 for one that stands by")
log_size = Gauge("affiant_auditor_log_entries", "Entries in the log")
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
