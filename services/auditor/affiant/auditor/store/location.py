"""Which back end, by URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from affiant.auditor.store.database import Database
from affiant.auditor.store.sqlite import SqliteDatabase
from affiant.common.errors import Problem
from affiant.common.settings import read_secret

FILE = "audit.db"


def locate(url: str, data_dir: Path, password_file: str = "") -> Database:
    """The store at `url`, or the SQLite file in `data_dir` where none is given. Connects nothing.

    `postgresql://user@host:5432/name`, with libpq's parameters behind a question mark (`sslmode`, `passfile`…). The
    password is read from `password_file`, or from a pass file of libpq's, never from the URL: URLs get into logs.
    """
    if not url:
        return SqliteDatabase(data_dir / FILE)
    scheme, password = _parts(url)
    if scheme not in ("postgresql", "postgres"):
        raise Problem(
            f"{scheme!r} is no store that the auditor knows", hint="leave it out for SQLite, or postgresql://"
        )
    if password:
        raise Problem(
            "the database's URL must not hold its password", hint="set AFFIANT_AUDITOR_DATABASE_PASSWORD_FILE"
        )
    # Imported here: a laptop does without the driver.
    from affiant.auditor.store.postgresql import PostgresDatabase

    return PostgresDatabase("postgresql" + url[url.index("://") :], read_secret(password_file))


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme.partition("+")[0], parts.password or ("password=" in parts.query and "?") or ""
    except ValueError as error:
        raise Problem(
            "the database's URL is malformed", hint="for example postgresql://affiant@db:5432/audit"
        ) from error
