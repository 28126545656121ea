"""`AFFIANT_REGISTRY_*`: what an operator may set. The unit is in the name."""

from __future__ import annotations

from pathlib import Path

from affiant.common.settings import ServiceSettings

PREFIX = "AFFIANT_REGISTRY"


class RegistrySettings(ServiceSettings, frozen=True, kw_only=True):
    """Without `database_url` everything is kept in one SQLite file below `data_dir`.

    `database_url` is SQLAlchemy's, with the psycopg driver: `postgresql+psycopg://user@host/name`. The artifacts
    stay below `data_dir` either way. The `check_*` figures bound the child process that examines a model.
    """

    http_port: int = 8401
    database_url: str = ""
    max_model_mib: int = 256
    max_background_mib: int = 64
    checks_at_once: int = 2
    check_memory_mib: int = 4096
    check_cpu_seconds: int = 20
    check_wall_seconds: float = 30.0
    check_run_seconds: float = 5.0
    check_max_nodes: int = 20_000

    @property
    def database(self) -> str:
        """The URL of the database that is used."""
        return self.database_url or f"sqlite:///{Path(self.data_dir) / 'registry.db'}"
