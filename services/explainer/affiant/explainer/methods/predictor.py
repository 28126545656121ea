"""The ONNX model as alibi may call it: codes in, decisions or probabilities out.

alibi guesses from the shape of an answer whether it holds labels or probabilities: P(1) as a vector is taken for
labels, and the anchors are nonsense. So anchors get the model's own decisions as integers (N,), SHAP one probability
as (N, 1).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from affiant.common.events import BELOW, Decision, ModelSpec
from affiant.explainer.methods.additive import read_additive
from affiant.explainer.methods.errors import NotAdditive, Unexplainable
from affiant.explainer.methods.exact import ExactShap
from affiant.explainer.methods.sessions import open_session
from affiant.explainer.methods.table import Feed, Matrix, Table

BATCH_ROWS = 20_000
"""Rows given to the model at once: bounds the memory that one call of KernelSHAP takes."""

BACKGROUND_ROWS = 40
"""Rows that SHAP values are held against."""


def verified(data: bytes, digest: str, what: str) -> bytes:
    """`data`, if its SHA-256 is `digest` (`sha256:<hex>`); raises `Unexplainable` otherwise."""
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise Unexplainable(f"the {what} has the digest {found}, but {digest} is registered")
    return data


class Predictor:
    """One version, loaded. Not for use from two threads: a worker has one."""

    def __init__(self, spec: ModelSpec, model: bytes, table: Table) -> None:
        """`model` must be verified. Raises `Unexplainable` when it decides nothing or cannot be loaded."""
        if spec.decision is None:
            raise Unexplainable(f"{spec.model} version {spec.version} makes no decision: there is nothing to explain")
        self.decision: Decision = spec.decision
        self.table = table
        self.model = model
        self._session = open_session(model)
        self._classes = {_key(label): index for index, label in enumerate(spec.decision.classes)}

    def class_of(self, label: str | int) -> int:
        """The position of `label` among the classes. Raises `Unexplainable` for a label that the model cannot give."""
        try:
            return self._classes[_key(label)]
        except KeyError:
            raise Unexplainable(f"the record says {label!r}, which is not one of the model's classes") from None

    def labels(self, rows: Matrix) -> npt.NDArray[np.int64]:
        """The model's own decisions for coded rows (N, columns), as positions among the classes (N,)."""
        return self._labels(self._run(rows, [self._deciding])[0])

    def labels_of(self, feed: Feed) -> npt.NDArray[np.int64]:
        """The same for rows that lie ready as the model's tensors."""
        return self._labels(self._run_feed(feed, [self._deciding])[0])

    @property
    def units(self) -> str:
        """Of `outputs`, and so of what is explained."""
        return "value" if self.decision.is_regression else "probability"

    def outputs(self, rows: Matrix) -> Matrix:
        """What is explained: the probabilities (N, C) in the order of the classes, or a regression's value (N, 1)."""
        return self._as_outputs(self._run(rows, [self._explained])[0])

    def output_of(self, label: str | int) -> int:
        """Which of the `outputs` is explained where the decision is `label`."""
        return 0 if self.decision.is_regression else self.class_of(label)

    def output_name(self, label: str | int) -> str:
        """What that output is, for people."""
        return f"value of {self.decision.value_output}" if self.decision.is_regression else f"probability of {label}"

    def leaning(self, rows: Matrix, label: str | int) -> Matrix:
        """A number for each row (N,) that is the higher, the nearer the decision is to `label`."""
        found: Matrix = self.outputs(rows)[:, self.output_of(label)]
        return -found if self.decision.is_regression and label == BELOW else found

    def representatives(self, count: int) -> Matrix:
        """At most `count` background rows, evenly spaced by the output that the favourable decision depends on.

        Always the same ones, so that all explanations of a version share one baseline. On two credit models the mean
        prediction of 40 such rows lay within 0.0005 of the whole background's (40 random rows: up to 0.065 away), and
        the SHAP values against them were a third closer to those against all 1,000 rows (mean difference 0.005).
        """
        background = self.table.background
        if len(background) <= count:
            return background
        order = np.argsort(self.outputs(background)[:, self.output_of(self.decision.favourable)], kind="stable")
        return background[np.sort(order[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)])]

    @functools.cached_property
    def baseline_rows(self) -> Matrix:
        """The background rows that SHAP values are held against."""
        return self.representatives(BACKGROUND_ROWS)

    @property
    def exact(self) -> ExactShap | None:
        """What computes exact SHAP values, where the model's graph is a sum of terms; `not_exact` says why not."""
        return self._exact_or_reason[0]

    @property
    def not_exact(self) -> str:
        return self._exact_or_reason[1]

    @functools.cached_property
    def _exact_or_reason(self) -> tuple[ExactShap | None, str]:
        try:
            read = read_additive(self.model, self._explained, self.table, self.outputs, self.table.background)
            return ExactShap(read, self.baseline_rows), ""
        except NotAdditive as error:
            return None, str(error)

    def decide(self, row: Matrix) -> tuple[int, Matrix]:
        """Decision and outputs (C,) of one coded row (columns,), from one run of the model."""
        deciding, explained = self._run(row.reshape(1, -1), [self._deciding, self._explained])
        return int(self._labels(deciding)[0]), self._as_outputs(explained)[0]

    @property
    def _deciding(self) -> str:
        return self.decision.value_output or self.decision.label_output

    @property
    def _explained(self) -> str:
        return self.decision.value_output or self.decision.probability_output

    def _as_outputs(self, found: npt.NDArray[np.generic]) -> Matrix:
        return found.astype(np.float64).reshape(len(found), -1)

    def _labels(self, labels: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
        if self.decision.is_regression:
            # The classes of a regression are below and above, in this order.
            above: npt.NDArray[np.int64] = (labels.reshape(-1).astype(np.float64) >= self.decision.threshold).astype(
                np.int64
            )
            return above
        if labels.dtype == object:
            # Sorting strings, as `unique` does, takes longer than a small model.
            words = labels.reshape(-1).tolist()
            of = {word: self.class_of(word) for word in set(words)}
            return np.array([of[word] for word in words], dtype=np.int64)
        values, positions = np.unique(labels.reshape(-1), return_inverse=True)
        known = np.array([self.class_of(value) for value in values.tolist()], dtype=np.int64)
        decided: npt.NDArray[np.int64] = known[positions.reshape(-1)]
        return decided

    def _run(self, rows: Matrix, outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
        starts = range(0, len(rows), BATCH_ROWS)
        parts = [self._run_feed(self.table.feed(rows[start : start + BATCH_ROWS]), outputs) for start in starts]
        return list(parts[0]) if len(parts) == 1 else [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _run_feed(self, feed: Feed, outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
        try:
            return list(self._session.run(list(outputs), feed))
        except Exception as error:  # onnxruntime's own errors have no common base but this
            raise Unexplainable(f"the model fails on these rows: {error}") from error


def _key(label: object) -> str:
    """Labels are compared as text: `1`, `1.0`, `np.int64(1)` and "1" stand for one class."""
    if isinstance(label, bytes):
        return label.decode()
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
