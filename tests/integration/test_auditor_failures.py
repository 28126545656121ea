"""What fails under the auditor, and what then: a slow disk, a full one, a lost database, a storm of copies."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest
from nats.aio.client import Client

from tests.support.audited import (
    SMALL_BATCHES,
    Publishing,
    check_everything_is_kept_once,
    pending,
    publish_many,
    shorten_ack_wait,
)
from tests.support.nats_server import NatsServer
from tests.support.postgres import Postgres
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Auditor]:
    """On SQLite."""
    auditor = Auditor(tmp_path / "auditor", nats_server.url, **SMALL_BATCHES)
    yield auditor
    auditor.kill()


@pytest.fixture
def server() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def on_postgresql(
    tmp_path: Path, nats_server: NatsServer, declared: Client, server: Postgres
) -> AsyncIterator[Auditor]:
    auditor = Auditor(tmp_path / "auditor", nats_server.url, server.new_database(), **SMALL_BATCHES)
    yield auditor
    auditor.kill()


async def until_it_says(auditor: Auditor, words: str) -> None:
    """Wait until it is not ready, and says why in these words."""

    async def says_so() -> bool:
        answer = await auditor.get("/readyz")
        return answer.status_code == 503 and words in answer.text

    await auditor.until(says_so, f"saying {words!r}")


async def figure(auditor: Auditor, name: str) -> float:
    """One of its metrics."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", (await auditor.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def slow_syncs(auditor: Auditor, seconds: float) -> Iterator[None]:
    """Every fsync of the process takes so much longer."""
    assert auditor.process is not None
    syncs = "fsync,fdatasync"
    inject = f"inject={syncs}:delay_exit={int(seconds * 1e6)}"
    command = ["strace", "-f", "-p", str(auditor.process.pid), "-e", f"trace={syncs}", "-e", inject, "-o", "/dev/null"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if b"attached" not in said:
            pytest.skip(f"strace cannot attach here: {said.decode(errors='replace')}")
        yield
    finally:
        tracer.terminate()
        tracer.wait(timeout=20)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_a_slow_disk_slows_the_record_and_nothing_else(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    await auditor.until_ready()
    with slow_syncs(auditor, 0.4):
        publishing = Publishing(declared)
        await auditor.until_size(700, seconds=120)
        assert (await auditor.get("/readyz")).status_code == 200
    published = await publishing.stop()
    await check_everything_is_kept_once(auditor, declared, published)
    slow = await figure(auditor, "affiant_auditor_sync_seconds_count")
    slow -= await figure(auditor, 'affiant_auditor_sync_seconds_bucket{le="0.2"}')
    assert slow >= 5, "the syncs were not slow"


async def test_a_slow_database_slows_the_record_and_nothing_else(on_postgresql: Auditor, declared: Client) -> None:
    auditor = on_postgresql
    auditor.start()
    await auditor.until_ready()
    with psycopg.connect(auditor.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END'"
        )
        # Deferred: it is the commit that takes long.
        connection.execute(
            "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON facts DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW WHEN (NEW.name = 'size') EXECUTE FUNCTION slow()"
        )
        publishing = Publishing(declared)
        await auditor.until_size(700, seconds=120)
        connection.execute("DROP TRIGGER slow ON facts")
    await check_everything_is_kept_once(auditor, declared, await publishing.stop())
    slow = await figure(auditor, "affiant_auditor_sync_seconds_count")
    slow -= await figure(auditor, 'affiant_auditor_sync_seconds_bucket{le="0.2"}')
    assert slow >= 5, "the commits were not slow"


async def test_a_storm_of_redeliveries_doubles_nothing(auditor: Auditor, declared: Client) -> None:
    await shorten_ack_wait(declared, 0.5)
    auditor.start()
    publishing = Publishing(declared)
    for size in (300, 900, 1_500):
        await auditor.until_size(size)
        assert auditor.process is not None
        # A pause of which it knows nothing: what it holds is delivered again, three times over.
        os.kill(auditor.process.pid, signal.SIGSTOP)
        await asyncio.sleep(1.6)
        os.kill(auditor.process.pid, signal.SIGCONT)
    await check_everything_is_kept_once(auditor, declared, await publishing.stop())
    assert (await auditor.get("/v1/summary")).json()["doubled_ignored"] > 0, "there was no storm"


async def test_a_database_that_goes_away_and_comes_back_costs_nothing(
    on_postgresql: Auditor, declared: Client, server: Postgres
) -> None:
    auditor = on_postgresql
    auditor.start()
    await auditor.until_ready()
    publishing = Publishing(declared, pause=0.1)
    for size in (300, 1_500):
        await auditor.until_size(size)
        await asyncio.to_thread(server.kill)
        await until_it_says(auditor, "the store is away")
        assert (await auditor.get("/v1/summary")).status_code == 503
        await asyncio.to_thread(server.start)
    await auditor.until_ready()
    await auditor.until_size(2_000)
    await check_everything_is_kept_once(auditor, declared, await publishing.stop())


async def test_an_auditor_that_starts_before_its_database_waits_for_it(
    on_postgresql: Auditor, declared: Client, server: Postgres
) -> None:
    published = await publish_many(declared, 200)
    await asyncio.to_thread(server.kill)
    on_postgresql.start()
    await until_it_says(on_postgresql, "the store is away")
    await asyncio.to_thread(server.start)
    await on_postgresql.until_ready()
    await check_everything_is_kept_once(on_postgresql, declared, published)


async def test_a_limit_on_files_holds_everything_back_and_says_so(auditor: Auditor, declared: Client) -> None:
    auditor.start()
    await auditor.until_ready()
    published = await publish_many(declared, 100)
    await auditor.until_size(100)
    auditor.limit_files(100_000)
    publishing = Publishing(declared)
    await until_it_says(auditor, "the store is away")
    held = auditor.size()
    more = await publishing.stop()
    assert auditor.size() == held
    assert await pending(declared) >= len(published) + len(more) - held
    auditor.unlimit_files()
    await auditor.until_ready()
    await auditor.until_size(len(published) + len(more))


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MiB, in a folder that PostgreSQL's user can reach too."""
    folder = Path(tempfile.mkdtemp(prefix="affiant-disk-"))
    folder.chmod(0o755)
    if said := _run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)):
        folder.rmdir()
        pytest.skip(f"a file system cannot be mounted here: {said}")
    yield folder
    assert not _run("umount", "--lazy", str(folder))
    folder.rmdir()


def resize(disk: Path, mebibytes: int) -> None:
    assert not _run("mount", "-o", f"remount,size={mebibytes}m", str(disk))


def _run(*command: str) -> str:
    """What the command complained of; empty where it did its work."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr or f"exit {done.returncode}" if done.returncode else ""


async def test_a_full_disk_fails_closed_says_so_and_recovers(
    small_disk: Path, nats_server: NatsServer, declared: Client
) -> None:
    auditor = Auditor(small_disk / "auditor", nats_server.url, **SMALL_BATCHES)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 * 1024**2))
    auditor.start()
    try:
        await auditor.until_ready()
        publishing = Publishing(declared)
        await until_it_says(auditor, "full")
        held = auditor.size()
        assert await pending(declared) > 0
        assert await figure(auditor, "affiant_auditor_store_away") == 1.0
        published = await publishing.stop()
        assert auditor.size() == held
        resize(small_disk, 256)
        await auditor.until_ready()
        await check_everything_is_kept_once(auditor, declared, published)
        assert "the store is back" in auditor.log()
    finally:
        auditor.kill()
        ballast.unlink()


def move(url: str, disk: Path) -> None:
    """Have the database keep its tables on `disk`; its journal stays where it was."""
    if os.geteuid() == 0:
        shutil.chown(disk, "nobody")
    there = psycopg.conninfo.make_conninfo(url.replace("+psycopg", ""))
    name = psycopg.conninfo.conninfo_to_dict(there)["dbname"]
    with psycopg.connect(there, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE tight LOCATION '{disk}'")
        connection.execute(f"ALTER DATABASE {name} SET TABLESPACE tight")


async def test_a_full_disk_of_the_database_fails_closed_says_so_and_recovers(
    small_disk: Path, nats_server: NatsServer, declared: Client, server: Postgres, tmp_path: Path
) -> None:
    url = server.new_database()
    resize(small_disk, 32)
    move(url, small_disk)
    room = shutil.disk_usage(small_disk).free
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(max(0, room - 3 * 1024**2)))
    auditor = Auditor(tmp_path / "auditor", nats_server.url, url, **SMALL_BATCHES)
    auditor.start()
    try:
        await auditor.until_ready()
        publishing = Publishing(declared)
        await until_it_says(auditor, "No space left on device")
        assert await pending(declared) > 0
        published = await publishing.stop()
        resize(small_disk, 512)
        await auditor.until_ready()
        await check_everything_is_kept_once(auditor, declared, published)
    finally:
        auditor.kill()
        server.stop()
