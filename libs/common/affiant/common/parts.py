"""The values inside events: tensors, columns, decisions, policies, the specification of a model, explanations.

They are imported from `affiant.common.events`, beside the events that hold them.
"""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct, field

Scalar = str | int | float | bool | None
"""One value of a tensor or a column. `None` is a missing value (NaN has no JSON)."""

Alias = Literal["champion", "challenger"]
ExplainMethod = Literal["anchor", "shap", "counterfactual"]
ALIASES: tuple[str, ...] = get_args(Alias)


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value inside an event."""


class TensorSpec(Part, frozen=True, kw_only=True):
    """One input or output of a model, in Open Inference Protocol terms; -1 is a variable dimension."""

    name: str
    datatype: str
    shape: list[int]


class TensorData(Part, frozen=True, kw_only=True):
    """One tensor as it went in or came out: `data` is flat and row-major, its length the product of `shape`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Scalar]


class Column(Part, frozen=True, kw_only=True):
    """One column of a model's table, and where its values are found in a request.

    `input` names the tensor, `index` the position on its second axis (0 where a column has a tensor of its own).
    """

    name: str
    kind: Literal["numeric", "categorical"]
    datatype: str
    input: str
    index: int = 0


ABOVE, BELOW = "above", "below"
"""The two sides of a regression's threshold; a value that equals it is above."""


class Decision(Part, frozen=True, kw_only=True):
    """How a model's outputs become a decision.

    A classifier: label (N,) or (N, 1), probabilities (N, C); `classes` lists the labels in the order of the
    probabilities, `favourable` is one of them. A regression: `value_output` (N,) or (N, 1) is held against
    `threshold`; the classes are `below` and `above`, and the other two outputs are not named.
    """

    label_output: str
    probability_output: str
    classes: list[str | int]
    favourable: str | int
    value_output: str = ""
    threshold: float = 0.0

    @property
    def is_regression(self) -> bool:
        return bool(self.value_output)

    def side(self, value: float) -> str:
        """Which side of the threshold a regression's value lies on."""
        return ABOVE if value >= self.threshold else BELOW


class ExplainPolicy(Part, frozen=True, kw_only=True):
    """Which logged predictions are explained without being asked for, and how.

    What counterfactuals may propose: `immutable` columns (protected ones always are) keep their value, `one_way`
    columns only move the way that is named. `stability_rate`: the share of explanations that are tried with other
    seeds as well, to see whether they are stable (0-1).
    """

    when: Literal["adverse", "all", "none"] = "adverse"
    rate: float = 1.0
    methods: list[ExplainMethod] = field(default_factory=lambda: ["anchor", "shap"])
    immutable: list[str] = field(default_factory=list)
    one_way: dict[str, Literal["increase", "decrease"]] = field(default_factory=dict)
    stability_rate: float = 0.02


class Policy(Part, frozen=True, kw_only=True):
    """What is promised for a version: how its predictions are logged and which are explained.

    `acked`: no answer leaves before its record is durable on the bus. `buffered`: before it is durable in the
    model server's own write-ahead file.
    """

    audit: Literal["acked", "buffered"] = "acked"
    explain: ExplainPolicy = field(default_factory=ExplainPolicy)


class Check(Part, frozen=True, kw_only=True):
    """One check that a version passed or failed before it could be promoted."""

    name: str
    passed: bool
    detail: str


class ReasonText(Part, frozen=True, kw_only=True):
    """How a column is named as a reason against a person.

    `above` and `below` are said instead where the value lies above or below the middle of the baseline's values.
    """

    column: str
    text: str
    above: str = ""
    below: str = ""


class ReasonTable(Part, frozen=True, kw_only=True):
    """The words for the reasons of adverse decisions. `digest` is that of the file; who approves a version, approves
    its words."""

    digest: str
    texts: list[ReasonText]


class ModelSpec(Part, frozen=True, kw_only=True):
    """Everything that another part must know of a version in order to serve, explain or audit it.

    `protected` columns that the model does not take as inputs travel beside them in a request and are logged.
    Digests are `sha256:<64 hex digits>` of the file's bytes. `image` is the container image that holds the file under
    `/models` (`<registry>/<repository>@sha256:…`, a ModelCar), where one was made: never a tag.
    """

    model: str
    version: int
    digest: str
    size_bytes: int
    author: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    columns: list[Column]
    protected: list[str] = field(default_factory=list)
    decision: Decision | None = None
    background_digest: str | None = None
    reasons: ReasonTable | None = None
    policy: Policy = field(default_factory=Policy)
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    image: str = ""


class Anchor(Part, frozen=True, kw_only=True):
    """An anchor (Ribeiro, Singh, Guestrin 2018): while the clauses hold, the decision stays, with `precision`.

    `coverage` is the share of the background rows that the clauses cover. `success` is false where no anchor
    reached `threshold`; then the best one found is given. No clause means: the decision is almost always this one.

    The precision was measured on `samples` rows; with `confidence` it lies from `precision_low` to `precision_high`
    (the Chernoff interval by the Kullback-Leibler divergence, as for a fixed number of rows).
    """

    clauses: list[str]
    precision: float
    coverage: float
    threshold: float
    success: bool
    sentence: str
    precision_low: float | None = None
    precision_high: float | None = None
    confidence: float | None = None
    samples: int | None = None


class ShapValue(Part, frozen=True, kw_only=True):
    """The contribution of one column's value, in the units of its `Shap`."""

    column: str
    value: Scalar
    shap: float


class Shap(Part, frozen=True, kw_only=True):
    """SHAP values (Lundberg, Lee 2017): `baseline` + the sum of the values = `output`, but for `additivity_error`.

    All in `units`: those of the explained output (a probability, 0-1), or "log-odds" and the like where the values are
    those of the scores behind it. `estimator` says how they were computed.
    """

    baseline: float
    output: float
    values: list[ShapValue]
    additivity_error: float
    estimator: str
    units: str = "probability"


class Reason(Part, frozen=True, kw_only=True):
    """A principal reason in the words of the version's table. `share` (0-1) of all that counted against the person."""

    column: str
    value: Scalar
    text: str
    share: float


class Reasons(Part, frozen=True, kw_only=True):
    """The principal reasons of an adverse decision, the strongest first, from the SHAP values against `baseline`.

    They were tried on the model itself: with the columns of all reasons set to the baseline's values, the output that
    the favourable decision depends on goes from `score_before` to `score_after` (the mean), and the share
    `decision_changes` (0-1) of the baseline's rows then gets the favourable decision. `faithful`: it moves toward
    approval. `objection` says why they must not be told to the person as they stand; empty where they may.
    """

    reasons: list[Reason]
    table_digest: str
    baseline: str
    score_before: float
    score_after: float
    decision_changes: float
    faithful: bool
    objection: str = ""


class Trust(Part, frozen=True, kw_only=True):
    """How far an explanation can be trusted.

    `distance` (Gower's, 0-1) is the row's mean distance to its nearest background rows, `distance_percentile` (0-100)
    its place among those rows' own: near 100 the background hardly knows such cases. Where the explanation was tried
    with more than one of `seeds`, the overlaps tell how much of it came again (mean Jaccard index, 0-1) of the columns
    of the anchor and of the columns with the largest SHAP values; `unstable` means: too little to be relied on.
    """

    distance: float
    distance_percentile: float
    seeds: int = 1
    anchor_overlap: float | None = None
    shap_overlap: float | None = None
    unstable: bool = False


class Change(Part, frozen=True, kw_only=True):
    """One cell of a counterfactual: what the column holds and what it would have to hold."""

    column: str
    before: Scalar
    after: Scalar


class Counterfactual(Part, frozen=True, kw_only=True):
    """A way to another decision (Wachter, Mittelstadt, Russell 2018): with these changes the model decides `label`.

    `score` is the probability of the favourable class then (0-1), or a regression's value, as the model itself gave
    it; `distance` is Gower's,
    the sum over the changed columns of a share of the background's range, 1 for another category.
    """

    changes: list[Change]
    label: str | int
    score: float
    distance: float
    sentence: str


class ColumnImportance(Part, frozen=True, kw_only=True):
    """Permutation importance (Breiman 2001): how much the score moves, on average, when the column is shuffled.

    `importance` is the mean absolute change of the explained output, `deviation` its standard deviation over repeats.
    """

    column: str
    importance: float
    deviation: float


class Effect(Part, frozen=True, kw_only=True):
    """How the explained output goes with one column: `values[i]` at `points[i]`.

    `ale`: accumulated local effects (Apley, Zhu 2020), centred on 0, numeric columns only; `partial_dependence`
    (Friedman 2001): the mean output with the column set to the point in every background row.
    """

    column: str
    kind: Literal["ale", "partial_dependence"]
    points: list[Scalar]
    values: list[float]


class ErasedEntry(Part, frozen=True, kw_only=True):
    """An entry of the log whose payload was erased. Of a prediction also what it was known and numbered by, so that its
    number does not look like a gap: `replica` is `outside:<name>` for one of another system.
    """

    index: int
    prediction_id: str = ""
    model: str = ""
    replica: str = ""
    epoch: int = 0
    sequence: int = 0


class PayloadRead(Part, frozen=True, kw_only=True):
    """Somebody was shown a payload: of one prediction, or of the entries `first` to below `last` of the log."""

    by: str
    at: str
    how: str
    prediction_id: str = ""
    first: int = 0
    last: int = 0
