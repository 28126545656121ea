"""A store that is lost and restored: the back-up by the command, the rest from the bus; each event once at the end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from affiant.common import bus
from tests.support.audited import SMALL_BATCHES, Publishing, check_everything_is_kept_once
from tests.support.nats_server import NatsServer
from tests.unit.auditor.process import Auditor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path, nats_server: NatsServer, declared: Client) -> AsyncIterator[Auditor]:
    auditor = Auditor(tmp_path / "auditor", nats_server.url, **SMALL_BATCHES)
    yield auditor
    auditor.kill()


async def audit(auditor: Auditor, *arguments: str) -> dict[str, Any]:
    """`affiant audit …` on this auditor's folders; what it answered."""
    where = ["--data", str(auditor.data), "--output", "json"]
    command = [sys.executable, "-m", "affiant.cli", "audit", *arguments, *where]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_a_lost_store_is_restored_and_what_came_after_is_read_from_the_bus_again(
    auditor: Auditor, declared: Client, tmp_path: Path
) -> None:
    auditor.start()
    publishing = Publishing(declared)
    await auditor.until_size(500)
    made = await audit(auditor, "backup", str(tmp_path / "copy"))
    await auditor.until_size(made["size"] + 500)
    auditor.kill()
    for path in auditor.data.glob("audit.db*"):
        path.unlink()
    witness = ["--witness", str(auditor.folder / "witness")]
    restored = await audit(auditor, "restore", str(tmp_path / "copy"), *witness, "--new-name", "example.org/log-2")
    assert restored["size"] == made["size"]
    assert restored["behind"] > 0
    auditor.start()
    await auditor.until_ready()
    assert set(await bus.reread(declared.jetstream(), "auditor")) >= {
        "auditor-models",
        "auditor-predictions",
        "auditor-explanations",
    }
    await check_everything_is_kept_once(auditor, declared, await publishing.stop())
    assert (auditor.data / "log.vkey").read_text().startswith("example.org/log-2+")
    assert (await auditor.get("/v1/integrity")).json()["intact"]
