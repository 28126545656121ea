"""The auditor's settings, from `AFFIANT_AUDITOR_*`."""

from __future__ import annotations

from affiant.common.settings import ServiceSettings


class AuditorSettings(ServiceSettings, frozen=True, kw_only=True):
    """What can be set for the auditor.

    `log_origin` is the name of the log in its checkpoints (a schema-less URL); without it one is made from the
    signing key at the first start. `witness_dir` is where checkpoints are written too, outside the store's reach;
    empty: nowhere. `gap_grace_seconds` is how late an event may come before its absence is published.
    `fairness_window_rows` decisions per model are watched, groups of at least `fairness_group_rows` compared.
    """

    http_port: int = 8404
    log_origin: str = ""
    witness_dir: str = ""
    batch_events: int = 2_000
    linger_seconds: float = 0.05
    checkpoint_interval_seconds: float = 5.0
    watch_interval_seconds: float = 15.0
    gap_grace_seconds: float = 30.0
    fairness_window_rows: int = 1_000
    fairness_group_rows: int = 30
