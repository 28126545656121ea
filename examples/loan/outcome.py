"""What a run found, in the units that are shown: shares are 0–1, times of a run are seconds since it began.

Plain values only, so that a page can be made anew from a saved outcome (`outcome.json`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Value = str | float | int | bool | None


@dataclass(frozen=True)
class TableFacts:
    """The table that was decided on."""

    name: str
    source: str
    rows: int
    held_out: int
    columns: int
    target: str
    favourable: str
    adverse: str
    adverse_rate: float
    notes: tuple[str, ...]
    protected_are_inputs: bool = False


@dataclass(frozen=True)
class Check:
    """One check that the registry made."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Version:
    """One version of the model: where it comes from, what was measured, what it answered."""

    number: int
    kind: str
    digest: str
    size_bytes: int
    author: str
    approved_by: str
    auc: float
    accuracy: float
    adverse_rate: float
    adverse_weight: float
    largest_difference: float
    rows_compared: int
    checks: tuple[Check, ...]
    answered: int
    denied: int


@dataclass(frozen=True)
class Moment:
    """Something that happened to a version. `at`: seconds since the run began, `time`: RFC 3339."""

    at: float
    time: str
    kind: Literal["registered", "refused", "promoted", "deployed", "rolled back"]
    version: int
    who: str
    what: str


@dataclass(frozen=True)
class Answer:
    """One answered application. `row` counts the held-out people from 0; `at` is when the answer came."""

    at: float
    row: int
    prediction_id: str
    version: int
    label: str
    score: float
    adverse: bool
    milliseconds: float


@dataclass(frozen=True)
class Totals:
    """The count of everything. `missing`: answered but not in the record; `unknown`: in the record, never answered
    to us; `doubled`: in the record more than once. `gaps`: requests that a server numbered and nobody logged."""

    sent: int
    answered: int
    failed: int
    audited: int
    missing: int
    unknown: int
    doubled: int
    gaps: int
    denied: int
    explained: int
    explanation_failed: int


@dataclass(frozen=True)
class Group:
    """One group of a protected column. `recorded_rate`: how often the table's own decisions were favourable,
    for the same people."""

    value: str
    rows: int
    favourable: int
    rate: float
    recorded_rate: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A group against the reference group: difference and ratio of the rates, with the standard error of the
    difference; `truth`: the difference in the whole population, where the table was made and it is known."""

    value: str
    parity_difference: float
    impact_ratio: float | None
    standard_error: float
    truth: float | None = None
    truth_because: str = ""


@dataclass(frozen=True)
class Fairness:
    """Approval rates by one protected column, as the auditor counted them. `recounted`: this program's own count of
    the answers it got gave the same figures."""

    column: str
    reference: str
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]
    recounted: bool


@dataclass(frozen=True)
class Contribution:
    """The SHAP value of one column: how far it moved the probability of being denied."""

    column: str
    value: Value
    shap: float


@dataclass(frozen=True)
class Waterfall:
    """From the background's average to this person's probability of being denied."""

    baseline: float
    output: float
    contributions: tuple[Contribution, ...]
    estimator: str


@dataclass(frozen=True)
class AnchorRule:
    """While `clauses` hold, the decision stays: for `precision` of similar cases; they cover `coverage` of people."""

    clauses: tuple[str, ...]
    sentence: str
    precision: float
    coverage: float
    success: bool


@dataclass(frozen=True)
class Proof:
    """Where the record stands in the auditor's Merkle log, and who signed for it. `objection`: why this program does
    not believe it, after its own check from the payload to the signature; empty where it does."""

    index: int
    tree_size: int
    leaf_hash: str
    root: str
    path_length: int
    origin: str
    signature: str
    checkpoint: str
    objection: str


@dataclass(frozen=True)
class Case:
    """One denied application, as the record holds it."""

    prediction_id: str
    version: int
    digest: str
    received_at: str
    label: str
    score: float
    inputs: dict[str, Value]
    context: dict[str, Value]
    anchor: AnchorRule | None
    waterfall: Waterfall | None
    explained_at: str
    seed: int | None
    proof: Proof | None
    replica: str = ""
    sequence: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step of the run and how long it took."""

    title: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Everything that is reported."""

    model: str
    began_at: str
    seconds: float
    table: TableFacts
    versions: tuple[Version, ...]
    refusal: str
    moments: tuple[Moment, ...]
    answers: tuple[Answer, ...]
    totals: Totals
    fairness: tuple[Fairness, ...]
    case: Case | None
    home: str
    clients: int
    complaints: tuple[str, ...] = ()
    steps: tuple[Step, ...] = field(default=())
    program: str = "affiant"

    @property
    def kept_every_promise(self) -> bool:
        """Whether everything sent was answered, recorded once, and every denial explained."""
        return not self.complaints
