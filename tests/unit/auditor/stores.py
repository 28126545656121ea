"""The store that the auditor's tests run on: SQLite here; the integration tests run the same ones on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from affiant.auditor.store.database import Database
from affiant.auditor.store.location import locate

url = ""
"""Empty: an SQLite file in the test's own folder."""


def at(folder: Path) -> Database:
    """The store of an auditor whose data folder this is; not open yet."""
    return locate(url, folder)
