"""The stream of applications: nothing is sent twice, nothing that fails is hidden."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.loan.client import application
from examples.loan.flow import Flow
from examples.loan.table import Choices, Table, read
from tests.unit.examples import tables

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(name="table")
def a_table(tmp_path: Path) -> Table:
    return read(tables.written(tmp_path), Choices())


class Server:
    """Answers like a model server, in memory. The first `failing` requests fail; `busiest` counts those at once."""

    def __init__(self, failing: int = 0) -> None:
        self.ids: list[str] = []
        self.failing = failing
        self.busy = self.busiest = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.ids.append(body["id"])
        number = len(self.ids)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0.001)
        self.busy -= 1
        if number <= self.failing:
            return httpx.Response(503, json={"error": "the bus is away"})
        outputs = [{"name": "label", "data": ["yes"]}, {"name": "probabilities", "data": [0.25, 0.75]}]
        parameters = {"prediction_id": f"p{number}"}
        return httpx.Response(200, json={"model_version": "3", "parameters": parameters, "outputs": outputs})


def _run(table: Table, server: Server, act: Callable[[Flow], Coroutine[Any, Any, None]], clients: int = 8) -> Flow:
    async def main() -> Flow:
        async with httpx.AsyncClient(transport=httpx.MockTransport(server)) as http:
            flow = Flow(http, "http://server/infer", table, [0, 1, 2], clients, began=0.0)
            async with flow.running():
                await act(flow)
            return flow

    return asyncio.run(main())


def test_every_application_is_sent_once_by_eight_clients_at_once(table: Table) -> None:
    server = Server()
    flow = _run(table, server, lambda flow: flow.send(100))
    assert len(set(server.ids)) == len(server.ids) == flow.sent == len(flow.answers) == 100
    assert server.busiest == 8


def test_a_failed_request_is_counted_and_not_sent_again(table: Table) -> None:
    server = Server(failing=3)
    flow = _run(table, server, lambda flow: flow.send(10))
    assert (flow.sent, len(flow.answers), len(flow.failures), len(server.ids)) == (10, 7, 3, 10)
    assert "the bus is away" in flow.failures[0]


def test_applications_keep_coming_while_something_else_happens(table: Table) -> None:
    async def act(flow: Flow) -> None:
        async with flow.trickling(per_second=500):
            while len(flow.answers) < 20:
                await asyncio.sleep(0.005)

    flow = _run(table, Server(), act)
    assert flow.sent == len(flow.answers) >= 20


def test_an_answer_says_who_was_asked_about_and_which_version_decided(table: Table) -> None:
    flow = _run(table, Server(), lambda flow: flow.send(4), clients=1)
    answer = flow.answers[3]
    assert (answer.row, answer.version, answer.label, answer.adverse, answer.score) == (0, 3, "yes", True, 0.25)


def test_an_application_names_each_column_and_the_protected_ones_beside(table: Table) -> None:
    row = int(table.features["income"].isna().to_numpy().argmax())
    request = application(table, row, "application-1")
    inputs = {tensor["name"]: tensor for tensor in request["inputs"]}
    assert list(inputs) == ["income", "debt_ratio", "job", "flag", "age_band", "sex"]
    assert inputs["income"] == {"name": "income", "shape": [1, 1], "datatype": "FP32", "data": [None]}
    assert inputs["sex"]["datatype"] == "BYTES"
    assert len(str(inputs["debt_ratio"]["data"][0])) <= len("0.123")
    json.dumps(request, allow_nan=False)
