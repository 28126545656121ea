"""The events: facts in the past tense, each with one owner and a version.

One frozen class each. Optional fields may be added to a class; a changed meaning is a new class with the next
version. Only the owner publishes an event through our code (`affiant.common.wire.encode` checks it); predictions,
their outcomes and overrides may also come from outside systems, under a source of their own.

Subjects are `affiant.<owner>.<event>.v<N>`; events about data add the model: `…v1.<model>`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import Struct, field

from affiant.common.parts import (
    ABOVE as ABOVE,
    ALIASES as ALIASES,
    BELOW as BELOW,
    Alias as Alias,
    Anchor as Anchor,
    Change as Change,
    Check as Check,
    Column as Column,
    ColumnImportance as ColumnImportance,
    Counterfactual as Counterfactual,
    Decision as Decision,
    Effect as Effect,
    ErasedEntry as ErasedEntry,
    ExplainMethod as ExplainMethod,
    ExplainPolicy as ExplainPolicy,
    ModelSpec as ModelSpec,
    Part as Part,
    PayloadRead as PayloadRead,
    Policy as Policy,
    Reason as Reason,
    Reasons as Reasons,
    ReasonTable as ReasonTable,
    ReasonText as ReasonText,
    Scalar as Scalar,
    Shap as Shap,
    ShapValue as ShapValue,
    TensorData as TensorData,
    TensorSpec as TensorSpec,
    Trust as Trust,
)


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact. Subclasses name their owner; with `per_model` the subject ends in the name of the model."""

    owner: ClassVar[str]
    name: ClassVar[str]
    version_number: ClassVar[int] = 1
    per_model: ClassVar[bool] = False


# --- registry -------------------------------------------------------------------------------------------------


class ModelRegistered(Event, frozen=True, kw_only=True):
    """A version was registered. `checks` tells what was examined; a version with a failed check has no event."""

    owner: ClassVar[str] = "registry"
    name: ClassVar[str] = "model_registered"

    model: str
    version: int
    spec: ModelSpec
    checks: list[Check]
    registered_at: str


class ModelPackaged(Event, frozen=True, kw_only=True):
    """An image that holds this version's file was pushed: `image` is `<registry>/<repository>@sha256:<64 hex digits>`.

    The image of a version that is promoted later is in the promotion's `spec.image` as well.
    """

    owner: ClassVar[str] = "registry"
    name: ClassVar[str] = "model_packaged"

    model: str
    version: int
    digest: str
    image: str
    by: str
    packaged_at: str
    platforms: list[str] = field(default_factory=list)


class ModelPromoted(Event, frozen=True, kw_only=True):
    """An alias now points to this version, by the word of `approved_by`, who is not the author.

    `by` moved the alias: the approver, or on a rollback (to a version that stands by an earlier approval) whoever
    rolled back. `traffic`: which percentage of the requests to the champion's address a challenger should answer.
    """

    owner: ClassVar[str] = "registry"
    name: ClassVar[str] = "model_promoted"

    model: str
    version: int
    alias: Alias
    spec: ModelSpec
    approved_by: str
    promoted_at: str
    previous_version: int | None = None
    reason: str = ""
    rollback: bool = False
    by: str = ""
    traffic: int = 0


class ModelDeprecated(Event, frozen=True, kw_only=True):
    """A version should no longer be chosen; what serves it goes on."""

    owner: ClassVar[str] = "registry"
    name: ClassVar[str] = "model_deprecated"

    model: str
    version: int
    digest: str
    by: str
    deprecated_at: str
    reason: str = ""


class ModelArchived(Event, frozen=True, kw_only=True):
    """A version is out of use. Aliases that pointed to it are gone; it must not be served any more."""

    owner: ClassVar[str] = "registry"
    name: ClassVar[str] = "model_archived"

    model: str
    version: int
    digest: str
    by: str
    archived_at: str
    removed_aliases: list[str] = field(default_factory=list)
    reason: str = ""


# --- deployer -------------------------------------------------------------------------------------------------


class ModelDeployed(Event, frozen=True, kw_only=True):
    """This version now answers at `url` (the base of the Open Inference Protocol, stable per model and alias).

    `image` is the server program and `model_image` the model as container images, by digest, where there are any.
    `traffic` is the percentage of the requests to the champion's address that a challenger answers from now on, and
    `traffic_by` how: weights of an HTTPRoute, or numbers of replicas, which come near to it.
    """

    owner: ClassVar[str] = "deployer"
    name: ClassVar[str] = "model_deployed"

    model: str
    version: int
    digest: str
    alias: str
    url: str
    backend: str
    replicas: list[str]
    seconds: float
    deployed_at: str
    previous_version: int | None = None
    image: str = ""
    model_image: str = ""
    traffic: int = 0
    traffic_by: str = ""


class ModelDeploymentFailed(Event, frozen=True, kw_only=True):
    """This version could not be served; `reason` in words; `still_serving` goes on answering."""

    owner: ClassVar[str] = "deployer"
    name: ClassVar[str] = "model_deployment_failed"

    model: str
    version: int
    digest: str
    alias: str
    reason: str
    failed_at: str
    still_serving: int | None = None


class ModelUndeployed(Event, frozen=True, kw_only=True):
    """This version is no longer served under that alias."""

    owner: ClassVar[str] = "deployer"
    name: ClassVar[str] = "model_undeployed"

    model: str
    version: int
    digest: str
    alias: str
    undeployed_at: str
    reason: str = ""


# --- model server, and outside systems ------------------------------------------------------------------------


class PredictionLogged(Event, frozen=True, kw_only=True):
    """One inference request: what went in, what came out, which model answered. Failures too.

    `replica`, `epoch`, `sequence` number the requests of one server process without a gap, from 1. A request may
    hold several rows (the first axis of its tensors); `labels`, `scores` and `adverse` have one entry for each row:
    the decision, the probability of the favourable class (0–1; none for a regression), and whether the decision was
    unfavourable.
    `context` holds the values of protected columns that the model does not see, one tensor each of shape (N, 1).
    `runtime` names what computed the outputs, such as "onnxruntime 1.32.0 Linux x86_64".
    """

    owner: ClassVar[str] = "modelserver"
    name: ClassVar[str] = "prediction_logged"
    per_model: ClassVar[bool] = True

    prediction_id: str
    model: str
    version: int | None
    digest: str
    received_at: str
    status: Literal["answered", "failed"]
    replica: str = ""
    epoch: int = 0
    sequence: int = 0
    alias: str = ""
    request_id: str = ""
    subject_ref: str = ""
    duration_us: int = 0
    error: str = ""
    inputs: list[TensorData] = field(default_factory=list)
    outputs: list[TensorData] = field(default_factory=list)
    context: list[TensorData] = field(default_factory=list)
    labels: list[str | int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    adverse: list[bool] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    runtime: str = ""


class ReplicaEnded(Event, frozen=True, kw_only=True):
    """A server process ended and says how many requests it numbered: 1 to `last_sequence`, 0 for none at all.

    With it a record that is missing at the end of a replica's sequence is found too. A process that is killed says
    nothing.
    """

    owner: ClassVar[str] = "modelserver"
    name: ClassVar[str] = "replica_ended"
    per_model: ClassVar[bool] = True

    model: str
    version: int
    digest: str
    replica: str
    epoch: int
    last_sequence: int
    ended_at: str
    alias: str = ""


# --- explainer ------------------------------------------------------------------------------------------------


class PredictionExplained(Event, frozen=True, kw_only=True):
    """Why row `row` of a prediction came out as it did, computed with a recorded seed and background.

    `counterfactuals` is absent where none was asked for, and empty where none was found; the shortest comes first.
    """

    owner: ClassVar[str] = "explainer"
    name: ClassVar[str] = "prediction_explained"
    per_model: ClassVar[bool] = True

    prediction_id: str
    model: str
    version: int
    digest: str
    row: int
    trigger: Literal["policy", "request"]
    seed: int
    background_digest: str
    background_rows: int
    explained_label: str | int
    explained_output: str
    explained_at: str
    duration_ms: float
    software: dict[str, str]
    anchor: Anchor | None = None
    shap: Shap | None = None
    counterfactuals: list[Counterfactual] | None = None
    trust: Trust | None = None
    reasons: Reasons | None = None
    requested_by: str = ""
    warnings: list[str] = field(default_factory=list)


class ExplanationFailed(Event, frozen=True, kw_only=True):
    """No explanation could be computed; `state` tells a failure from a deadline that passed."""

    owner: ClassVar[str] = "explainer"
    name: ClassVar[str] = "explanation_failed"
    per_model: ClassVar[bool] = True

    prediction_id: str
    model: str
    version: int | None
    row: int
    state: Literal["failed", "expired"]
    reason: str
    failed_at: str
    attempts: int = 1


class ModelExplained(Event, frozen=True, kw_only=True):
    """What a version does as a whole, computed once when it is first promoted, over its background data."""

    owner: ClassVar[str] = "explainer"
    name: ClassVar[str] = "model_explained"
    per_model: ClassVar[bool] = True

    model: str
    version: int
    digest: str
    seed: int
    background_digest: str
    background_rows: int
    explained_output: str
    importance: list[ColumnImportance]
    effects: list[Effect]
    explained_at: str
    duration_ms: float
    software: dict[str, str]
    warnings: list[str] = field(default_factory=list)


# --- auditor --------------------------------------------------------------------------------------------------


class CheckpointSigned(Event, frozen=True, kw_only=True):
    """The audit log held `size` entries with this Merkle root; `note` is the C2SP signed note as text."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "checkpoint_signed"

    origin: str
    size: int
    root: str
    note: str
    signed_at: str


class GapFound(Event, frozen=True, kw_only=True):
    """Requests of one replica that were numbered but never arrived: `missing` holds inclusive [first, last] pairs."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "gap_found"

    model: str
    replica: str
    epoch: int
    missing: list[tuple[int, int]]
    found_at: str


class GapClosed(Event, frozen=True, kw_only=True):
    """Requests that were reported missing have arrived after all: `arrived` holds inclusive [first, last] pairs."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "gap_closed"

    model: str
    replica: str
    epoch: int
    arrived: list[tuple[int, int]]
    closed_at: str


class OutcomeRecorded(Event, frozen=True, kw_only=True):
    """What became of one decided row in the world: the ground truth, known later than the decision.

    `row` counts from 0. `label` is in the words of the model's classes; `observed_at` is when it became known.
    A later one for the same row supersedes this one; both stay. `by` told it, in the name of `on_behalf_of` where a
    system did so for a person.
    """

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "outcome_recorded"
    per_model: ClassVar[bool] = True

    prediction_id: str
    model: str
    label: str | int
    observed_at: str
    by: str
    row: int = 0
    on_behalf_of: str = ""
    comment: str = ""


class DecisionOverridden(Event, frozen=True, kw_only=True):
    """A person decided otherwise than the model did (or confirmed it, having looked) for one row of a prediction.

    `row` counts from 0; `decision` is in the words of the model's classes and is what holds from `overridden_at` on.
    A later one for the same row supersedes this one; both stay. `by` and `on_behalf_of` as for an outcome.
    """

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "decision_overridden"
    per_model: ClassVar[bool] = True

    prediction_id: str
    model: str
    decision: str | int
    reason: str
    by: str
    overridden_at: str
    row: int = 0
    on_behalf_of: str = ""


class MetricBreached(Event, frozen=True, kw_only=True):
    """A watched figure left its bounds."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "metric_breached"

    model: str
    metric: str
    value: float
    lower: float
    upper: float
    breached_at: str
    column: str = ""
    group: str = ""


class PayloadErased(Event, frozen=True, kw_only=True):
    """The payloads of these entries of the log, and their salts, are gone for good; the entries and every proof stay.

    `rule` says whether a person asked for it or a retention class came to its end. Whoever keeps copies of these
    predictions should erase them too.
    """

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "payload_erased"

    entries: list[ErasedEntry]
    rule: Literal["request", "retention"]
    reason: str
    by: str
    erased_at: str


class LegalHoldSet(Event, frozen=True, kw_only=True):
    """From now on no payload is erased that this hold covers: all, those of a model, of a subject, or a prediction.

    `value` is the model or the prediction; a subject is named in the auditor's store alone, which can forget.
    `since` (inclusive) and `until` bound when the request came in; empty for no bound.
    """

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "legal_hold_set"

    hold_id: str
    scope: Literal["all", "model", "subject", "prediction"]
    reason: str
    by: str
    set_at: str
    value: str = ""
    since: str = ""
    until: str = ""


class LegalHoldLifted(Event, frozen=True, kw_only=True):
    """This hold forbids nothing any more."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "legal_hold_lifted"

    hold_id: str
    reason: str
    by: str
    lifted_at: str


class RetentionSet(Event, frozen=True, kw_only=True):
    """Payloads of a model, or of versions with a tag (`key=value`), are kept for so many days from now on.

    `days` is 0 where they are kept for ever, and absent where the class was removed.
    """

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "retention_set"

    kind: Literal["model", "tag"]
    value: str
    reason: str
    by: str
    set_at: str
    days: int | None = None


class PayloadsRead(Event, frozen=True, kw_only=True):
    """People and systems were shown payloads through the auditor. Those of about a second travel together."""

    owner: ClassVar[str] = "auditor"
    name: ClassVar[str] = "payloads_read"

    reads: list[PayloadRead]


EVENTS: tuple[type[Event], ...] = (
    ModelRegistered,
    ModelPackaged,
    ModelPromoted,
    ModelDeprecated,
    ModelArchived,
    ModelDeployed,
    ModelDeploymentFailed,
    ModelUndeployed,
    PredictionLogged,
    ReplicaEnded,
    PredictionExplained,
    ExplanationFailed,
    ModelExplained,
    CheckpointSigned,
    GapFound,
    GapClosed,
    OutcomeRecorded,
    DecisionOverridden,
    MetricBreached,
    PayloadErased,
    LegalHoldSet,
    LegalHoldLifted,
    RetentionSet,
    PayloadsRead,
)

OUTSIDE = "outside"
"""The owner under which systems that are not Affiant's publish what `FROM_OUTSIDE` lists."""
FROM_OUTSIDE: tuple[type[Event], ...] = (PredictionLogged, OutcomeRecorded, DecisionOverridden)


def type_of(event: type[Event], owner: str = "") -> str:
    """The CloudEvents `type`, which is also the start of the subject: `affiant.<owner>.<event>.v<N>`."""
    return f"affiant.{owner or event.owner}.{event.name}.v{event.version_number}"


BY_TYPE: dict[str, type[Event]] = {type_of(event): event for event in EVENTS} | {
    type_of(event, OUTSIDE): event for event in FROM_OUTSIDE
}
