"""Loads and runs one ONNX model: exactly the registered bytes, on one thread, with the same answer every time.

Repeats of one request are bit-identical with one intra-op thread; with more, tree ensembles change bits.
"""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import structlog

from affiant.common.errors import Problem
from affiant.common.events import ModelSpec
from affiant.modelserver.tensors import Array, Slot, slot

log = structlog.get_logger(__name__)

INLINE_SECONDS = 0.002
"""A run that takes longer than this leaves the event loop for a thread; a shorter one costs less than the hop."""

_PROBE_ROWS = 64
_LEARNING_RUNS = 5
_MOST_ROWS = 100_000

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
} | {f"tensor({sign.lower()}int{bits})": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
"""onnxruntime's names for the datatypes of the protocol."""


RUNTIME = f"onnxruntime {onnxruntime.__version__} {platform.system()} {platform.machine()}"
"""What computes outputs here, for the record: another version or machine may give other bits."""


class Pace:
    """Which requests are quick enough for the event loop: those of up to `inline_rows` rows.

    Known from warming the model up; else learnt from its first real runs, which take a thread until then.
    """

    def __init__(self, inline_rows: int | None) -> None:
        self.inline_rows = inline_rows or 0
        self._to_learn = _LEARNING_RUNS if inline_rows is None else 0
        self._best = float("inf")

    def note(self, rows: int, seconds: float) -> None:
        """A run of `rows` rows took `seconds`. The best of the first runs counts: the others waited for something."""
        if not self._to_learn:
            return
        self._best = min(self._best, seconds / rows)
        self._to_learn -= 1
        if not self._to_learn:
            self.inline_rows = _inline_rows(0.0, self._best)
            log.info("pace of the model learnt", inline_rows=self.inline_rows)


@dataclass(frozen=True)
class Model:
    """A model that is loaded; `outputs` are names and datatypes."""

    spec: ModelSpec
    session: Any
    slots: dict[str, Slot]
    outputs: dict[str, str]
    pace: Pace

    def run(self, feed: dict[str, Array]) -> list[Array]:
        """The outputs, in the order of `outputs`; raises what onnxruntime raises."""
        arrays: list[Array] = self.session.run(list(self.outputs), feed)
        return arrays

    def run_timed(self, feed: dict[str, Array], rows: int) -> list[Array]:
        """As `run`, for a thread; the pace learns from it."""
        started = time.perf_counter()
        arrays = self.run(feed)
        self.pace.note(rows, time.perf_counter() - started)
        return arrays


def load(spec: ModelSpec, path: Path) -> Model:
    """The model in the file at `path`, warm. Raises `Problem` when it is not the registered one or does not load."""
    session = _session(_registered_bytes(spec, path))
    slots = {tensor.name: slot(tensor) for tensor in spec.inputs}
    outputs = {tensor.name: tensor.datatype for tensor in spec.outputs}
    _check_signature(session, slots, outputs)
    rows = _warm(session, slots, outputs)
    log.info("model loaded", digest=spec.digest, inline_rows=rows)
    return Model(spec, session, slots, outputs, Pace(rows))


def _registered_bytes(spec: ModelSpec, path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Problem(f"cannot read the model file: {error.strerror}") from error
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != spec.digest:
        raise Problem(
            f"the file's digest {found} is not the registered {spec.digest}",
            hint="the file was changed or is another version's: fetch it from the registry again",
        )
    return data


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, too, and then logged by us
    try:
        # From bytes onnxruntime refuses external data; with its fallback a failed load would be tried twice.
        return onnxruntime.InferenceSession(
            data, sess_options=options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise Problem(f"onnxruntime does not load the model: {error}") from error


def _check_signature(session: Any, slots: dict[str, Slot], outputs: dict[str, str]) -> None:
    """What was registered must be what the file says: a request is checked against the registration."""
    takes = {tensor.name: _DATATYPES.get(tensor.type, tensor.type) for tensor in session.get_inputs()}
    registered = {name: one.kind.name for name, one in slots.items()}
    if takes != registered:
        raise Problem(f"the model takes {takes}, but {registered} is registered")
    gives = {tensor.name: _DATATYPES.get(tensor.type, tensor.type) for tensor in session.get_outputs()}
    for name, datatype in outputs.items():
        if gives.get(name) != datatype:
            raise Problem(f"output {name!r} is registered as {datatype}; the model gives {gives.get(name, 'nothing')}")


def _warm(session: Any, slots: dict[str, Slot], outputs: dict[str, str]) -> int | None:
    """Run the model a few times and say how many rows are quick; `None` when it does not take blank values."""
    try:
        one = _seconds(session, list(outputs), _blank(slots, 1))
        many = _seconds(session, list(outputs), _blank(slots, _PROBE_ROWS))
    except Exception as error:
        # An encoder that knows its categories refuses the empty text. That is no fault of the model.
        log.info("the model takes no blank values; it warms up with its first requests", reason=str(error))
        return None
    return _inline_rows(one, max((many - one) / (_PROBE_ROWS - 1), 0.0))


def _inline_rows(base: float, per_row: float) -> int:
    """How many rows take at most `INLINE_SECONDS`, when each call costs `base` and each row `per_row` seconds."""
    if base + per_row > INLINE_SECONDS:
        return 0
    return min(int((INLINE_SECONDS - base) / max(per_row, 1e-9)), _MOST_ROWS)


def _blank(slots: dict[str, Slot], rows: int) -> dict[str, Array]:
    """Zeros and empty texts; a first axis of variable size gets `rows`, other variable axes 1."""
    feed = {}
    for name, one in slots.items():
        shape = [size if size > 0 else 1 for size in one.shape]
        if one.shape and one.shape[0] == -1:
            shape[0] = rows
        feed[name] = np.full(shape, "" if one.kind.name == "BYTES" else 0, dtype=one.kind.dtype)
    return feed


def _seconds(session: Any, outputs: list[str], feed: dict[str, Array]) -> float:
    session.run(outputs, feed)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        session.run(outputs, feed)
        best = min(best, time.perf_counter() - started)
    return best
