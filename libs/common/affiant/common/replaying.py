"""What a replay is told and what it answers: `python -m affiant.modelserver.replay` reads a `ReplayTask` as its first
line of standard input and a `PredictionLogged` as each further one, and answers one `Replayed` a line.

Whoever starts it and the program know nothing else of each other.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from affiant.common.events import ModelSpec

State = Literal["bit_exact", "within_tolerance", "mismatch", "not_replayable"]


class ReplayTask(Struct, frozen=True, kw_only=True):
    """A version and where its registered bytes lie. `run_seconds` is the deadline of each run, `cpu_seconds` of all."""

    spec: ModelSpec
    model_path: str
    run_seconds: float = 10.0
    cpu_seconds: int = 3_600
    memory_bytes: int = 4 * 1024**3


class Replayed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one prediction when its logged input went through the registered bytes again.

    `bit_exact`: every output is the same to the last bit. `within_tolerance`: the same labels, and numbers that differ
    by at most `difference`. `mismatch`: more than that; `reason` names the output. `not_replayable`: `reason` says why.
    `software` is set where another runtime or machine computed the logged outputs.
    """

    prediction_id: str
    state: State
    rows: int = 0
    difference: float = 0.0
    reason: str = ""
    software: str = ""
