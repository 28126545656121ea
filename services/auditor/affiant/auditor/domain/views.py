"""What the auditor answers with. Hashes are in hex, times RFC 3339 in UTC; a version that is not known is null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from affiant.auditor.domain import drift
from affiant.auditor.domain.errors import ErrorComparison, ErrorRates
from affiant.auditor.domain.fairness import Comparison, Group
from affiant.auditor.domain.history import AliasStanding, DeploymentStanding, VersionStanding


@dataclass(frozen=True)
class PredictionLine:
    """One prediction in a list. `labels` and `scores` have one entry for each decided row."""

    prediction_id: str
    index: int
    source: str
    audited_at: str
    model: str
    version: int | None
    digest: str
    alias: str
    status: str
    received_at: str
    rows: int
    adverse_rows: int | None
    explained_rows: int
    labels: list[str | int | None]
    scores: list[float | None]
    request_id: str
    subject_ref: str
    duration_us: int
    replica: str
    epoch: int
    sequence: int
    error: str


@dataclass(frozen=True)
class PredictionPage:
    """Predictions, newest first; `next` is the cursor of the next page, null on the last."""

    predictions: list[PredictionLine]
    next: str | None


@dataclass(frozen=True)
class Proof:
    """An inclusion proof (RFC 6962): SHA-256(0x00 || leaf), hashed with `path`, gives the root in `checkpoint`.

    `leaf` is the canonical JSON as text; its `payload` is SHA-256(salt || payload), where `salt` is hex and
    `payload` base64 (both null once erased). `checkpoint` is the signed note; `verifier_key` (C2SP signed-note) is
    told for convenience: whoever verifies should have it from elsewhere.
    """

    index: int
    size: int
    leaf: str
    leaf_hash: str
    path: list[str]
    root: str
    checkpoint: str
    verifier_key: str
    salt: str | None
    payload: str | None


@dataclass(frozen=True)
class EntryProof:
    """One entry as a line of `entries.jsonl` (docs/verify.md): `proof` leads to the root over `size` entries.

    `salt` and `proof` in hex, `body` in base64; salt and body null once erased.
    """

    index: int
    size: int
    leaf: str
    salt: str | None
    body: str | None
    proof: list[str]


@dataclass(frozen=True)
class ConsistencyProof:
    """That the log of `first` entries is the beginning of that of `second` (RFC 9162 section 2.1.4): `proof` in hex."""

    first: int
    second: int
    first_root: str
    second_root: str
    proof: list[str]


@dataclass(frozen=True)
class EventLine:
    """An entry with its event's data; `event` is null for a type that is not known here, or when it was erased."""

    index: int
    event_id: str
    type: str
    source: str
    time: str
    audited_at: str
    event: dict[str, Any] | None


@dataclass(frozen=True)
class ErasedLine:
    """By what a payload was erased: the entry of the log that says so, `rule` `request` or `retention`."""

    index: int
    rule: str
    reason: str
    by: str
    erased_at: str


@dataclass(frozen=True)
class PredictionView:
    """Everything known of one prediction. `lineage`: what happened to the version that answered, oldest first.

    `outcomes` and `overrides` by row, oldest first: the last one of a row is the one that holds. `record` is null once
    it was erased; `erased` says by what then.
    """

    record: dict[str, Any] | None
    source: str
    event_id: str
    audited_at: str
    index: int
    leaf_hash: str
    explanations: list[EventLine]
    lineage: list[EventLine]
    outcomes: list[EventLine]
    overrides: list[EventLine]
    proof: Proof
    erased: ErasedLine | None = None


@dataclass(frozen=True)
class Summary:
    """Counts. `explained` and `explanation_failed` count rows of predictions; `missing` numbers of sequences,
    `outcomes` and `overridden` rows of which an outcome or an override is known.

    `doubled_ignored`, `quarantined`, `size` and `root` are of the whole log, whatever model was asked for.
    """

    predictions: int
    answered: int
    failed: int
    rows: int
    adverse_rows: int
    explained: int
    explanation_failed: int
    outcomes: int
    overridden: int
    missing: int
    doubled_ignored: int
    quarantined: int
    size: int
    root: str
    versions: dict[str, int]


@dataclass(frozen=True)
class Fairness:
    """Approval rates by group of one column. `reference` is the most numerous group unless another was asked for."""

    model: str
    column: str
    favourable: str | int | None
    rows: int
    groups: list[Group]
    reference: str
    reference_rule: str
    comparisons: list[Comparison]
    errors: Errors


@dataclass(frozen=True)
class Coverage:
    """Of how many decided rows the outcome is known, by what was decided."""

    favourable_rows: int
    favourable_known: int
    adverse_rows: int
    adverse_known: int


@dataclass(frozen=True)
class Errors:
    """Decisions held against their outcomes, by group. `caveat` is empty unless something must be said with them."""

    coverage: Coverage
    groups: list[ErrorRates]
    comparisons: list[ErrorComparison]
    caveat: str


@dataclass(frozen=True)
class Accuracy:
    """Decisions of a model held against their outcomes; `rates.value` is the model's name."""

    model: str
    favourable: str | int | None
    coverage: Coverage
    rates: ErrorRates | None
    caveat: str


@dataclass(frozen=True)
class Told:
    """Statements that were taken: their event ids, in the order given. `audited`: the log holds them already."""

    event_ids: list[str]
    audited: bool


@dataclass(frozen=True)
class DriftLine:
    """One column in the window beside the reference; figures are null where one of them has no values."""

    column: str
    rows: int
    missing: int
    reference_rows: int
    reference_missing: int
    comparison: drift.Comparison | None


@dataclass(frozen=True)
class Drift:
    """How inputs and scores moved from the reference window to the window."""

    model: str
    since: str
    until: str | None
    reference_since: str | None
    reference_until: str
    columns: list[DriftLine]


@dataclass(frozen=True)
class MissingRange:
    """The numbers `first` to `last` (inclusive) have not arrived, though a later one has, at `since`."""

    first: int
    last: int
    since: str


@dataclass(frozen=True)
class ReplicaLine:
    """One epoch of one replica: what it numbered and what of it is here.

    `missing` never arrived; `removed` arrived, and its rows or entries are gone from the store (its `since` is empty).
    `drawn`: how many the process said that it numbered, when it ended, known since `ended_at`. `end`: `ended` so;
    `serving` by the deployer's last word; `open` where it said nothing and serves no more: its tail is not known.
    """

    model: str
    replica: str
    epoch: int
    first: int
    last: int
    received: int
    missing: list[MissingRange]
    removed: list[MissingRange]
    drawn: int | None
    ended_at: str | None
    end: str


@dataclass(frozen=True)
class Completeness:
    """What was numbered and what of it is here, whole or of one `day` (UTC).

    `served` (what our own replicas numbered) = what is here of them + `missing` + what was removed of them. A number
    that is not here belongs to the day of the next one that is.
    """

    replicas: list[ReplicaLine]
    received: int
    missing: int
    removed: int
    served: int
    open_ends: int
    complete: bool
    day: str | None


@dataclass(frozen=True)
class History:
    """What stood of a model at `at`: aliases (who approved, since when), what answered, which versions there were.

    `entry` is the place in the log of the event that says so.
    """

    model: str
    at: str
    aliases: list[AliasStanding]
    deployments: list[DeploymentStanding]
    versions: list[VersionStanding]


@dataclass(frozen=True)
class Dossier:
    """The whole story of one prediction. `standing` is what stood when it was received, not what stands today;
    `fairness` and `completeness` are of that day (UTC); `entries` prove everything said here, against one checkpoint.
    """

    format: str
    made_at: str
    model: str
    version: int | None
    received_at: str
    prediction: PredictionView
    standing: History
    fairness: list[Fairness]
    completeness: Completeness
    entries: list[Proof]


@dataclass(frozen=True)
class Rebuilt:
    """The look-up tables were made anew from `entries`; SHA-256 over all of them `before` and `after`.

    `erased` entries have no payload any more: what their rows said was carried over.
    """

    entries: int
    erased: int
    before: str
    after: str
    same: bool
    seconds: float


@dataclass(frozen=True)
class Lifecycle:
    """The events of registry and deployer, in the order of the log."""

    events: list[EventLine]


@dataclass(frozen=True)
class QuarantinedLine:
    """A message that could not enter the record; `body` as text, with what is not UTF-8 replaced."""

    number: int
    at: str
    kind: str
    reason: str
    event_id: str
    durable: str
    stream: str
    sequence: int
    subject: str
    body: str


@dataclass(frozen=True)
class Quarantine:
    """The newest quarantined messages, newest first."""

    messages: list[QuarantinedLine]


@dataclass(frozen=True)
class Damage:
    """Something in the store that is not what was sworn to; `index` is null where it concerns the whole log."""

    index: int | None
    said: str


@dataclass(frozen=True)
class Integrity:
    """The store held against its checkpoints: `checked` of `size` entries, and the tree up to the root that was signed
    over `checkpoint_size` of them. `damage` holds the first pieces, those of the whole log before single entries.
    """

    intact: bool
    size: int
    checked: int
    checkpoint_size: int
    root: str
    advice: str
    damage: list[Damage]


@dataclass(frozen=True)
class Erasure:
    """What was erased, or with `dry_run` would be. `predictions` are the first thousand of `count`; `entries` counts
    those of the log: predictions, their explanations, outcomes and overrides. `statements` are the entries that say so;
    `pending` says what still holds copies, in words.
    """

    dry_run: bool
    count: int
    entries: int
    predictions: list[str]
    statements: list[int]
    pending: list[str]


@dataclass(frozen=True)
class ErasureLine:
    """One entry that says that payloads were erased."""

    index: int
    rule: str
    reason: str
    by: str
    erased_at: str
    entries: int
    predictions: int


@dataclass(frozen=True)
class Erasures:
    """The newest erasures, newest first."""

    erasures: list[ErasureLine]


@dataclass(frozen=True)
class Statements:
    """Places in the log."""

    entries: list[int]


@dataclass(frozen=True)
class HoldLine:
    """A legal hold that is in force."""

    hold_id: str
    scope: str
    value: str
    since: str
    until: str
    reason: str
    set_by: str
    set_at: str


@dataclass(frozen=True)
class Holds:
    """Every hold in force, oldest first."""

    holds: list[HoldLine]


@dataclass(frozen=True)
class RuleLine:
    """A retention class: `days` 0 is for ever."""

    kind: str
    value: str
    days: int
    reason: str
    set_by: str
    set_at: str


@dataclass(frozen=True)
class Retention:
    """Every retention class; `default_days` for what has none, 0 for ever."""

    default_days: int
    rules: list[RuleLine]


@dataclass(frozen=True)
class ReadLine:
    """Somebody was shown a payload; `index` is the entry of the log that says so."""

    by: str
    at: str
    how: str
    index: int


@dataclass(frozen=True)
class PayloadReads:
    """Who was shown a payload, newest first."""

    reads: list[ReadLine]


@dataclass(frozen=True)
class Cosigned:
    """A cosignature was kept."""

    size: int
    name: str
