"""onnxruntime sessions, opened the one way in which they are opened here."""

from __future__ import annotations

import onnxruntime

from affiant.explainer.methods.errors import Unexplainable


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session with one thread. Raises `Unexplainable` when onnxruntime cannot load the model."""
    options = onnxruntime.SessionOptions()
    # More threads spin for twice the CPU, and tree ensembles change bits between runs.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # From bytes: onnxruntime then refuses external data. Without fallback it does not load a bad model twice.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise Unexplainable(f"onnxruntime cannot load the model: {error}") from error
