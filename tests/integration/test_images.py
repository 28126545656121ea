"""The steps of deploy/Dockerfile without Docker: the same install into an empty folder, then the program from it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.integration.test_clean_environments import process, until_it_answers
from tests.support.nats_server import NatsServer, free_port
from tests.support.node import CACHE

ROOT = Path(__file__).parents[2]


def installed(part: str) -> Path:
    """What the build stage leaves in /opt/affiant; kept until something that goes into it changes."""
    key = hashlib.sha256()
    names = ("requirements.lock", "pyproject.toml", "deploy/install.sh", "deploy/pins.py")
    files = (
        [ROOT / name for name in names]
        + sorted((ROOT / "libs").rglob("*.py"))
        + sorted((ROOT / "services").rglob("*.py"))
    )
    for file in files:
        key.update(file.read_bytes())
    folder = CACHE / "images" / f"{part}-{key.hexdigest()[:16]}"
    if not (folder / ".installed").exists():
        for old in folder.parent.glob(f"{part}-*"):
            shutil.rmtree(old)
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
        }
        subprocess.run(
            [str(ROOT / "deploy" / "install.sh"), part, str(folder)], cwd=ROOT, env=environ, check=True, timeout=600
        )
        (folder / ".installed").touch()
    return folder


def listing(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


@pytest.mark.parametrize("part", ["registry", "modelserver"])
def test_what_is_installed_is_what_the_lock_pins(part: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "list", "--format", "json", "--python", str(installed(part) / "bin" / "python")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    lock = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    packages = {one["name"]: one["version"] for one in found}
    assert packages.pop("affiant")
    assert packages
    assert {name: lock.get(name) for name in packages} == packages


async def test_a_service_runs_from_it_and_writes_nothing_there(
    declared: Client, nats_server: NatsServer, tmp_path: Path
) -> None:
    folder, port = installed("registry"), free_port()
    before = listing(folder)
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AFFIANT_REGISTRY_NATS_URL": nats_server.url,
        "AFFIANT_REGISTRY_HTTP_PORT": str(port),
        "AFFIANT_REGISTRY_DATA_DIR": str(tmp_path / "data"),
    }
    log = tmp_path / "log"
    with process([str(folder / "bin" / "affiant"), "run", "registry"], environ, log) as running:
        until_it_answers(f"http://127.0.0.1:{port}/readyz", running, log)
    assert listing(folder) == before


def test_the_model_server_begins_from_it(tmp_path: Path) -> None:
    python = installed("modelserver") / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "affiant.modelserver", str(tmp_path / "none.json")],
        capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "none.json" in done.stdout + done.stderr
