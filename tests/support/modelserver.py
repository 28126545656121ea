"""A real model server process, its control socket, and a client that keeps its connection open."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from affiant.common.events import ModelSpec, Policy
from affiant.common.serving import BusAccess, ServerConfig, ServerStatus
from tests.support.model import loan_model, loan_spec

INFER = "/v2/models/loan/infer"


class ModelServer:
    """`python -m affiant.modelserver` on `listener`. Versions share `records`, as the deployer has it."""

    def __init__(
        self, folder: Path, url: str, listener: socket.socket, version: int = 1, audit: str = "acked", **more: Any
    ) -> None:
        data = loan_model(float(version))
        self.folder = folder / f"v{version}-{os.urandom(3).hex()}"
        self.folder.mkdir(parents=True)
        self.records = folder / "records"
        path = self.folder / "model.onnx"
        path.write_bytes(data)
        # Not below the test's folder: the path of a Unix socket has at most 107 bytes.
        self.control = Path(tempfile.mkdtemp(prefix="affiant-test-")) / "control"
        self.port: int = listener.getsockname()[1]
        self.listener = listener
        self.config = ServerConfig(
            **{
                "spec": loan_spec(data, version, Policy(audit=audit)),  # type: ignore[arg-type]
                "alias": "champion",
                "model_path": str(path),
                "replica": self.folder.name,
                "bus": BusAccess(url=url),
                "data_dir": str(self.records),
                "control_socket": str(self.control),
                "listen_fd": listener.fileno(),
                "drain_seconds": 5.0,
                **more,
            }
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def spec(self) -> ModelSpec:
        return self.config.spec

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        config = self.folder / "config.json"
        config.write_bytes(msgspec.json.encode(self.config))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "affiant.modelserver", str(config)],
                stderr=log,
                stdout=log,
                pass_fds=[self.listener.fileno()],
            )

    def ask(self, word: str) -> ServerStatus:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(30)
            door.connect(str(self.control))
            door.sendall(f"{word}\n".encode())
            return msgspec.json.decode(door.makefile("rb").readline(), type=ServerStatus)

    def until(self, state: str, seconds: float = 30) -> ServerStatus:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                status = self.ask("status")
                if status.state == state:
                    return status
            if self.process is None or self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the model server is not {state}:\n{self.log}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def wait(self, seconds: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class HttpClient:
    """Keeps its connection open until it is asked to close it, and never tries a request twice."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def get(self, path: str) -> tuple[int, Any]:
        return self._ask("GET", path, None)

    def infer(self, *rows: tuple[Any, Any], path: str = INFER, **more: Any) -> tuple[int, Any]:
        columns = zip(("income", "debt"), zip(*rows, strict=True), strict=True)
        inputs = [
            {"name": name, "datatype": "FP32", "shape": [len(rows), 1], "data": list(column)}
            for name, column in columns
        ]
        return self._ask("POST", path, json.dumps({"inputs": inputs, **more}))

    def post(self, path: str, body: str) -> tuple[int, Any]:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, Any]:
        # No Content-Type, as tritonclient has it.
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.getheader("connection") == "close":
            self._connection.close()
        return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


def open_listener() -> socket.socket:
    """A listening socket on a free port, as the deployer opens one for each model."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener
