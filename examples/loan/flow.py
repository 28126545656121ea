"""The stream of applications: several clients at once, each sending one application after the other."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from examples.loan.client import application
from examples.loan.outcome import Answer
from examples.loan.table import Table


class Flow:
    """Sends held-out applications to one address and keeps what came back. Nothing is sent twice to hide a failure.

    When all held-out people have applied, they apply again from the first.
    """

    def __init__(
        self, http: httpx.AsyncClient, url: str, table: Table, rows: Sequence[int], clients: int, began: float
    ) -> None:
        self._http = http
        self._url = url
        self._table = table
        self._rows = rows
        self._clients = clients
        self._began = began
        self._turns: Iterator[int] = itertools.count()
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self.sent = 0
        self.answers: list[Answer] = []
        self.failures: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Flow]:
        """The clients, for as long as the block lasts."""
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._client()) for _ in range(self._clients)]
            yield self
            for client in clients:
                client.cancel()

    async def send(self, count: int) -> None:
        """Hand `count` applications to the clients and wait until all are answered."""
        for _ in range(count):
            self._waiting.put_nowait(next(self._turns))
        await self._waiting.join()

    @asynccontextmanager
    async def trickling(self, per_second: float) -> AsyncIterator[None]:
        """Keep applications coming at this rate while the block runs; at its end all are answered."""

        async def drip() -> None:
            while True:
                self._waiting.put_nowait(next(self._turns))
                await asyncio.sleep(1.0 / per_second)

        dripping = asyncio.create_task(drip())
        try:
            yield
        finally:
            dripping.cancel()
            with suppress(asyncio.CancelledError):
                await dripping
        await self._waiting.join()

    def answered_by(self, version: int) -> int:
        """How many answers came from that version."""
        return sum(answer.version == version for answer in self.answers)

    async def _client(self) -> None:
        while True:
            turn = await self._waiting.get()
            try:
                await self._apply(turn)
            finally:
                self._waiting.task_done()

    async def _apply(self, turn: int) -> None:
        person = turn % len(self._rows)
        request = application(self._table, self._rows[person], f"application-{turn + 1}")
        self.sent += 1
        began = time.monotonic()
        try:
            response = await self._http.post(self._url, json=request)
            response.raise_for_status()
            self.answers.append(self._answer(person, response.json(), began))
        except httpx.HTTPStatusError as error:
            self.failures.append(f"{error.response.status_code}: {error.response.text[:200]}")
        except httpx.HTTPError as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _answer(self, person: int, body: dict[str, Any], began: float) -> Answer:
        outputs = {output["name"]: output["data"] for output in body["outputs"]}
        label = str(outputs["label"][0])
        classes = sorted((self._table.favourable, self._table.adverse))
        return Answer(
            at=time.monotonic() - self._began,
            row=person,
            prediction_id=str(body["parameters"]["prediction_id"]),
            version=int(body["model_version"]),
            label=label,
            score=float(outputs["probabilities"][classes.index(self._table.favourable)]),
            adverse=label != self._table.favourable,
            milliseconds=(time.monotonic() - began) * 1000,
        )
