"""Taking down what people and systems say of decisions that were made: outcomes and overrides.

What is said is published as an event, and comes back to the auditor off the bus like every other: it is in the log
because it is on the bus, so that the two cannot differ. Nothing of it is kept here before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby

from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from affiant.auditor.actions.look import Lookup
from affiant.auditor.domain.testimony import Testimony, known_label, word
from affiant.auditor.domain.views import Told
from affiant.auditor.store import entries, projections, testimony
from affiant.auditor.store.database import Connection
from affiant.common import wire
from affiant.common.errors import NotFound, Problem, Refused, Unavailable
from affiant.common.events import OutcomeRecorded

MOST_AT_ONCE = 1_000
BATCH_EVENTS = 200
BATCH_BYTES = 500_000
AUDITED_SECONDS = 5.0
POLL_SECONDS = 0.02


class Depositions:
    """Checks statements against what is on record and publishes them. `open` gives it the bus."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._js: JetStreamContext | None = None

    def open(self, js: JetStreamContext) -> None:
        """From here on statements are taken."""
        self._js = js

    async def tell(self, said: Sequence[Testimony]) -> Told:
        """Publish `said`, all or, where one of them is about no decision on record or names no class, none.

        Durable on the bus when this returns, and then mostly in the log too: it is waited for a moment. Raises
        `Problem`, `NotFound`, `Unavailable`.
        """
        if not 1 <= len(said) <= MOST_AT_ONCE:
            raise Problem(f"1 to {MOST_AT_ONCE} statements are taken at once, not {len(said)}", status=422)
        checked = await self._lookup.ask(lambda connection: [_checked(connection, one) for one in said])
        messages = [wire.encode(event, owner="auditor") for event in checked]
        await self._publish(messages)
        ids = [message.id for message in messages]
        return Told(ids, await self._audited(ids))

    async def _publish(self, messages: Sequence[wire.Message]) -> None:
        if self._js is None:
            raise Unavailable("the auditor is not connected to the bus yet", hint="try again in a moment")
        try:
            for batch in batches(messages):
                message = wire.batched(batch)
                await self._js.publish(message.subject, message.body, headers=message.headers)
        except (NatsError, TimeoutError) as error:
            words = f"the bus did not take it: {error or type(error).__name__}"
            raise Unavailable(words, hint="send it again: of what is said twice the later word holds") from error

    async def _audited(self, ids: Sequence[str]) -> bool:
        """Whether the log holds all of them, waited for at most `AUDITED_SECONDS`."""
        deadline = asyncio.get_running_loop().time() + AUDITED_SECONDS
        waiting = set(ids)
        while True:
            waiting -= {one for one, _ in await self._lookup.ask(partial(entries.known, event_ids=waiting))}
            if not waiting or asyncio.get_running_loop().time() > deadline:
                return not waiting
            await asyncio.sleep(POLL_SECONDS)


def batches(messages: Iterable[wire.Message]) -> Iterable[list[wire.Message]]:
    """Messages of one subject that may travel together, in order within each subject."""
    ordered = sorted(messages, key=lambda message: message.subject)
    for _, group in groupby(ordered, key=lambda message: message.subject):
        batch: list[wire.Message] = []
        size = 0
        for message in group:
            if batch and (len(batch) == BATCH_EVENTS or size + len(message.body) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += len(message.body)
        yield batch


def _checked(connection: Connection, said: Testimony) -> Testimony:
    """`said` with the model of its prediction and the label as the model's classes have it."""
    about = testimony.about(connection, said.prediction_id)
    if about is None:
        raise NotFound(f"no prediction {said.prediction_id} is on record", hint="GET /v1/predictions lists them")
    if not 0 <= said.row < max(about.rows, 1):
        raise Problem(f"{said.prediction_id} has {about.rows} rows; there is no row {said.row}", status=422)
    spec = projections.spec(connection, about.model, about.version)
    if isinstance(said, OutcomeRecorded):
        event: Testimony = replace(said, model=about.model, label=known_label(said.label, spec))
    else:
        event = replace(said, model=about.model, decision=known_label(said.decision, spec))
    try:
        word(event)
    except Refused as reason:
        raise Problem(str(reason), status=422) from reason
    return event
