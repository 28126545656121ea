"""Taking down what other systems send by HTTP: KServe's payload logger in halves, CloudEvents whole.

All of it goes by the bus, as if its sender had published it there under `affiant.outside`; nothing is put into the log
by another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain.arrival import Arrival, understand
from affiant.auditor.domain.kserve import Half, half, record, source_of
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import halves, outbox
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common import ids, wire
from affiant.common.errors import Problem, Refused, Unavailable
from affiant.common.events import OUTSIDE, PredictionLogged, type_of

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
BATCH = 500
KNOWN_HOURS = 24
_OURS = "affiant.outside."


class Sink:
    """Pairs halves in the store; the relay publishes what becomes of them. `open` gives it the bus."""

    def __init__(self, writer: Writer, settings: AuditorSettings, wake: Callable[[], None] = lambda: None) -> None:
        self._writer = writer
        self._settings = settings
        self._wake = wake
        self._js: JetStreamContext | None = None

    def open(self, js: JetStreamContext) -> None:
        """From here on whole events are taken."""
        self._js = js

    # --- halves -------------------------------------------------------------------------------------------------

    async def take(self, headers: Mapping[str, str], body: bytes) -> None:
        """Keep a half; with the other one it becomes a record. Durable when this returns.

        Raises `Problem` for what is no half, `Unavailable` where nothing can be written now: KServe's logger does not
        try again, so that what is refused is lost.
        """
        now = ids.now()
        one = half({name.lower(): value for name, value in headers.items()}, body, now)
        try:
            paired = await self._writer.write(partial(_take, one=one, now=now))
        except StoreAway as error:
            raise Unavailable(f"nothing can be written now: {error}", hint="another auditor may lead") from error
        if paired:
            self._wake()

    async def run(self) -> None:
        """Make failed records of halves whose other half does not come, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.give_up(datetime.now(UTC))
            except StoreAway as reason:
                log.warning("cannot look for lone halves now", reason=str(reason))

    async def give_up(self, now: datetime) -> int:
        """The same, once; returns how many there were."""
        before = ids.timestamp(now - timedelta(seconds=self._settings.half_wait_seconds))
        forgotten = ids.timestamp(now - timedelta(hours=KNOWN_HOURS))
        count = await self._writer.write(lambda connection: _give_up(connection, before, forgotten))
        if count:
            log.warning("requests of which one half never came", requests=count)
            self._wake()
        return count

    # --- whole events -------------------------------------------------------------------------------------------

    async def accept(self, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Publish the CloudEvents in an HTTP request (structured, batched or binary); their ids, in order.

        All or, where one of them is malformed, none: `Problem` (422) says which and why. Durable on the bus when this
        returns; an event that is sent again changes nothing.
        """
        given = {name.lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in given.items() if name == "content-type" or name.startswith("ce-")}
        messages = [_message(number, single) for number, single in enumerate(wire.unbatched(body, kept), start=1)]
        if self._js is None:
            raise Unavailable("the auditor is not connected to the bus yet", hint="try again in a moment")
        try:
            for message in messages:
                await self._js.publish(message.subject, message.body, headers=message.headers)
        except (NatsError, TimeoutError) as error:
            words = f"the bus did not take it: {error or type(error).__name__}"
            raise Unavailable(words, hint="send all of it again: what was taken is known by its id") from error
        return [message.id for message in messages]


def _take(connection: Connection, one: Half, now: str) -> bool:
    if not halves.add(connection, one, now):
        return False
    found = halves.of(connection, one.key)
    if len(found) < 2:
        return False
    _settle(connection, one.key, found)
    return True


def _give_up(connection: Connection, before: str, forgotten: str) -> int:
    keys = halves.lone(connection, before, BATCH)
    for key in keys:
        _settle(connection, key, halves.of(connection, key))
    halves.forget(connection, forgotten)
    return len(keys)


def _settle(connection: Connection, key: str, found: Mapping[str, Half]) -> None:
    """The record and the halves' end, in one transaction; the relay publishes the record."""
    event = record(found.get("request"), found.get("response"))
    source = source_of(next(iter(found.values())))
    try:
        message = _published(event, source)
    except Refused as reason:
        bare = msgspec.structs.replace(event, status="failed", inputs=[], outputs=[], error=str(reason))
        message = _published(bare, source)
    outbox.put(connection, message)
    halves.settle(connection, key, tuple(found))


def _published(event: PredictionLogged, source: str) -> wire.Message:
    """The event under a source of its own. Raises `Refused` when it is too large."""
    message = wire.encode(event, owner=OUTSIDE, id=event.prediction_id, time=event.received_at)
    body = msgspec.json.encode(msgspec.json.decode(message.body) | {"source": source})
    headers = message.headers | {"Nats-Msg-Id": _message_id(source, event.prediction_id)}
    return wire.Message(message.subject, body, headers, message.id)


def _message_id(source: str, event_id: str) -> str:
    """What the stream knows duplicates by: bound to the source, so that nobody's event passes for another's."""
    return sha256(f"{source}\n{event_id}".encode()).hexdigest()[:32]


def _message(number: int, single: wire.Single) -> wire.Message:
    """One event as it is published. Raises `Problem` naming its place."""
    headers = dict(single.headers or {})
    try:
        kind, model = _address(single, headers)
        subject = f"{kind}.{model}"
        statements, faults = understand([Arrival(subject, single.body, headers, "", "", number)])
        if faults:
            raise Refused(faults[0].reason)
    except (Refused, msgspec.DecodeError, ValueError, RecursionError) as reason:
        raise Problem(f"event {number} is refused: {reason}", status=422, hint="see docs/contracts") from reason
    found = statements[0].envelope
    sent = {name: value for name, value in headers.items() if name == "content-type" or name.startswith("ce-")}
    sent["Nats-Msg-Id"] = _message_id(found.source, found.id)
    return wire.Message(subject, single.body, sent, found.id)


def _address(single: wire.Single, headers: Mapping[str, str]) -> tuple[str, str]:
    """The type of an event and the model that it is about. Raises `Refused` for a type that is not taken here."""
    found = msgspec.json.decode(single.body)
    if not isinstance(found, dict):
        raise Refused("it is no JSON object")
    kind, data = (headers["ce-type"], found) if "ce-id" in headers else (found.get("type"), found.get("data"))
    if not (isinstance(kind, str) and kind.startswith(_OURS)):
        known = type_of(PredictionLogged, OUTSIDE)
        raise Refused(f"its type {kind!r} is none that an outside system may publish, such as {known}")
    model = data.get("model") if isinstance(data, dict) else None
    if not ids.MODEL_NAME.fullmatch(str(model or "")) or not ids.MODEL_NAME.fullmatch(kind.rsplit(".", 1)[-1]):
        raise Refused(f"its model {model!r} is no model name: lower-case letters, digits and dashes")
    return kind, str(model)


def told(message_ids: Sequence[str]) -> dict[str, object]:
    """What is answered to whoever sent whole events."""
    return {"accepted": len(message_ids), "ids": list(message_ids)}
