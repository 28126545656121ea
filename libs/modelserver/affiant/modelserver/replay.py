"""`python -m affiant.modelserver.replay`: logged inputs through the registered bytes again.

What it is told and answers is in `affiant.common.replaying`. A process of its own with limits of memory and time, and a
deadline for each run: the inputs come from whoever sent them, and the file from whoever registered it. Inputs are built
the way the model server builds them, a request of several rows stays one run, and the session has one thread: with
more, or row by row, tree ensembles change bits.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import onnxruntime

from affiant.common import logs
from affiant.common.errors import Problem
from affiant.common.events import PredictionLogged, TensorData
from affiant.common.replaying import Replayed, ReplayTask
from affiant.modelserver.model import RUNTIME, Model, load
from affiant.modelserver.tensors import DATATYPES, Array

RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""Within tolerance: |again - logged| <= ABSOLUTE + RELATIVE x |logged|. Other machines and versions differ by less."""
WATCH_SECONDS = 0.1

_decode_task = msgspec.json.Decoder(ReplayTask).decode
_decode_record = msgspec.json.Decoder(PredictionLogged).decode
_encode = msgspec.json.Encoder().encode


class Watchdog:
    """Ends a run that takes longer than `seconds`: a model may loop for ever on the right input."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: tuple[float, Any] | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def options(self) -> Any:
        """The options for a run that begins now."""
        options = onnxruntime.RunOptions()
        self._running = (time.monotonic(), options)
        return options

    def done(self) -> None:
        self._running = None

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            running = self._running
            if running is not None and time.monotonic() - running[0] > self._seconds:
                running[1].terminate = True


class Replayer:
    """Runs logged requests through a loaded model."""

    def __init__(self, model: Model, run_seconds: float) -> None:
        self._model = model
        self._outputs = list(model.outputs)
        self._watchdog = Watchdog(run_seconds)
        self._seconds = run_seconds

    def replay(self, record: PredictionLogged) -> Replayed:
        """What becomes of `record`. Does not raise on account of it."""
        software = f"logged by {record.runtime}, replayed by {RUNTIME}" if record.runtime not in ("", RUNTIME) else ""
        if reason := self._unfit(record):
            return Replayed(prediction_id=record.prediction_id, state="not_replayable", reason=reason)
        try:
            arrays = self._run(self._feed(record))
        except Exception as error:  # onnxruntime's own exceptions share no base class, and any input may raise any
            reason = f"the run failed: {str(error).splitlines()[0][:300] if str(error) else type(error).__name__}"
            return Replayed(
                prediction_id=record.prediction_id, state="not_replayable", reason=reason, software=software
            )
        return compared(record, dict(zip(self._outputs, arrays, strict=True)), software)

    def _unfit(self, record: PredictionLogged) -> str:
        if record.digest != self._model.spec.digest:
            return f"it was made by {record.digest}, not by these bytes"
        if record.status != "answered":
            return "no answer left the house: there is nothing to compare"
        if missing := [name for name in self._model.slots if name not in {one.name for one in record.inputs}]:
            return f"the record lacks the model's input {', '.join(missing)}"
        return "" if record.outputs else "the record holds no outputs"

    def _feed(self, record: PredictionLogged) -> dict[str, Array]:
        slots = self._model.slots
        return {one.name: slots[one.name].array(one.data, one.shape) for one in record.inputs if one.name in slots}

    def _run(self, feed: dict[str, Array]) -> list[Array]:
        options = self._watchdog.options()
        try:
            arrays: list[Array] = self._model.session.run(self._outputs, feed, options)
        except Exception as error:
            if options.terminate:
                raise Problem(f"it took more than {self._seconds:g} s and was ended") from error
            raise
        else:
            return arrays
        finally:
            self._watchdog.done()


def compared(record: PredictionLogged, arrays: dict[str, Array], software: str = "") -> Replayed:
    """The logged outputs beside `arrays`, output by output."""
    rows = max(len(record.labels), 1)
    worst, exact = 0.0, True
    for tensor in record.outputs:
        array = arrays.get(tensor.name)
        if array is None or list(array.shape) != tensor.shape:
            shape = "none" if array is None else list(array.shape)
            reason = f"output {tensor.name!r} has shape {shape}; {tensor.shape} was logged"
            return _said(record, "mismatch", rows, reason=reason, software=software)
        same, near, difference = _beside(tensor, array)
        worst, exact = max(worst, difference), exact and same
        if not near:
            reason = f"output {tensor.name!r} differs" + (f" by up to {difference:.3g}" if difference else "")
            return _said(record, "mismatch", rows, difference=worst, reason=reason, software=software)
    if exact:
        return _said(record, "bit_exact", rows, software=software)
    return _said(record, "within_tolerance", rows, difference=worst, software=software)


def _said(record: PredictionLogged, state: Any, rows: int, **more: Any) -> Replayed:
    return Replayed(prediction_id=record.prediction_id, state=state, rows=rows, **more)


def _beside(tensor: TensorData, array: Array) -> tuple[bool, bool, float]:
    """(bit-exact, near enough, the largest difference). A number that is none was logged as null, whichever it was."""
    if array.dtype.kind != "f":
        same = array.reshape(-1).tolist() == tensor.data
        return same, same, 0.0
    logged = np.array(tensor.data, dtype=DATATYPES[tensor.datatype].dtype)
    again = array.reshape(-1)
    finite = np.isfinite(again)
    if not np.array_equal(finite, np.isfinite(logged)):
        return False, False, 0.0
    mine, its = again[finite], logged[finite]
    if mine.tobytes() == its.astype(mine.dtype).tobytes():
        return True, True, 0.0
    apart = np.abs(mine.astype(np.float64) - its.astype(np.float64))
    near = bool(np.all(apart <= ABSOLUTE + RELATIVE * np.abs(its.astype(np.float64))))
    return False, near, float(apart.max())


def limit(task: ReplayTask) -> None:
    """Take from this process what a hostile file would want."""
    resource.setrlimit(resource.RLIMIT_CPU, (task.cpu_seconds, task.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "darwin":  # macOS knows RLIMIT_AS but refuses to set it
        resource.setrlimit(resource.RLIMIT_AS, (task.memory_bytes, task.memory_bytes))


def replayed(task: ReplayTask, lines: Iterable[bytes]) -> Iterator[Replayed]:
    """The answer to each line. Where the bytes do not load here, every line is `not_replayable` and says why."""
    replayer, trouble = None, ""
    try:
        replayer = Replayer(load(task.spec, Path(task.model_path)), task.run_seconds)
    except Problem as problem:
        trouble = f"{problem.message} ({RUNTIME})"
    for line in lines:
        record = _decode_record(line)
        if replayer is None:
            yield Replayed(prediction_id=record.prediction_id, state="not_replayable", reason=trouble)
        else:
            yield replayer.replay(record)


def main(given: BinaryIO, out: BinaryIO) -> int:
    """Answer every line of `given` on `out`; returns the exit code."""
    logs.configure("replay")  # on standard error: standard output carries the answers
    task = _decode_task(given.readline())
    limit(task)
    for answer in replayed(task, given):
        out.write(_encode(answer) + b"\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
