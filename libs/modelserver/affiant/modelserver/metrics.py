"""What Prometheus sees, at `/metrics` on the model's own port."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from affiant.common.events import ModelSpec

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """The figures of one process. `unpublished` is asked at each scrape."""

    def __init__(self, spec: ModelSpec, alias: str, replica: str, unpublished: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "affiant_modelserver_requests", "Requests to infer, by HTTP status", ["status"], registry=self.registry
        )
        self._by_status = {status: self._requests.labels(str(status)) for status in (200, 400, 500, 503)}
        self._seconds = self._histogram("request_seconds", "From the request to its answer", _SECONDS)
        self._publish = self._histogram("publish_seconds", "From a publish to its acknowledgement", _SECONDS)
        self._batch = self._histogram("batch_records", "Records for each acknowledgement", _RECORDS)
        Gauge(
            "affiant_modelserver_unpublished", "Records that are not on the bus", registry=self.registry
        ).set_function(unpublished)
        Gauge(
            "affiant_modelserver_info",
            "What is served",
            ["model", "version", "digest", "alias", "replica"],
            registry=self.registry,
        ).labels(spec.model, str(spec.version), spec.digest, alias, replica).set(1)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"affiant_modelserver_{name}", text, buckets=buckets, registry=self.registry)

    def done(self, status: int, seconds: float) -> None:
        """A request was answered."""
        known = self._by_status.get(status)
        (known or self._requests.labels(str(status))).inc()
        self._seconds.observe(seconds)

    def stored(self, records: int, seconds: float) -> None:
        """JetStream acknowledged a message that held so many records."""
        self._publish.observe(seconds)
        self._batch.observe(records)

    def page(self) -> bytes:
        """The text format, 0.0.4."""
        return generate_latest(self.registry)
