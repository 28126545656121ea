"""The dead-letter stream as a person works with it: read, publish again, delete.

What `affiant.common.delivery` sets aside: the body as it was, the story in `Affiant-…` headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from affiant.common import bus, wire
from affiant.common.errors import Conflict, NotFound

STREAM = bus.DEAD.name


@dataclass(frozen=True)
class DeadLetter:
    """One message that was set aside. `number` is its sequence in the dead-letter stream."""

    number: int
    at: str
    durable: str
    subject: str
    reason: str
    deliveries: int
    message_id: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def summary(self) -> dict[str, Any]:
        """Without headers and body, for lists."""
        names = ("number", "at", "durable", "subject", "reason", "deliveries", "message_id")
        return {name: getattr(self, name) for name in names} | {"bytes": len(self.body)}


async def listed(js: JetStreamContext, durable: str = "", limit: int | None = None) -> list[DeadLetter]:
    """Dead letters, oldest first; of several, the last `limit`."""
    state = (await js.stream_info(STREAM)).state
    found: list[DeadLetter] = []
    for number in range(state.last_seq, max(state.first_seq, 1) - 1, -1):
        if limit is not None and len(found) == limit:
            break
        try:
            letter = await get(js, number)
        except NotFound:
            continue  # it was replayed or dropped
        if not durable or letter.durable == durable:
            found.append(letter)
    return found[::-1]


async def get(js: JetStreamContext, number: int) -> DeadLetter:
    """One dead letter. Raises `NotFound`."""
    try:
        return parse(await js.get_msg(STREAM, number))
    except NotFoundError as error:
        raise NotFound(f"there is no dead letter {number}", hint="affiant dead-letters list") from error


async def replay(js: JetStreamContext, letter: DeadLetter) -> int:
    """Publish it to its old subject, then delete it: it is never in neither place. Returns its number.

    Raises `Conflict` when the bus takes it for a duplicate of the original and so would drop it.
    """
    if not letter.subject:
        raise Conflict(f"dead letter {letter.number} does not say which subject it came from")
    acked = await js.publish(letter.subject, letter.body, headers=headers_again(letter))
    if acked.duplicate:
        raise Conflict(
            f"the bus still holds the original of dead letter {letter.number} for a duplicate",
            hint="it forgets ids after two minutes: wait, then replay again",
        )
    await drop(js, letter)
    return letter.number


async def drop(js: JetStreamContext, letter: DeadLetter) -> None:
    """Delete it."""
    await js.delete_msg(STREAM, letter.number)


def headers_again(letter: DeadLetter) -> dict[str, str]:
    """The headers to publish it with.

    The message id is a new one, because the bus drops what has an id that it saw lately: the event's own id, by
    which consumers know duplicates, is in the body or in `ce-id`. Plain JSON has no other id than the message's.
    """
    kept = {name: text for name, text in letter.headers.items() if not name.lower().startswith(("affiant-", "nats-"))}
    own = letter.message_id if letter.message_id and not _carries_its_id(letter) else f"replay.{letter.number}"
    return kept | {"Nats-Msg-Id": own}


def _carries_its_id(letter: DeadLetter) -> bool:
    """Whether it is a CloudEvent, binary or structured, rather than plain JSON."""
    headers = {name.lower(): text for name, text in letter.headers.items()}
    structured = headers.get("content-type", "").startswith(wire.CONTENT_TYPE)
    return structured or "ce-id" in headers or b'"specversion"' in letter.body[:1000]


def parse(message: RawStreamMsg) -> DeadLetter:
    """A stored message as a dead letter."""
    headers = dict(message.headers or {})
    return DeadLetter(
        number=message.seq or 0,
        at=message.time.isoformat() if message.time else "",
        durable=headers.get("Affiant-Durable", (message.subject or "").removeprefix(f"{bus.DEAD_LETTERS}.")),
        subject=headers.get("Affiant-Subject", ""),
        reason=headers.get("Affiant-Reason", "no reason was recorded"),
        deliveries=int(headers.get("Affiant-Deliveries", "0")),
        message_id=headers.get("Affiant-Msg-Id", ""),
        headers=headers,
        body=message.data or b"",
    )
