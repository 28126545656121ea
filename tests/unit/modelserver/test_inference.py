"""Number, predict, keep the record, answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from affiant.common import wire
from affiant.common.errors import Problem
from affiant.common.events import ReplicaEnded
from affiant.common.wire import Message
from affiant.modelserver.audit import Instead
from affiant.modelserver.inference import Call
from tests.unit.modelserver.fakes import FakeAudit, application, ask, loaded_regression, make_inference

pytestmark = pytest.mark.anyio


async def test_an_answer_names_the_prediction_and_the_model_and_its_record_holds_what_went_in_and_out(
    tmp_path: Path,
) -> None:
    audit = FakeAudit()
    request = application((5, 1), (1, 2), id="r-9", parameters={"subject_ref": "applicant 7", "channel": "web"})
    answer, document = await ask(make_inference(tmp_path, audit), request)
    record = audit.records()[0]
    assert answer.status == 200
    assert document["id"] == record.request_id == "r-9"
    assert document["model_version"] == "1"
    assert document["parameters"] == {"prediction_id": record.prediction_id, "model_digest": record.digest}
    assert [one["name"] for one in document["outputs"]] == ["label", "probabilities"]
    assert [one.data for one in record.inputs] == [[5, 1], [1, 2]]
    assert [one.data for one in record.outputs] == [one["data"] for one in document["outputs"]]
    assert (record.labels, record.adverse) == ([1, 0], [False, True])
    assert record.scores == pytest.approx([0.982, 0.269], abs=1e-3)
    assert (record.replica, record.epoch, record.sequence, record.alias) == ("replica-1", 7, 1, "champion")
    assert (record.subject_ref, record.parameters) == ("applicant 7", {"channel": "web"})


async def test_a_request_that_is_given_up_while_the_model_runs_leaves_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)

    async def never(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(inference, "_predict", never)
    asked = asyncio.create_task(ask(inference, application((5, 1))))
    await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    [record] = audit.records()
    assert (record.status, record.sequence) == ("failed", 1)
    assert "the server stopped before" in record.error


async def test_the_record_is_a_cloud_event_whose_id_is_the_prediction(tmp_path: Path) -> None:
    audit = FakeAudit()
    _, document = await ask(make_inference(tmp_path, audit), application((5, 1)))
    message = audit.kept[0]
    assert message.id == document["parameters"]["prediction_id"] == document["id"]
    assert message.subject == "affiant.modelserver.prediction_logged.v1.loan"


async def test_nobody_can_know_beforehand_what_the_stream_will_know_a_record_by(tmp_path: Path) -> None:
    class Slow(FakeAudit):
        async def keep(self, message: Message, instead: Instead) -> None:
            self.kept += [message, instead("the bus is away")]

    audit = Slow()
    await ask(make_inference(tmp_path, audit), application((5, 1)))
    first, replaced = (message.headers["Nats-Msg-Id"] for message in audit.kept)
    assert first == replaced != audit.kept[0].id
    await ask(make_inference(tmp_path, audit), application((5, 1)))
    assert audit.kept[2].headers["Nats-Msg-Id"] != first


@pytest.mark.parametrize("depth", [17, 985, 100_000])
async def test_parameters_that_a_reader_might_not_get_to_the_bottom_of_are_refused(tmp_path: Path, depth: int) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    body = json.dumps(application((5, 1)))[:-1].encode()
    nested = body + b',"parameters":{"a":%b%b}}' % (b"[" * depth, b"]" * depth)
    answer = await inference.answer(Call(nested))
    assert answer.status in {400, 500}
    assert [record.status for record in audit.records()] == ["failed"]


async def test_the_trace_of_the_request_goes_on_in_the_record(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    trace = "0af7651916cd43dd8448eb211c80319c"
    await ask(inference, application((5, 1)), traceparent=f"00-{trace}-b7ad6b7169203331-01")
    await ask(inference, application((5, 1)))
    assert audit.kept[0].headers["traceparent"].split("-")[1] == trace
    assert audit.kept[1].headers["traceparent"].startswith("00-")


async def test_every_request_gets_the_next_number_whatever_becomes_of_it(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    requests = [application((5, 1)), {}, application((5, "x")), {"inputs": []}, application((1, 1))]
    statuses = [(await ask(inference, request))[0].status for request in requests]
    statuses.append((await inference.answer(Call(b"", "", Problem("too large", status=413)))).status)
    assert statuses == [200, 400, 400, 400, 200, 413]
    assert [one.sequence for one in audit.records()] == [1, 2, 3, 4, 5, 6]
    assert [one.status for one in audit.records()] == ["answered", *["failed"] * 3, "answered", "failed"]
    assert "'debt' holds texts" in audit.records()[2].error


async def test_a_model_that_raises_is_a_failed_prediction(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)

    def explode(feed: object) -> None:
        raise RuntimeError("boom")

    object.__setattr__(inference._model, "run", explode)
    answer, document = await ask(inference, application((5, 1)))
    assert (answer.status, audit.records()[0].status) == (500, "failed")
    assert document["error"] == audit.records()[0].error == "the model failed: boom"


async def test_a_missing_value_that_the_model_cannot_do_without_is_named_and_recorded(tmp_path: Path) -> None:
    audit = FakeAudit()
    answer, document = await ask(make_inference(tmp_path, audit), application((5, 1), (5, None)))
    record = audit.records()[0]
    assert answer.status == 422
    assert document["error"] == record.error == "debt is missing, and this model gives no probability without it"
    assert (record.status, record.sequence, record.outputs) == ("failed", 1, [])
    assert record.inputs[1].data == [1, None]


async def test_several_missing_values_are_all_named(tmp_path: Path) -> None:
    _, document = await ask(make_inference(tmp_path, FakeAudit()), application((None, None)))
    assert document["error"] == "income, debt are missing, and this model gives no probability without them"


async def test_a_probability_that_is_not_a_number_is_no_decision_but_the_models_fault(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    nothing = [np.array([0]), np.array([[np.nan, np.nan]])]
    object.__setattr__(inference._model, "run", lambda feed: nothing)
    answer, document = await ask(inference, application((5, 1)))
    assert (answer.status, audit.records()[0].status) == (500, "failed")
    assert document["error"] == "the model gave a probability that is not a number"


async def test_a_regression_decides_by_its_threshold_and_has_no_probabilities(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit, loaded_regression(tmp_path))
    answer, document = await ask(inference, application((5, 1), (1, 2), (2, 0)))
    assert answer.status == 200
    assert document["outputs"][0]["data"] == [45, 0, 20]
    [record] = audit.records()
    assert record.labels == ["above", "below", "above"]
    assert record.adverse == [False, True, False]
    assert record.scores == []


async def test_a_record_that_cannot_be_kept_gives_503_and_a_failed_record_without_outputs(tmp_path: Path) -> None:
    audit = FakeAudit()
    audit.refuse = "the bus is away"
    answer, document = await ask(make_inference(tmp_path, audit), application((5, 1)))
    record = audit.records()[0]
    assert answer.status == 503
    assert "the bus is away" in document["error"]
    assert document["prediction_id"] == record.prediction_id
    assert (record.status, record.error, record.outputs) == ("failed", "not answered: the bus is away", [])


async def test_a_server_that_can_hold_no_more_records_draws_no_number(tmp_path: Path) -> None:
    audit = FakeAudit()
    audit.is_full = "the file is full"
    inference = make_inference(tmp_path, audit)
    answer, document = await ask(inference, application((5, 1)))
    assert (answer.status, document["error"]) == (503, "the file is full")
    assert (inference.requests, audit.kept) == (0, [])


async def test_a_request_whose_record_is_too_large_is_refused_and_recorded_without_its_values(tmp_path: Path) -> None:
    audit = FakeAudit()
    answer, document = await ask(make_inference(tmp_path, audit), application(*[(1.5, 2.5)] * 60_000))
    record = audit.records()[0]
    assert answer.status == 413
    assert "1000000" in document["error"]
    assert (record.status, record.inputs, record.sequence) == ("failed", [], 1)


async def test_a_slow_model_leaves_the_event_loop(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    inference._model.pace.inline_rows = 0
    answer, _ = await ask(inference, application((5, 1)))
    assert (answer.status, audit.records()[0].status) == (200, "answered")


async def test_a_client_gets_the_outputs_it_asks_for_and_the_record_holds_all(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    _, document = await ask(inference, application((5, 1), outputs=[{"name": "label"}]))
    assert [one["name"] for one in document["outputs"]] == ["label"]
    assert [one.name for one in audit.records()[0].outputs] == ["label", "probabilities"]
    answer, document = await ask(inference, application((5, 1), outputs=[{"name": "nothing"}]))
    assert (answer.status, "'nothing'" in document["error"]) == (400, True)


async def test_a_protected_column_that_the_model_does_not_see_is_logged_beside_the_prediction(tmp_path: Path) -> None:
    audit = FakeAudit()
    request = application((5, 1), (1, 2))
    request["inputs"].append({"name": "sex", "datatype": "BYTES", "shape": [2], "data": ["f", "m"]})
    answer, _ = await ask(make_inference(tmp_path, audit), request)
    context = audit.records()[0].context[0]
    assert answer.status == 200
    assert (context.name, context.shape, context.data) == ("sex", [2, 1], ["f", "m"])


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"name": "age", "datatype": "FP32", "shape": [1, 1], "data": [1]}, "no input 'age'"),
        ({"name": "income", "datatype": "FP32", "shape": [1, 1], "data": [1]}, "sent twice"),
        ({"name": "sex", "datatype": "BYTES", "shape": [2, 1], "data": ["f", "m"]}, "shape"),
        ({"name": "sex", "datatype": "TEXT", "shape": [1, 1], "data": ["f"]}, "datatype"),
    ],
)
async def test_an_input_that_has_no_place_is_refused(tmp_path: Path, extra: dict[str, object], reason: str) -> None:
    request = application((5, 1))
    request["inputs"].append(extra)
    answer, document = await ask(make_inference(tmp_path, FakeAudit()), request)
    assert answer.status == 400
    assert reason in document["error"]


async def test_inputs_of_different_length_are_refused(tmp_path: Path) -> None:
    request = application((5, 1))
    request["inputs"][1] |= {"shape": [2, 1], "data": [1, 2]}
    answer, document = await ask(make_inference(tmp_path, FakeAudit()), request)
    assert (answer.status, "number of rows" in document["error"]) == (400, True)


async def test_the_last_word_of_a_process_says_how_many_numbers_it_drew(tmp_path: Path) -> None:
    audit = FakeAudit()
    inference = make_inference(tmp_path, audit)
    assert decoded(inference.ending()).last_sequence == 0
    await inference.answer(Call(b"not JSON"))
    await inference.answer(Call(b"{}"))
    ending = decoded(inference.ending())
    assert (ending.last_sequence, ending.replica, ending.epoch) == (2, "replica-1", 7)


def decoded(message: wire.Message) -> ReplicaEnded:
    event = wire.decode(message.subject, message.body, message.headers).event
    assert isinstance(event, ReplicaEnded)
    return event
