"""Loading a model and running it: does it answer, soundly, and the same each time?"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from affiant.common.events import TensorSpec
from affiant.registry.checks.graph import ZIPMAP_HINT
from affiant.registry.checks.table import DTYPES, Array
from affiant.registry.domain.manifest import Unfit

SUM_TOLERANCE = 1e-3
"""Probabilities are float32 and may be sums over hundreds of trees; nearer to 1 than this they count as exact."""

Outputs = dict[str, Array]


class Runner:
    """A session as the model server will have it: one thread, from bytes, and a deadline for each run."""

    def __init__(self, data: bytes, run_seconds: float) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # more threads change bits in tree ensembles
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.run_seconds = run_seconds
        try:
            # From bytes, onnxruntime refuses data in other files. Its fallback would load a failing model twice.
            self.session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:
            hint = "export it for an operator set that this version knows, and load it once where you exported it"
            raise Unfit(f"onnxruntime {ort.__version__} cannot load it: {_told(error, hint)}") from error
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> Outputs:
        """One run. Raises `Unfit` when it fails or takes longer than its deadline."""
        options = ort.RunOptions()
        options.log_severity_level = 4
        stop = threading.Timer(self.run_seconds, _terminate, [options])
        stop.start()
        try:
            found = self.session.run(self.names, dict(feeds), options)
        except Exception as error:
            if options.terminate:
                raise Unfit(
                    f"a run on {_rows(feeds)} rows took more than {self.run_seconds:g} s and was stopped; "
                    "a model that never ends cannot be served (look for Loop operators)"
                ) from error
            told = _told(error, "run it on the same rows where you exported it")
            raise Unfit(f"it cannot be run on {_rows(feeds)} rows: {told}") from error
        finally:
            stop.cancel()
        return {name: _tensor(name, value) for name, value in zip(self.names, found, strict=True)}


def _terminate(options: ort.RunOptions) -> None:
    options.terminate = True


def _rows(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


def _tensor(name: str, value: object) -> Array:
    if not isinstance(value, np.ndarray):
        raise Unfit(f"the output {name!r} is no tensor; {ZIPMAP_HINT}")
    return value


def _told(error: BaseException, hint: str) -> str:
    """The first line of what onnxruntime said, and what to do; memory is a reason of its own."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    if isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate" in text:
        return f"{text}; it asks for more memory than a model is given: export a smaller one"
    return f"{text}; {hint}"


def check_outputs(declared: Sequence[TensorSpec], outputs: Outputs, rows: int) -> str:
    """Raises `Unfit` unless each output has the declared type, the declared rank and one entry for each row."""
    for spec in declared:
        value = outputs[spec.name]
        if not _is_type(value, spec.datatype):
            raise Unfit(f"the output {spec.name!r} says that it is {spec.datatype}, but answers {value.dtype}")
        if value.ndim != len(spec.shape):
            raise Unfit(
                f"the output {spec.name!r} says that its shape is {spec.shape}, but answers {list(value.shape)}; "
                "export the model with true shapes"
            )
        if value.ndim == 0 or value.shape[0] != rows:
            raise Unfit(
                f"the output {spec.name!r} answers {list(value.shape)} for {rows} rows; "
                "each output needs one entry for each row"
            )
    return ", ".join(f"{s.name} {s.datatype}{list(outputs[s.name].shape)}" for s in declared)


def _is_type(value: Array, datatype: str) -> bool:
    return value.dtype.kind in "OUS" if datatype == "BYTES" else value.dtype == np.dtype(DTYPES[datatype])


def check_finite(outputs: Outputs, feeds: Mapping[str, Array]) -> str:
    """Raises `Unfit` when an output is NaN or infinite for some row, and says whether a value was missing there."""
    for name, value in outputs.items():
        if value.dtype.kind != "f" or np.isfinite(value).all():
            continue
        row = int(np.argmin(np.isfinite(value.reshape(len(value), -1)).all(axis=1)))
        missing = [key for key, given in feeds.items() if given.dtype.kind == "f" and np.isnan(given[row]).any()]
        because = f" where {', '.join(missing[:5])} has missing values; impute them inside the model" if missing else ""
        raise Unfit(f"the output {name!r} is not finite{because or '; look for divisions by zero or overflows'}")
    return "all numbers are finite"


def check_repeatable(first: Outputs, second: Outputs) -> str:
    """Raises `Unfit` unless both runs on the same rows gave the same bits."""
    for name, value in first.items():
        again = second[name]
        same = np.array_equal(value, again) if value.dtype.kind in "OUS" else value.tobytes() == again.tobytes()
        if not same:
            raise Unfit(
                f"the output {name!r} differs between two runs on the same rows; remove random operators "
                "(RandomNormal, Dropout in training mode…): a decision must be repeatable"
            )
    return "the same rows twice gave the same bits"


def labels_of(value: Array) -> list[str | int]:
    """The label output, (N,) or (N, 1), as Python values."""
    flat = value.reshape(-1).tolist()
    return [each if isinstance(each, (str, int)) else str(each) for each in flat]


def check_probabilities(name: str, value: Array) -> str:
    """Raises `Unfit` unless `value`, of shape (N, C >= 2), holds probabilities: in [0, 1], each row summing to 1."""
    if value.ndim != 2 or value.shape[1] < 2:
        raise Unfit(
            f"the probability output {name!r} answers the shape {list(value.shape)}; it needs (N, C), one column "
            "for each class, for two classes too; a single score would be read as a label"
        )
    low, high = float(value.min()), float(value.max())
    if low < -1e-6 or high > 1 + 1e-6:
        raise Unfit(
            f"the probability output {name!r} lies between {low:.4g} and {high:.4g}, outside 0 to 1; "
            "export probabilities, not raw scores (skl2onnx: raw_scores=False)"
        )
    worst = float(np.abs(value.astype(np.float64).sum(axis=1) - 1).max())
    if worst > SUM_TOLERANCE:
        raise Unfit(
            f"the rows of {name!r} do not sum to 1 (off by up to {worst:.3g}); export one column for each class"
        )
    return f"probabilities of {value.shape[1]} classes, each row summing to 1 within {worst:.1g}"


def check_order(classes: Sequence[str | int], labels: Sequence[str | int], probabilities: Array) -> str:
    """Raises `Unfit` when the order of `classes` contradicts the run.

    Rows that got a label must on average have a higher probability of it than the others. (The label need not be
    the most probable one: a threshold may have been tuned.)
    """
    got = np.array([str(label) for label in labels])
    confirmed = 0
    for index, label in enumerate(classes):
        chosen = got == str(label)
        if not chosen.any() or chosen.all():
            continue
        if probabilities[chosen, index].mean() <= probabilities[~chosen, index].mean():
            raise Unfit(
                f"column {index} of the probabilities does not behave like the class {label!r}: rows that got this "
                "label have a lower value there than the others; state `classes` in the order of the probabilities"
            )
        confirmed += 1
    if confirmed:
        return f"classes {', '.join(map(str, classes))}, in the order of the probabilities"
    return f"classes {', '.join(map(str, classes))}; only one label was seen, so their order is not confirmed"
