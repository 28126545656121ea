"""The auditor's settings, from `AFFIANT_AUDITOR_*`."""

from __future__ import annotations

import msgspec

from affiant.common.settings import ServiceSettings


class AuditorSettings(ServiceSettings, frozen=True, kw_only=True):
    """What can be set for the auditor.

    `log_origin` is the name of the log in its checkpoints (a schema-less URL); without it one is made from the
    signing key at the first start. The key is `signing_key_file`, the same for every auditor of a log; empty: a file in
    `data_dir`, made at the first start. `witness_dir` is where checkpoints are written too, outside the store's reach;
    empty: nowhere; `witness_url` is the same for an object store that takes HTTP PUT, with `witness_token_file` (a
    bearer token) or `witness_s3_key_file` (`access:secret`) and `witness_s3_region`. `cosigner_urls` are witnesses
    (C2SP tlog-witness, their submission prefixes) that are asked to cosign, `cosigner_keys` the keys they are known by.
    `gap_grace_seconds` is how late an event may come before its absence is published.
    `database_url` is where the record is kept: `postgresql://user@host/name`; empty: an SQLite file in `data_dir`. The
    password is in `database_password_file`, or in a pass file of libpq's.
    `retention_days` is how long payloads are kept of models that have no retention class of their own, 0 for ever; what
    has come to its end is erased every `retention_interval_seconds`.
    `half_wait_seconds` is how long one half of a request that KServe logged waits for the other before it is recorded
    alone.
    `fairness_window_rows` decisions per model are watched, groups of at least `fairness_group_rows` compared.
    """

    http_port: int = 8404
    database_url: str = ""
    database_password_file: str = ""
    log_origin: str = ""
    signing_key_file: str = ""
    witness_dir: str = ""
    witness_url: str = ""
    witness_token_file: str = ""
    witness_s3_key_file: str = ""
    witness_s3_region: str = "us-east-1"
    cosigner_urls: list[str] = msgspec.field(default_factory=list)
    cosigner_keys: list[str] = msgspec.field(default_factory=list)
    batch_events: int = 2_000
    linger_seconds: float = 0.05
    checkpoint_interval_seconds: float = 5.0
    watch_interval_seconds: float = 15.0
    gap_grace_seconds: float = 30.0
    retention_days: int = 0
    retention_interval_seconds: float = 3_600.0
    half_wait_seconds: float = 60.0
    fairness_window_rows: int = 1_000
    fairness_group_rows: int = 30
