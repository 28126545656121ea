"""What the model server's unit tests share: a loaded model, an audit in memory, a bus in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affiant.common import wire
from affiant.common.events import Policy, PredictionLogged
from affiant.common.wire import Message
from affiant.modelserver.audit import Instead
from affiant.modelserver.connection import Disconnected
from affiant.modelserver.inference import Answer, Call, Inference
from affiant.modelserver.model import Model, load
from affiant.modelserver.publisher import NotDurable
from affiant.modelserver.record import Identity
from tests.support.model import limit_model, limit_spec, loan_model, loan_spec


def loaded(folder: Path) -> Model:
    data = loan_model()
    path = folder / "model.onnx"
    path.write_bytes(data)
    return load(loan_spec(data, policy=Policy()), path)


def loaded_regression(folder: Path) -> Model:
    data = limit_model()
    path = folder / "limit.onnx"
    path.write_bytes(data)
    return load(limit_spec(data), path)


class FakeAudit:
    """Keeps records in a list; `refuse` makes it fail, `is_full` closes the door."""

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self.refuse = ""
        self.is_full = ""

    def full(self) -> str:
        return self.is_full

    def trouble(self) -> str:
        return self.refuse

    async def keep(self, message: Message, instead: Instead) -> None:
        if self.refuse:
            self.kept.append(instead(self.refuse))
            raise NotDurable(self.refuse)
        self.kept.append(message)

    def leave(self, message: Message) -> None:
        self.kept.append(message)

    def records(self) -> list[PredictionLogged]:
        events = [wire.decode(one.subject, one.body, one.headers).event for one in self.kept]
        return [event for event in events if isinstance(event, PredictionLogged)]


def make_inference(folder: Path, audit: FakeAudit, model: Model | None = None) -> Inference:
    model = model or loaded(folder)
    return Inference(model, Identity(model.spec, "champion", "replica-1", 7), audit)


def application(*rows: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    """A request to infer; each row is income and debt."""
    columns = zip(("income", "debt"), zip(*rows, strict=True), strict=True)
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [len(rows), 1], "data": list(column)} for name, column in columns
    ]
    return {"inputs": inputs, **more}


async def ask(inference: Inference, request: object, **more: Any) -> tuple[Answer, Any]:
    answer = await inference.answer(Call(json.dumps(request).encode(), **more))
    return answer, json.loads(answer.body)


class FakeBus:
    """Remembers what was written, as (subject, reply, headers, body); the test sends the replies."""

    def __init__(self) -> None:
        self.trouble = ""
        self.connected = True
        self.written: list[tuple[str, str, dict[str, str], bytes]] = []
        self.on_reply: Callable[[str, bytes, str], None] = lambda *_: None
        self.on_change: Callable[[], None] = lambda: None

    def reply_subject(self, token: str) -> str:
        return f"inbox.{token}"

    def write(self, commands: bytes) -> None:
        if not self.connected:
            raise Disconnected
        while commands:
            line, _, commands = commands.partition(b"\r\n")
            _, subject, *reply, head, total = line.decode().split(" ")
            block, body = commands[: int(head)], commands[int(head) : int(total)]
            commands = commands[int(total) + 2 :]
            headers = dict(one.split(": ", 1) for one in block.decode().split("\r\n")[1:] if one)
            self.written.append((subject, reply[0] if reply else "", headers, body))

    def ids(self) -> list[str]:
        return [headers.get("Nats-Msg-Id", "") for _, _, headers, _ in self.written]

    def events(self, index: int) -> list[bytes]:
        """The events in the message written at `index`."""
        _, _, headers, body = self.written[index]
        return [single.body for single in wire.unbatched(body, headers)]

    def reply(self, index: int, body: bytes = b'{"stream":"PREDICTIONS","seq":1}', status: str = "") -> None:
        """Answer the message written at `index`."""
        self.on_reply(self.written[index][1].split(".")[1], body, status)

    def acknowledge(self, start: int = 0) -> None:
        """Answer everything that was written from `start` on, as a server does."""
        while start < len(self.written):
            self.reply(start)
            start += 1

    def lose(self) -> None:
        self.connected = False
        self.trouble = "the connection to the bus is lost"
        self.on_change()

    def come_back(self) -> None:
        self.connected = True
        self.trouble = ""
        self.on_change()
