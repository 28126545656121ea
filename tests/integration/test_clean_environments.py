"""Each part runs in an environment that has only its own extra: the same install as in its container."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from nats.aio.client import Client

from affiant.common.serving import BusAccess, ServerConfig
from tests.support.model import loan_model, loan_spec
from tests.support.nats_server import NatsServer, free_port
from tests.support.node import CACHE

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "registry": ("alibi", "sklearn", "pandas"),
    "deployer": ("alibi", "sklearn", "pandas", "onnx"),
    "auditor": ("alibi", "sklearn", "pandas", "onnx", "onnxruntime"),
    "explainer": ("duckdb", "pyarrow", "kubernetes", "xgboost", "lightgbm"),
    "modelserver": ("alibi", "sklearn", "pandas", "sqlalchemy", "onnx"),
}


def environment(extra: str) -> Path:
    """The Python of an environment with `affiant[extra]` alone, pinned by the lock; kept until either changes."""
    key = hashlib.sha256((ROOT / "requirements.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    folder = CACHE / "environments" / f"{extra}-{key.hexdigest()[:16]}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        for old in folder.parent.glob(f"{extra}-*"):
            shutil.rmtree(old)
        uv = Path(sys.executable).with_name("uv")
        lock = ROOT / "requirements.lock"
        install = ["pip", "install", "--python", python, "--constraint", lock, "--editable", f".[{extra}]"]
        for arguments in (["venv", "--python", sys.executable, folder], [*install, "--compile-bytecode"]):
            subprocess.run([uv, "--quiet", *arguments], cwd=ROOT, check=True, timeout=600)
        (folder / ".installed").touch()
    return python


@contextmanager
def process(command: list[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        try:
            yield running
        finally:
            running.terminate()
            running.wait(timeout=30)


def until_it_answers(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    reason: Callable[[], str] = lambda: log.read_text()[-3000:]  # noqa: E731 - read only when it is needed
    while time.monotonic() < deadline:
        assert running.poll() is None, reason()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} did not answer with 200:\n{reason()}")


@pytest.mark.parametrize("extra", sorted(FORBIDDEN))
def test_an_environment_has_nothing_that_its_part_does_not_need(extra: str) -> None:
    script = f"import importlib.util as u; print([n for n in {FORBIDDEN[extra]!r} if u.find_spec(n)])"
    result = subprocess.run([environment(extra), "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("service", ["registry", "deployer", "explainer", "auditor"])
async def test_a_service_runs_with_its_own_extra_alone(
    service: str, declared: Client, nats_server: NatsServer, tmp_path: Path
) -> None:
    python = environment(service)
    port = free_port()
    prefix = f"AFFIANT_{service.upper()}"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        f"{prefix}_NATS_URL": nats_server.url,
        f"{prefix}_HTTP_PORT": str(port),
        f"{prefix}_DATA_DIR": str(tmp_path / service),
    }
    log = tmp_path / "log"
    with process([str(python.with_name("affiant")), "run", service], environ, log) as running:
        until_it_answers(f"http://127.0.0.1:{port}/readyz", running, log)


async def test_the_model_server_runs_with_its_own_extra_alone(
    declared: Client, nats_server: NatsServer, tmp_path: Path
) -> None:
    python = environment("modelserver")
    model, port = loan_model(), free_port()
    (tmp_path / "model.onnx").write_bytes(model)
    config = ServerConfig(
        spec=loan_spec(model),
        alias="champion",
        model_path=str(tmp_path / "model.onnx"),
        replica="loan-1-test",
        bus=BusAccess(url=nats_server.url),
        data_dir=str(tmp_path / "data"),
        port=port,
    )
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    log = tmp_path / "log"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [str(python), "-m", "affiant.modelserver", str(tmp_path / "config.json")]
    with process(command, environ, log) as running:
        until_it_answers(f"http://127.0.0.1:{port}/v2/health/ready", running, log)
