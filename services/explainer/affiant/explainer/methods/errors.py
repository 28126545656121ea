"""The two ways in which an explanation does not come about."""

from __future__ import annotations


class Unexplainable(Exception):
    """This row can never be explained, however often it is tried; the text says why."""


class WorkerLost(Exception):
    """The worker process died or had to be killed; the text says which. Another attempt may succeed."""


class NotAdditive(Exception):
    """The model's graph is none that exact SHAP values are read from; the text says why. KernelSHAP serves it."""
