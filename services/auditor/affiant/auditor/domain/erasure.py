"""The rules of forgetting: how long a payload is kept, and what forbids to erase it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from affiant.common.events import ModelSpec

Scope = Literal["all", "model", "subject", "prediction"]


class Kept(NamedTuple):
    """A prediction whose payload is there. `replica` has the name that its runs of numbers have."""

    idx: int
    prediction_id: str
    model: str
    version: int
    subject_ref: str
    received_at: str
    replica: str
    epoch: int
    sequence: int


class Hold(NamedTuple):
    """A legal hold: nothing that it covers is erased, by whomever. `value` is the model, the subject or the prediction
    that it names; `since` (inclusive) and `until` bound when the request came in, empty for no bound.
    """

    hold_id: str
    scope: Scope
    value: str
    since: str
    until: str
    reason: str
    set_by: str
    set_at: str

    def covers(self, one: Kept) -> bool:
        """Whether it forbids to erase this prediction."""
        named = {"model": one.model, "subject": one.subject_ref, "prediction": one.prediction_id}
        if self.scope != "all" and named[self.scope] != self.value:
            return False
        return (not self.since or one.received_at >= self.since) and (not self.until or one.received_at < self.until)


class Rule(NamedTuple):
    """A retention class: payloads of a model, or of versions with a tag (`key=value`), are kept for so many days."""

    kind: Literal["model", "tag"]
    value: str
    days: int
    reason: str
    set_by: str
    set_at: str


def days_kept(model: str, spec: ModelSpec | None, rules: Iterable[Rule], default: int) -> int:
    """For how many days the payloads of a version are kept; 0 for ever.

    The model's own rule goes before its version's tags, those before the default. Of several tags the shortest counts.
    """
    by_name = {(rule.kind, rule.value): rule.days for rule in rules}
    own = by_name.get(("model", model))
    if own is not None:
        return own
    tags = [f"{key}={value}" for key, value in spec.tags.items()] if spec else []
    tagged = [by_name["tag", tag] for tag in tags if ("tag", tag) in by_name]
    return min((days for days in tagged if days), default=0) if tagged else default
