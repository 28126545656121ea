"""What arrives: a message off the bus, decoded by itself, so that one bad message spoils nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct

from affiant.auditor.domain.rows import Prediction, prediction
from affiant.auditor.domain.testimony import word
from affiant.common import wire
from affiant.common.errors import Refused
from affiant.common.events import OUTSIDE, DecisionOverridden, OutcomeRecorded, PredictionLogged

MOST_ATTRIBUTES = 8_192
"""A leaf has to fit into 65,535 bytes (C2SP tlog-tiles), of which one character may take six."""

Identity = tuple[str, bool]
"""An event's id, and whether it is an outside system's."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it came. The bus keeps its message in `stream` at `sequence`; `place` is the event's place in it."""

    subject: str
    body: bytes
    headers: Mapping[str, str] | None
    durable: str
    stream: str
    sequence: int
    place: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """An arrival that cannot enter the record, and why: `undecodable`, `conflict` or `unstorable`."""

    arrival: Arrival
    kind: str
    reason: str
    event_id: str = ""


class Statement(Struct, frozen=True):
    """An arrival that was understood, or is of a type that this code does not know. `prediction` where it is one."""

    arrival: Arrival
    envelope: wire.Envelope
    prediction: Prediction | None = None

    @property
    def identity(self) -> Identity:
        """What this event is known by: one id, one event, among ours and among the outside systems'."""
        return self.envelope.id, self.arrival.subject.startswith(f"affiant.{OUTSIDE}.")

    def same_as(self, other: Statement) -> bool:
        """Is it the same event, published or delivered again?"""
        mine, its = self.envelope, other.envelope
        return (mine.type, mine.source, mine.body) == (its.type, its.source, its.body)


def understand(arrivals: Iterable[Arrival]) -> tuple[list[Statement], list[Fault]]:
    """Each arrival decoded by itself: those that are events, and those that are not."""
    statements: list[Statement] = []
    faults: list[Fault] = []
    for arrival in arrivals:
        try:
            statements.append(_understand(arrival))
        except Refused as reason:
            faults.append(Fault(arrival, "undecodable", str(reason)))
        except Exception as error:
            # Decoding needs nothing but the message: what goes wrong is its fault (a thousand brackets, say). Whatever
            # is let through here would end the process, and the next one with the same message.
            faults.append(Fault(arrival, "undecodable", f"{type(error).__name__}: {error}"))
    return statements, faults


def _understand(arrival: Arrival) -> Statement:
    envelope = wire.decode(arrival.subject, arrival.body, arrival.headers)
    length = sum(len(text) for text in (envelope.id, envelope.source, envelope.type, envelope.time))
    if length > MOST_ATTRIBUTES:
        raise Refused(f"its id, source, type and time have {length} characters; at most {MOST_ATTRIBUTES} fit a leaf")
    event = envelope.event
    if isinstance(event, OutcomeRecorded | DecisionOverridden):
        word(event)  # what it could not be linked by is refused here, before it is an entry
    if not isinstance(event, PredictionLogged):
        return Statement(arrival, envelope)
    # One id names one prediction everywhere; with two, a second event could pass for the first.
    if event.prediction_id != envelope.id:
        raise Refused(f"the event's id {envelope.id!r} must be its prediction_id {event.prediction_id!r}")
    return Statement(arrival, envelope, prediction(event))


def kept_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """The headers without which the body could not be decoded again; None where the body says it all."""
    if headers is not None and headers.get("content-type") == wire.CONTENT_TYPE:
        return None
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if given.get("content-type", "").startswith(wire.CONTENT_TYPE):
        return None
    needed = ("content-type", "nats-msg-id", "traceparent")
    return {name: value for name, value in given.items() if name in needed or name.startswith("ce-")}
