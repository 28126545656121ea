"""What computed an explanation, by name and version: it belongs to the record."""

from __future__ import annotations

import platform
from importlib.metadata import version

NAMES = ("affiant", "alibi", "shap", "numba", "numpy", "onnxruntime")


def software() -> dict[str, str]:
    """The versions that are installed. What alibi and shap do not compute themselves is held against these versions
    of them."""
    return {"python": platform.python_version(), **{name: version(name) for name in NAMES}}
