"""The auditor as a process of its own, over data that stay across kills, and what can be read of it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg

from affiant.common import auth
from tests.support.nats_server import free_port

RUN = str(Path(__file__).with_name("run_auditor.py"))


class Auditor:
    """An auditor process that can be killed and started again over the same data: the SQLite file in its folder, or
    the PostgreSQL database that `database_url` names.
    """

    def __init__(self, folder: Path, nats_url: str, database_url: str = "", **settings: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.data = folder / "data"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        known = [
            {"name": name, "roles": [role], "token_sha256": auth.token_hash(f"{name}-token")}
            for name, role in (("iris", "auditor"), ("omar", "operator"))
        ]
        (folder / "people.json").write_text(json.dumps(known))
        self.settings = {
            "NATS_URL": nats_url,
            "HTTP_PORT": str(self.port),
            "DATABASE_URL": database_url,
            "DATA_DIR": str(self.data),
            "PEOPLE_FILE": str(folder / "people.json"),
            "WITNESS_DIR": str(folder / "witness"),
            "CHECKPOINT_INTERVAL_SECONDS": "0.3",
        } | settings

    def start(self) -> None:
        # Another one each time: between two starts anybody's outgoing connection may have taken the last one.
        self.port = free_port()
        self.settings["HTTP_PORT"] = str(self.port)
        environ = dict(os.environ) | {f"AFFIANT_AUDITOR_{name}": value for name, value in self.settings.items()}
        with (self.folder / "auditor.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, RUN], env=environ, stderr=log, stdout=log)

    def kill(self) -> None:
        """SIGKILL, wherever it is at this moment."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=40)
        self.process = None
        return code

    def limit_files(self, size: int) -> None:
        """No file of the process may grow beyond `size` bytes from now on: to it the disk is full."""
        assert self.process is not None
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def unlimit_files(self) -> None:
        """There is room again."""
        self.limit_files(resource.RLIM_INFINITY)

    def log(self) -> str:
        return (self.folder / "auditor.log").read_text()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the store holds; nothing while there is none."""
        return self._rows_of_postgresql(query) if self.database_url else self._rows_of_sqlite(query)

    def _rows_of_postgresql(self, query: str) -> list[tuple[Any, ...]]:
        try:
            with psycopg.connect(self.database_url.replace("+psycopg", "")) as connection:
                return connection.execute(query).fetchall()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return []

    def _rows_of_sqlite(self, query: str) -> list[tuple[Any, ...]]:
        path = self.data / "audit.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def size(self) -> int:
        """How many entries the log has."""
        return int(next(iter(self.rows("SELECT value FROM facts WHERE name = 'size'")), (0,))[0])

    async def get(self, path: str, **params: Any) -> httpx.Response:
        """Ask it, also before its port is open: it may store and acknowledge before it answers."""
        deadline = time.monotonic() + 15
        async with httpx.AsyncClient(headers={"Authorization": "Bearer iris-token"}, timeout=10) as http:
            while True:
                try:
                    return await http.get(f"http://127.0.0.1:{self.port}{path}", params=params or None)
                except httpx.ConnectError:
                    if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.03)

    async def until_ready(self) -> None:
        """Wait until it says that it is ready."""

        async def ready() -> bool:
            try:
                return (await self.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await self.until(ready, "ready")

    async def until_size(self, size: int, seconds: float = 30.0) -> None:
        """Wait until the log has at least this many entries."""

        async def reached() -> bool:
            return self.size() >= size

        await self.until(reached, f"of {size} entries", seconds)

    async def until(self, wanted: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await wanted():
                    assert self.process is None or self.process.poll() is None, f"it ended:\n{self.log()[-4000:]}"
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise AssertionError(f"not {what} in time; size {self.size()}\n{self.log()[-4000:]}") from None
