"""Replaying predictions: records from the auditor, verified; bytes from the registry, by digest; the run in a child.

The child is the model server's own replay program (`affiant.common.replaying`): this process loads no model.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from affiant.cli import verifying
from affiant.cli.services import Services
from affiant.common.errors import NotFound, Problem
from affiant.common.events import ModelSpec, PredictionLogged
from affiant.common.replaying import Replayed, ReplayTask

CHILD = (sys.executable, "-I", "-m", "affiant.modelserver.replay")
OURS = "affiant://modelserver"
END_SECONDS = 10.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Replayed).decode


class Replays:
    """Replays predictions of any version; one child for each version, kept while it is of use. A context manager."""

    def __init__(self, services: Services, log_key: str) -> None:
        self._services = services
        self._log_key = log_key
        self._folder = tempfile.TemporaryDirectory(prefix="affiant-replay-")
        self._children: dict[str, _Child] = {}
        self._refused: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for child in self._children.values():
            child.end()
        self._folder.cleanup()

    def replay(self, prediction_id: str) -> Replayed:
        """What becomes of one prediction. Raises `Problem` where it is not on record."""
        found = self._services.get("auditor", f"/v1/predictions/{prediction_id}")
        if reason := self._why_not(found, prediction_id):
            return _cannot(prediction_id, reason)
        record = msgspec.convert(found["record"], PredictionLogged)
        if record.digest not in self._children and record.digest not in self._refused:
            try:
                self._children[record.digest] = _Child(self._task(record))
            except Problem as problem:
                self._refused[record.digest] = problem.message
        if record.digest in self._refused:
            return _cannot(prediction_id, self._refused[record.digest])
        return self._children[record.digest].replay(record)

    def _why_not(self, found: dict[str, Any], prediction_id: str) -> str:
        record = found["record"]
        if record is None:
            return "its payload was erased"
        verdict = verifying.verdict(found, prediction_id, self._log_key)
        if not verdict.verifies:
            return f"its record does not verify: {verdict.objection}"
        if found["source"] != OURS:
            return f"another system made it ({found['source']}): what it runs is not known here"
        if record["status"] != "answered":
            return "no answer left the house: there is nothing to compare"
        return ""

    def _task(self, record: PredictionLogged) -> ReplayTask:
        """The version's specification and its bytes, checked against the digest that the record names."""
        path = f"/v1/models/{record.model}/versions/{record.version}"
        spec = msgspec.convert(self._services.get("registry", path)["spec"], ModelSpec)
        if spec.digest != record.digest:
            raise Problem(f"{record.model}/{record.version} is registered as {spec.digest}, not as {record.digest}")
        try:
            data = self._services.ask("registry", "GET", f"/v1/artifacts/{record.digest}", timeout=300.0).content
        except NotFound as error:
            raise Problem(f"the registry has the bytes {record.digest} no more") from error
        except Problem as problem:
            if problem.status == 404:
                raise Problem(f"the registry has the bytes {record.digest} no more") from problem
            raise
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != record.digest:
            raise Problem(f"the registry's bytes are not those of {record.digest}")
        file = Path(self._folder.name) / f"{record.digest.removeprefix('sha256:')}.onnx"
        file.write_bytes(data)
        return ReplayTask(spec=spec, model_path=str(file))


class _Child:
    """The replay program with one version loaded; started again where a record ended it."""

    def __init__(self, task: ReplayTask) -> None:
        if find_spec("onnxruntime") is None:
            words = "replaying needs onnxruntime, which is not installed"
            raise Problem(words, hint="pip install 'affiant[modelserver]'")
        self._task = task
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        # Its own words go nowhere: what matters is in the answers.
        process = subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        _write(process, _encode(self._task))
        return process

    def replay(self, record: PredictionLogged) -> Replayed:
        """The answer of the program; where the record ended it, that is the answer."""
        _write(self._process, _encode(record))
        line = self._process.stdout.readline() if self._process.stdout else b""
        if line:
            return _decode(line)
        code = self._process.wait()
        self._process = self._start()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _cannot(record.prediction_id, f"the run ended its process ({how}): it asked for more than it is given")

    def end(self) -> None:
        """Close its input, which ends it; a run under way is ended with it."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    # A child that is gone is found when its answer fails to come.
    with contextlib.suppress(OSError):
        if process.stdin:
            process.stdin.write(line + b"\n")
            process.stdin.flush()


def _cannot(prediction_id: str, reason: str) -> Replayed:
    return Replayed(prediction_id=prediction_id, state="not_replayable", reason=reason)


def listed(services: Services, limit: int, **wanted: Any) -> Iterator[str]:
    """The ids of predictions on record, newest first, at most `limit`."""
    cursor: str | None = None
    left = limit
    while left > 0:
        page = services.get("auditor", "/v1/predictions", **wanted, limit=min(left, 1_000), cursor=cursor)
        for line in page["predictions"]:
            yield line["prediction_id"]
        left -= len(page["predictions"])
        cursor = page["next"]
        if cursor is None:
            return
