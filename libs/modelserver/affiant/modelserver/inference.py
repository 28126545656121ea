"""The one action: draw a number, predict, keep the record, answer.

Every request that gets this far has a record, whatever becomes of it, and no answer leaves before its record is kept:
errors included.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from affiant.common import ids, trace, wire
from affiant.common.errors import Problem, Refused
from affiant.common.events import PredictionLogged, Scalar, TensorData
from affiant.modelserver import protocol, record, tensors
from affiant.modelserver.audit import Audit
from affiant.modelserver.model import Model
from affiant.modelserver.publisher import NotDurable
from affiant.modelserver.reader import Reader
from affiant.modelserver.record import Asked, Identity, Ticket

log = structlog.get_logger(__name__)

OWNER = "modelserver"
_encode = msgspec.json.Encoder().encode


class Call(Struct, frozen=True):
    """A request as it came: `refused` is what the door found wrong with it, before it could be read."""

    body: bytes
    traceparent: str = ""
    refused: Problem | None = None


class Answer(Struct, frozen=True):
    """An HTTP status and a JSON document."""

    status: int
    body: bytes


class _Outcome(Struct, frozen=True):
    """What would be answered, and the record that must be kept before."""

    answer: Answer
    event: PredictionLogged


class Inference:
    """Use from one event loop. `on_done(status, seconds)` is told of each request."""

    def __init__(
        self,
        model: Model,
        who: Identity,
        audit: Audit,
        on_done: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._model = model
        self._who = who
        self._audit = audit
        self._on_done = on_done
        self._reader = Reader(model.spec, model.slots)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._secret = os.urandom(16)
        self.requests = 0

    async def answer(self, call: Call) -> Answer:
        """What goes back to the client, once the record is kept. Does not raise on account of a request."""
        full = self._audit.full()
        if full:
            self._on_done(503, 0.0)
            return _error(503, full)
        self.requests += 1
        ticket = Ticket(ids.uuid7(), self.requests, ids.now(), time.monotonic_ns())
        asked = Asked()
        try:
            outcome = await self._predict(call, ticket, asked)
        except Problem as problem:
            outcome = self._failed(ticket, asked, problem.status, problem.message)
        except asyncio.CancelledError:
            # The server stops before the model is done: nobody is answered, but the number was drawn.
            given_up = self._failed(ticket, asked, 503, "not answered: the server stopped before the model was done")
            self._audit.leave(self._message(given_up.event, trace.child_of(call.traceparent)))
            raise
        except Exception as error:  # whatever onnxruntime raises: its exceptions share no base class
            log.warning("the model failed", prediction_id=ticket.prediction_id, reason=str(error))
            outcome = self._failed(ticket, asked, 500, f"the model failed: {error}")
        answer = await self._keep(ticket, asked, outcome, trace.child_of(call.traceparent))
        self._on_done(answer.status, (time.monotonic_ns() - ticket.started_ns) / 1e9)
        return answer

    def ending(self) -> wire.Message:
        """What is to be published when no further request will be answered: how many numbers were drawn."""
        return wire.encode(record.ended(self._who, self.requests, ids.now()), owner=OWNER)

    async def _predict(self, call: Call, ticket: Ticket, asked: Asked) -> _Outcome:
        if call.refused is not None:
            raise call.refused
        request = protocol.read_request(call.body)
        feed, rows = self._reader.read(request, asked)
        if rows <= self._model.pace.inline_rows:
            arrays = self._model.run(feed)
        else:
            loop = asyncio.get_running_loop()
            arrays = await loop.run_in_executor(self._thread, self._model.run_timed, feed, rows)
        return self._answered(ticket, asked, request, arrays)

    def _answered(
        self, ticket: Ticket, asked: Asked, request: protocol.InferRequest, arrays: list[tensors.Array]
    ) -> _Outcome:
        spec = self._model.spec
        outputs = [
            _output(name, kind, array) for (name, kind), array in zip(self._model.outputs.items(), arrays, strict=True)
        ]
        decided = record.NO_VERDICT
        if spec.decision is not None:
            flat: dict[str, list[Scalar]] = {tensor.name: tensor.data for tensor in outputs}
            decided = record.verdict(spec, spec.decision, asked.inputs, flat)
        wanted = {output.name for output in request.outputs} if request.outputs else None
        response = protocol.InferResponse(
            spec.model,
            str(spec.version),
            request.id or ticket.prediction_id,
            {"prediction_id": ticket.prediction_id, "model_digest": spec.digest},
            outputs if wanted is None else [tensor for tensor in outputs if tensor.name in wanted],
        )
        event = record.answered(self._who, ticket, asked, outputs, decided, _microseconds(ticket))
        return _Outcome(Answer(200, _encode(response)), event)

    def _failed(self, ticket: Ticket, asked: Asked, status: int, error: str) -> _Outcome:
        event = record.failed(self._who, ticket, asked, error, _microseconds(ticket))
        return _Outcome(_error(status, error, ticket.prediction_id), event)

    async def _keep(self, ticket: Ticket, asked: Asked, outcome: _Outcome, traceparent: str) -> Answer:
        def instead(reason: str) -> wire.Message:
            event = record.failed(self._who, ticket, asked, f"not answered: {reason}", _microseconds(ticket))
            return self._message(event, traceparent)

        try:
            message = self._message(outcome.event, traceparent)
        except (Refused, UnicodeEncodeError, RecursionError) as error:
            # Too large, or text that is no Unicode. What remains is small and our own.
            asked = Asked()
            outcome = self._failed(ticket, asked, 413, f"the record cannot be kept: {error}")
            message = self._message(outcome.event, traceparent)
        try:
            await self._audit.keep(message, instead)
        except NotDurable as error:
            return _error(503, f"the record could not be made durable: {error}", ticket.prediction_id)
        return outcome.answer

    def _message(self, event: PredictionLogged, traceparent: str) -> wire.Message:
        """The event's time is when the request came, its id the prediction's: the same each time it is published.

        So is the `Nats-Msg-Id`, which nobody else can know before it is stored. The client may know the prediction's
        id earlier (`buffered`, or a 503); whoever publishes first under the id that the stream is told has the record
        taken for a duplicate of theirs, and dropped.
        """
        message = wire.encode(
            event, owner=OWNER, id=event.prediction_id, time=event.received_at, traceparent=traceparent
        )
        message.headers["Nats-Msg-Id"] = blake2b(message.id.encode(), key=self._secret, digest_size=16).hexdigest()
        return message


def _output(name: str, datatype: str, array: tensors.Array) -> TensorData:
    return TensorData(name=name, datatype=datatype, shape=list(array.shape), data=tensors.flat(array))


def _microseconds(ticket: Ticket) -> int:
    return (time.monotonic_ns() - ticket.started_ns) // 1000


def _error(status: int, error: str, prediction_id: str = "") -> Answer:
    document: dict[str, Any] = {"error": error}
    if prediction_id:
        document["prediction_id"] = prediction_id
    return Answer(status, _encode(document))
