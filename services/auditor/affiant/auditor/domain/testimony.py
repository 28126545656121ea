"""What is said about a decision after it was made: its outcome in the world, and a person's override.

Pure. Both are about one row of one prediction; the later word for a row supersedes the earlier one.
"""

from __future__ import annotations

from typing import NamedTuple

from affiant.auditor.domain.rows import utc
from affiant.common.errors import Problem, Refused
from affiant.common.events import DecisionOverridden, ModelSpec, OutcomeRecorded

Testimony = OutcomeRecorded | DecisionOverridden

MOST_ROWS = 2**31
LONGEST_TEXT = 4_000


class Word(NamedTuple):
    """The look-up row of one testimony; `label` is the outcome, or the decision that was put in the model's place."""

    prediction_id: str
    row: int
    model: str
    label: str | int
    at: str
    by: str


def word(event: Testimony) -> Word:
    """What is looked up of `event`. Raises `Refused` where it could be linked to nothing or says nothing."""
    if not event.prediction_id:
        raise Refused("prediction_id is empty: it says which decision is meant")
    if not 0 <= event.row < MOST_ROWS:
        raise Refused(f"row {event.row} is none: rows count from 0")
    if not event.by:
        raise Refused("`by` is empty: it says who told this")
    if isinstance(event, OutcomeRecorded):
        _check_texts(event.comment, event.by, event.on_behalf_of)
        return Word(event.prediction_id, event.row, event.model, event.label, utc(event.observed_at), event.by)
    if not event.reason.strip():
        raise Refused("an override needs a reason")
    _check_texts(event.reason, event.by, event.on_behalf_of)
    return Word(event.prediction_id, event.row, event.model, event.decision, utc(event.overridden_at), event.by)


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > LONGEST_TEXT:
            raise Refused(f"a text of {len(text)} characters is too long; at most {LONGEST_TEXT} are kept")


def known_label(label: str | int, spec: ModelSpec | None) -> str | int:
    """`label` as the model's classes have it; "1" stands for 1 where the classes are numbers, and the reverse.

    Raises `Problem` naming the classes. Without a registered decision any label is taken as it is.
    """
    if spec is None or spec.decision is None or label in spec.decision.classes:
        return label
    for known in spec.decision.classes:
        if str(known) == str(label):
            return known
    classes = ", ".join(map(str, spec.decision.classes))
    raise Problem(f"{label!r} is no class of {spec.model}/{spec.version}", status=422, hint=f"its classes: {classes}")
