"""AFFIANT_EXPLAINER_*: what a platform engineer may want to change."""

from __future__ import annotations

from affiant.common.settings import ServiceSettings


class ExplainerSettings(ServiceSettings, frozen=True, kw_only=True):
    """`workers` processes compute, one core each.

    A job that has not been started `deadline_seconds` after it was queued expires. A worker may spend
    `run_seconds` on a row; one that takes that long for a single step is killed, and after `max_attempts` such losses
    the job fails. Predictions of a version that is not known yet wait for its registration for
    `wait_for_model_seconds`. `worker_memory_mib` bounds a worker's address space (0: no bound). Ended jobs can be
    looked up for `retention_days` (0: for ever); their events stay where they were published.
    """

    http_port: int = 8403
    data_dir: str = "./affiant-data/explainer"
    registry_url: str = "http://127.0.0.1:8401"
    auditor_url: str = "http://127.0.0.1:8404"
    workers: int = 2
    deadline_seconds: float = 3600.0
    run_seconds: float = 30.0
    max_attempts: int = 2
    retention_days: float = 30.0
    wait_for_model_seconds: float = 300.0
    worker_memory_mib: int = 4096
