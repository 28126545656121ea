"""One line for each event on the bus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from rich.text import Text

from affiant.common import bus, events, ids, wire
from affiant.common.errors import Refused
from affiant.common.events import Event

DEAD_LETTER = "dead_letter"

_STYLES = {"failed": "red", "gap": "red", "breached": "red", "dead": "red", "explained": "cyan", "logged": ""}


@dataclass(frozen=True)
class Seen:
    """A message as it came by. `name` is the event's name, `dead_letter`, or the subject of what cannot be read."""

    subject: str
    name: str
    model: str
    time: str
    said: str
    envelope: wire.Envelope | None

    @classmethod
    def of(cls, subject: str, body: bytes, headers: Mapping[str, str] | None) -> Seen:
        """Read one message; one that cannot be read is shown with the reason instead."""
        if subject.startswith(f"{bus.DEAD_LETTERS}."):
            given = headers or {}
            said = f"{given.get('Affiant-Subject')} set aside: {given.get('Affiant-Reason')}"
            return cls(subject, DEAD_LETTER, "", ids.now(), said, None)
        try:
            envelope = wire.decode(subject, body, headers)
        except Refused as reason:
            return cls(subject, subject, "", ids.now(), f"malformed: {reason}", None)
        event = envelope.event
        name = event.name if event is not None else envelope.type
        said = describe(event) if event is not None else "of a type that this version does not know"
        return cls(subject, name, str(getattr(event, "model", "")), envelope.time, said, envelope)

    def data(self) -> dict[str, Any]:
        """For programs: the envelope's attributes and the event."""
        found = self.envelope
        if found is None:
            return {"subject": self.subject, "name": self.name, "time": self.time, "said": self.said}
        attributes = {"subject": self.subject, "id": found.id, "source": found.source, "type": found.type}
        event = json.loads(msgspec.json.encode(found.event)) if found.event is not None else None
        return attributes | {"name": self.name, "model": self.model, "time": found.time, "data": event}

    def line(self) -> Text:
        """For people: time, event, what happened."""
        moment = datetime.fromisoformat(self.time).astimezone() if self.time else datetime.now().astimezone()
        style = next((style for word, style in _STYLES.items() if word in self.name), "green")
        return Text(f"{moment:%H:%M:%S.%f}"[:12] + "  ", "dim") + Text(f"{self.name:<24}", style) + Text(self.said)


def describe(event: Event) -> str:
    """What an event says, in a line. Total over all events: a test holds it."""
    return _SAID[type(event)](event)


def _version(event: Any) -> str:
    return f"{event.model}/{event.version}"


def _logged(event: events.PredictionLogged) -> str:
    version = event.model if event.version is None else _version(event)
    if event.status == "failed":
        return f"{version} {event.prediction_id} failed: {event.error}"
    verdicts = ", ".join(str(label) for label in event.labels[:3]) + ("…" if len(event.labels) > 3 else "")
    adverse = f" ({sum(event.adverse)} of {len(event.adverse)} adverse)" if event.adverse else ""
    return f"{version} {event.prediction_id} → {verdicts}{adverse}"


def _explained(event: events.PredictionExplained) -> str:
    ways = [way.sentence for way in event.counterfactuals or []]
    sentence = event.anchor.sentence if event.anchor else ways[0] if ways else "SHAP values"
    return f"{_version(event)} {event.prediction_id}: {sentence}"


def _most(event: events.ModelExplained) -> str:
    return max(event.importance, key=lambda one: one.importance).column if event.importance else "nothing"


def _forever(days: int | None) -> str:
    return "the class is gone" if days is None else f"kept for {days} days" if days else "kept for ever"


_SAID: dict[type[Event], Callable[[Any], str]] = {
    events.ModelRegistered: lambda e: f"{_version(e)} by {e.spec.author}",
    events.ModelPackaged: lambda e: f"{_version(e)} by {e.by} as {e.image}",
    events.ModelPromoted: lambda e: (
        f"{_version(e)} is {e.alias}, approved by {e.approved_by}" + (" (rollback)" if e.rollback else "")
    ),
    events.ModelDeprecated: lambda e: f"{_version(e)} by {e.by}",
    events.ModelArchived: lambda e: f"{_version(e)} by {e.by}",
    events.ModelDeployed: lambda e: f"{_version(e)} answers as {e.alias} at {e.url} after {e.seconds:.1f} s",
    events.ModelDeploymentFailed: lambda e: f"{_version(e)} as {e.alias}: {e.reason}",
    events.ModelUndeployed: lambda e: f"{_version(e)} as {e.alias} {e.reason}".rstrip(),
    events.PredictionLogged: _logged,
    events.PredictionExplained: _explained,
    events.ModelExplained: lambda e: f"{_version(e)} as a whole: {_most(e)} counts most",
    events.ExplanationFailed: lambda e: f"{e.model} {e.prediction_id} {e.state}: {e.reason}",
    events.CheckpointSigned: lambda e: f"{e.size} entries, root {e.root[:16]}…",
    events.ReplicaEnded: lambda e: f"{_version(e)} replica {e.replica} ended after {e.last_sequence} requests",
    events.GapClosed: lambda e: f"{e.model} replica {e.replica}: arrived {', '.join(f'{a}–{b}' for a, b in e.arrived)}",
    events.OutcomeRecorded: lambda e: f"{e.model} {e.prediction_id} row {e.row + 1} became {e.label}, says {e.by}",
    events.DecisionOverridden: lambda e: (
        f"{e.model} {e.prediction_id} row {e.row + 1} overridden: {e.decision}, by {e.on_behalf_of or e.by}: {e.reason}"
    ),
    events.GapFound: lambda e: f"{e.model} replica {e.replica}: missing {', '.join(f'{a}–{b}' for a, b in e.missing)}",
    events.MetricBreached: lambda e: f"{e.model} {e.metric} = {e.value:g}, allowed {e.lower:g} to {e.upper:g}",
    events.PayloadErased: lambda e: f"{len(e.entries)} payloads erased by {e.by} ({e.rule}): {e.reason}",
    events.LegalHoldSet: lambda e: f"{e.scope} {e.value}".rstrip() + f" held by {e.by}: {e.reason}",
    events.LegalHoldLifted: lambda e: f"{e.hold_id} lifted by {e.by}: {e.reason}",
    events.RetentionSet: lambda e: f"{e.kind} {e.value}: {_forever(e.days)}, says {e.by}: {e.reason}",
    events.PayloadsRead: lambda e: f"{len(e.reads)} payloads, by {', '.join(sorted({one.by for one in e.reads}))}",
}
