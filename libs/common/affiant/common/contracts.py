"""The contracts that others build on, generated from the code: a JSON Schema for each event, one AsyncAPI document.

`documents()` is the whole content of `docs/contracts/` but for the example messages, which are never generated
again: an old message must parse for ever. The AsyncAPI document is written from the same declarations that the
bus is made of (`affiant.common.bus`), so it also covers what FastStream does not serve: the model server and the
auditor's own pull loop.

AsyncAPI: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from affiant.common import bus, wire
from affiant.common.events import BY_TYPE, OUTSIDE, Event

ASYNCAPI = "asyncapi.json"


def documents() -> dict[str, str]:
    """File name below `docs/contracts/` → its text."""
    files = {f"schemas/{kind}.json": _text(_schema(kind, event)) for kind, event in BY_TYPE.items()}
    return files | {ASYNCAPI: _text(asyncapi())}


def stale(folder: Path) -> list[str]:
    """What in `folder` is not as the code would write it, one line each."""
    wanted = documents()
    lines = [
        f"{name} is {'missing' if not (folder / name).exists() else 'out of date'}"
        for name, text in wanted.items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
    ]
    known = {folder / name for name in wanted}
    return lines + [f"{path.relative_to(folder)} is left over" for path in _written(folder) if path not in known]


def write(folder: Path) -> list[str]:
    """Make `folder` as the code says; returns what was changed, one line each."""
    changed = stale(folder)
    wanted = documents()
    for name, text in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in _written(folder):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    return changed


def _written(folder: Path) -> list[Path]:
    return sorted(folder.glob("schemas/*.json"))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _schema(kind: str, event: type[Event]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:affiant:schema:{kind}",
        "title": f"The `data` of a CloudEvent of type {kind}",
        **msgspec.json.schema(event),
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document: every subject, who sends it, which durable consumers receive it."""
    events = tuple(dict.fromkeys(BY_TYPE.values()))
    _, schemas = msgspec.json.schema_components(events, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Affiant",
            "version": "1.0.0",
            "description": "Events between the registry, the deployer, the model servers, the explainer, the "
            "auditor and other systems. Each message is a CloudEvent 1.0 in structured JSON. Events of one subject "
            "that become known together may share a message, in the JSON batch format: content-type "
            f"{wire.BATCH_CONTENT_TYPE}, an array of at most {wire.MAX_BATCH_EVENTS} of the documents described here.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": wire.CONTENT_TYPE,
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "NATS with JetStream; each user has a private inbox and the fewest permissions.",
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            }
        },
        "channels": {kind: _channel(kind, event) for kind, event in BY_TYPE.items()},
        "operations": _operations(),
        "components": {
            "messages": {kind: _message(kind, event) for kind, event in BY_TYPE.items()},
            "schemas": schemas,
            "securitySchemes": {"user": {"type": "userPassword", "description": "A NATS user with its password."}},
        },
    }


def _channel(kind: str, event: type[Event]) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": f"{kind}.{{model}}" if event.per_model else kind,
        "title": event.name,
        "description": _first_line(event),
        "messages": {event.name: {"$ref": f"#/components/messages/{kind}"}},
    }
    if event.per_model:
        channel["parameters"] = {"model": {"description": "The model's name: a DNS label."}}
    return channel


def _message(kind: str, event: type[Event]) -> dict[str, Any]:
    return {
        "name": kind,
        "title": event.name,
        "summary": _first_line(event),
        "contentType": wire.CONTENT_TYPE,
        "headers": {
            "type": "object",
            "properties": {
                "content-type": {"type": "string", "const": wire.CONTENT_TYPE},
                "Nats-Msg-Id": {
                    "type": "string",
                    "description": "Duplicates are known by it; the event's id, but for model servers.",
                },
                "traceparent": {"type": "string", "description": "W3C trace context."},
            },
        },
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "data"],
            "properties": {
                "specversion": {"type": "string", "const": "1.0"},
                "id": {"type": "string", "description": "Unique; the same when the same fact is sent again."},
                "source": {"type": "string"},
                "type": {"type": "string", "const": kind},
                "time": {"type": "string", "format": "date-time"},
                "subject": {"type": "string"},
                "datacontenttype": {"type": "string", "const": "application/json"},
                "traceparent": {"type": "string"},
                "data": {"$ref": f"#/components/schemas/{event.__name__}"},
            },
        },
    }


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for kind, event in BY_TYPE.items():
        sender = OUTSIDE if kind.startswith(f"affiant.{OUTSIDE}.") else event.owner
        operations[f"{sender}.sends.{event.name}"] = _operation("send", kind, event, f"Sent by: {sender}.")
        for durable in bus.DURABLES:
            if any(_matches(pattern, kind) for pattern in durable.filters):
                text = f"Received by the {durable.service} through {durable.name} on stream {durable.stream}."
                operations[f"{durable.name}.receives.{sender}.{event.name}"] = _operation("receive", kind, event, text)
    return operations


def _operation(action: str, kind: str, event: type[Event], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{kind}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{kind}/messages/{event.name}"}],
    }


def _matches(pattern: str, subject: str) -> bool:
    """Whether a NATS filter that ends in `>` covers a subject."""
    return subject.startswith(pattern.removesuffix(">")) if pattern.endswith(">") else pattern == subject


def _first_line(event: type[Event]) -> str:
    return (event.__doc__ or "").strip().splitlines()[0]
