"""What goes through the pipe between the service and a worker: one JSON document a line, nothing pickled."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from affiant.common.events import (
    Anchor,
    ColumnImportance,
    Counterfactual,
    Effect,
    ModelSpec,
    Reasons,
    Scalar,
    Shap,
    Trust,
)

LONG = 1e9
"""Seconds that never end; infinity has no JSON."""


class ModelFiles(Struct, frozen=True):
    """A version and where its bytes lie on this machine; the worker checks the digests again when it loads them."""

    spec: ModelSpec
    model_path: str
    background_path: str


class Warm(Struct, frozen=True, tag="warm"):
    """Load this version now, so that the first row does not wait for it."""

    files: ModelFiles


class Explain(Struct, frozen=True):
    """One row to be explained: `values` in the order of `spec.columns`, `label` the decision on record.

    `score` is the probability of the favourable class on record, where there is one.
    """

    files: ModelFiles
    values: list[Scalar]
    label: str | int
    score: float | None
    methods: list[str]
    seed: int

    def batch(self) -> Batch:
        """This row alone."""
        return Batch(self.files, [Row(self.values, self.label, self.score, self.methods, self.seed)])


class Row(Struct, frozen=True):
    """One row of a batch: as in `Explain`. It is given `work_seconds` of work, and `left_seconds` until its deadline.

    With `seeds` above 1 it is explained with so many seeds, to see whether they agree.
    """

    values: list[Scalar]
    label: str | int
    score: float | None
    methods: list[str]
    seed: int
    work_seconds: float = LONG
    left_seconds: float = LONG
    seeds: int = 1


class Batch(Struct, frozen=True, tag="batch"):
    """Explain rows of one version. Each is answered by itself, as it ends, in any order."""

    files: ModelFiles
    rows: list[Row]


class Survey(Struct, frozen=True, tag="survey"):
    """Explain the version as a whole."""

    files: ModelFiles
    seed: int


class Ready(Struct, frozen=True, tag="ready"):
    """The worker has imported its libraries; `software` names them with their versions."""

    software: dict[str, str]
    seconds: float


class Warmed(Struct, frozen=True, tag="warmed"):
    """The version is loaded."""

    seconds: float


class Explained(Struct, frozen=True, tag="explained"):
    """The explanation of one row. `seconds` per method."""

    explained_output: str
    background_rows: int
    anchor: Anchor | None = None
    shap: Shap | None = None
    counterfactuals: list[Counterfactual] | None = None
    trust: Trust | None = None
    reasons: Reasons | None = None
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Overview(Struct, frozen=True, tag="overview"):
    """What a version does as a whole: how much each column counts, and how the output goes with its value."""

    explained_output: str
    background_rows: int
    importance: list[ColumnImportance]
    effects: list[Effect]
    warnings: list[str] = field(default_factory=list)


class CannotExplain(Struct, frozen=True, tag="cannot"):
    """The row (or the version) cannot be explained, and why; `late`: its deadline passed. The worker lives on."""

    reason: str
    late: bool = False


class Answered(Struct, frozen=True, tag="answered"):
    """What became of row `at` of the batch."""

    at: int
    answer: Explained | CannotExplain


class Beat(Struct, frozen=True, tag="beat"):
    """The worker is at work on the batch: it has come one step further."""


Request = Warm | Batch | Survey
Reply = Ready | Warmed | Answered | Beat | Overview | CannotExplain

_encoder = msgspec.json.Encoder()
read_request = msgspec.json.Decoder(Warm | Batch | Survey).decode
read_reply = msgspec.json.Decoder(Ready | Warmed | Answered | Beat | Overview | CannotExplain).decode


def line(message: Request | Reply) -> bytes:
    """`message` as it is written to the pipe. msgspec escapes newlines inside strings, so one line is one message."""
    return _encoder.encode(message) + b"\n"
