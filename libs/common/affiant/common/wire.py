"""Events on the wire: CloudEvents 1.0 over NATS.

We write structured mode: one JSON document, one string of bytes that can be hashed, with the header
`content-type: application/cloudevents+json`. We read structured mode, binary mode (`ce-*` headers) and plain JSON
(the type is then the subject, the id the `Nats-Msg-Id`).

Events of one subject that become known together may travel together, in the JSON batch format: an array of structured
events, `content-type: application/cloudevents-batch+json`. `unbatched` takes such a message apart again; each event
in it is an event like any other, with its own bytes.

CloudEvents: https://github.com/cloudevents/spec (1.0.2), JSON format sections 3 and 4; NATS binding, both versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from affiant.common import ids
from affiant.common.errors import Refused
from affiant.common.events import BY_TYPE, FROM_OUTSIDE, OUTSIDE, Event, type_of

CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 1_000
"""A mebibyte of `[0,0,0…]` must not become half a million dead letters."""
MAX_EVENT_BYTES = 1_000_000
"""nats-server refuses messages over 1 MiB by default; some room is left for headers."""


class Message(Struct, frozen=True):
    """What is handed to the bus: `headers` carries the id again as `Nats-Msg-Id`, for de-duplication."""

    subject: str
    body: bytes
    headers: dict[str, str]
    id: str


class Envelope(Struct, frozen=True):
    """What came off the bus. `event` is `None` for a type, or a version of it, that this code does not know."""

    id: str
    source: str
    type: str
    time: str
    event: Event | None
    body: bytes
    traceparent: str = ""


class Single(Struct, frozen=True):
    """One event of a message, as if it had come in a message of its own."""

    body: bytes
    headers: Mapping[str, str] | None


class _Out(Struct, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    subject: str
    datacontenttype: str
    data: Event
    traceparent: str = ""


class _In(Struct):
    id: str
    source: str
    type: str
    specversion: str = "1.0"
    time: str = ""
    traceparent: str = ""
    data: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"null"))


_OUR_SOURCES = "affiant://"

_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(_In)
_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_decoders: dict[str, msgspec.json.Decoder[Event]] = {
    kind: msgspec.json.Decoder(event) for kind, event in BY_TYPE.items()
}


def encode(event: Event, *, owner: str, id: str = "", time: str = "", traceparent: str = "") -> Message:
    """The message for `event`, published by `owner`.

    `id` must be the same each time the same fact is published: it is what duplicates are recognised by. A new
    UUIDv7 where none is given. Raises `Refused` when `owner` does not own this kind of event.
    """
    if owner != event.owner and not (owner == OUTSIDE and isinstance(event, FROM_OUTSIDE)):
        raise Refused(f"{owner} may not publish {event.name}: it belongs to {event.owner}")
    kind = type_of(type(event), owner)
    model = str(getattr(event, "model", ""))
    message_id = id or ids.uuid7()
    body = _encoder.encode(
        _Out(
            specversion="1.0",
            id=message_id,
            source=_source(owner),
            type=kind,
            time=time or ids.now(),
            subject=model or owner,
            datacontenttype="application/json",
            data=event,
            traceparent=traceparent,
        )
    )
    if len(body) > MAX_EVENT_BYTES:
        raise Refused(f"{event.name} takes {len(body)} bytes; at most {MAX_EVENT_BYTES} fit into a message")
    headers = {"content-type": CONTENT_TYPE, "Nats-Msg-Id": message_id}
    if traceparent:
        headers["traceparent"] = traceparent
    return Message(f"{kind}.{model}" if event.per_model else kind, body, headers, message_id)


def batched(messages: Sequence[Message]) -> Message:
    """One message that holds all of `messages`, which have one subject and are structured; alone, one stays as it is.

    Its id is made from theirs, so that the same batch sent again is recognised as the same.
    """
    if len(messages) == 1:
        return messages[0]
    # Of what duplicates of each are recognised by: who cannot know those cannot know this one.
    message_ids = "\n".join(message.headers["Nats-Msg-Id"] for message in messages)
    batch_id = f"batch.{hashlib.sha256(message_ids.encode()).hexdigest()}"
    body = b"[" + b",".join(message.body for message in messages) + b"]"
    headers = {"content-type": BATCH_CONTENT_TYPE, "Nats-Msg-Id": batch_id}
    return Message(messages[0].subject, body, headers, batch_id)


def unbatched(body: bytes, headers: Mapping[str, str] | None) -> list[Single]:
    """The events that a message holds, each for `decode`. A message that is no batch holds one: itself.

    So does one that says it is a batch and is none: decoding it will say why it is refused.
    """
    if not _content_type(headers).startswith(BATCH_CONTENT_TYPE):
        return [Single(body, headers)]
    try:
        events = _batch_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return [Single(body, headers)]
    if len(events) > MAX_BATCH_EVENTS:
        return [Single(body, headers)]
    return [Single(bytes(event), {"content-type": CONTENT_TYPE}) for event in events]


def _content_type(headers: Mapping[str, str] | None) -> str:
    for name, value in (headers or {}).items():
        if name == "content-type" or name.lower() == "content-type":
            return value
    return ""


def decode(subject: str, body: bytes, headers: Mapping[str, str] | None) -> Envelope:
    """The event in a message. Raises `Refused` with the reason when it is malformed.

    An event of an unknown type or of a newer version is no error: its envelope has `event=None` and keeps the
    bytes. An event whose type, or whose source where it is one of ours, does not belong to the subject that it
    arrived on is refused: subjects are what permissions are given for.
    """
    if headers is not None and headers.get("content-type") == CONTENT_TYPE:
        # As our own publishers write it: no other header says anything about the event.
        given, parts = headers, _structured(body)
    else:
        given = {key.lower(): value for key, value in (headers or {}).items()}
        parts = _parts(subject, body, given)
    if parts.type and not (subject == parts.type or subject.startswith(parts.type + ".")):
        raise Refused(f"the event says that it is {parts.type} but arrived on {subject}")
    if parts.source.lower().startswith(_OUR_SOURCES) and parts.source != _source(_owner(subject)):
        raise Refused(f"the event says that it comes from {parts.source} but arrived on {subject}")
    decoder = _decoders.get(parts.type)
    event = None if decoder is None else _event(decoder, parts)
    if event is not None and event.per_model:
        _check_model(event, subject)
    trace = parts.traceparent or given.get("traceparent", "")
    return Envelope(parts.id, parts.source, parts.type, parts.time, event, body, trace)


def _source(owner: str) -> str:
    return f"{_OUR_SOURCES}{owner}"


def _owner(subject: str) -> str:
    """The second token of `affiant.<owner>.<event>…`; empty where there is none."""
    return subject.partition(".")[2].partition(".")[0]


def _parts(subject: str, body: bytes, headers: Mapping[str, str]) -> _In:
    content_type = headers.get("content-type", "")
    if content_type.startswith(CONTENT_TYPE):
        return _structured(body)
    if content_type.startswith(BATCH_CONTENT_TYPE):
        raise Refused(f"a batch of CloudEvents is a JSON array of at most {MAX_BATCH_EVENTS} events; this is not")
    if "ce-id" in headers:
        return _binary(body, headers)
    if _looks_structured(body):
        return _structured(body)
    return _plain(subject, body, headers)


def _looks_structured(body: bytes) -> bool:
    return body[:200].lstrip().startswith(b"{") and b'"specversion"' in body[:1000]


def _structured(body: bytes) -> _In:
    try:
        parts = _envelope_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"not a CloudEvent in JSON: {error}") from error
    return _checked(parts)


def _binary(body: bytes, headers: Mapping[str, str]) -> _In:
    return _checked(
        _In(
            id=headers.get("ce-id", ""),
            source=headers.get("ce-source", ""),
            type=headers.get("ce-type", ""),
            specversion=headers.get("ce-specversion", ""),
            time=headers.get("ce-time", ""),
            traceparent=headers.get("ce-traceparent", ""),
            data=msgspec.Raw(body),
        )
    )


def _plain(subject: str, body: bytes, headers: Mapping[str, str]) -> _In:
    kind = next((known for known in BY_TYPE if subject == known or subject.startswith(known + ".")), subject)
    owner = _owner(subject) or "unknown"
    if not headers.get("nats-msg-id"):
        raise Refused("plain JSON needs a Nats-Msg-Id header: without an id a duplicate cannot be recognised")
    return _In(id=headers["nats-msg-id"], source=f"nats://{owner}", type=kind, data=msgspec.Raw(body))


def _checked(parts: _In) -> _In:
    if not (parts.id and parts.source and parts.type):
        absent = next(attribute for attribute in ("id", "source", "type") if not getattr(parts, attribute))
        raise Refused(f"the CloudEvent has no {absent}")
    if parts.specversion != "1.0":
        raise Refused(f"CloudEvents version {parts.specversion!r} is not known; 1.0 is")
    return parts


def _event(decoder: msgspec.json.Decoder[Event], parts: _In) -> Event:
    try:
        return decoder.decode(parts.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{parts.type} is malformed: {error}") from error


def _check_model(event: Any, subject: str) -> None:
    if subject.rsplit(".", 1)[-1] != event.model:
        raise Refused(f"the event is about model {event.model!r} but arrived on {subject}")
