"""Logged inputs through the registered bytes again: to the last bit, or by how much not, or why not at all."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies
from msgspec.structs import replace

from affiant.common.events import PredictionLogged, TensorData
from affiant.common.replaying import Replayed, ReplayTask
from affiant.modelserver.model import RUNTIME, load
from affiant.modelserver.replay import Replayer, compared
from tests.support.model import loan_model, loan_spec
from tests.support.trees import tree_model
from tests.unit.modelserver.fakes import FakeAudit, application, ask, make_inference

pytestmark = pytest.mark.anyio


def replayer(folder: Path, data: bytes | None = None) -> Replayer:
    data = data or loan_model()
    path = folder / "again.onnx"
    path.write_bytes(data)
    return Replayer(load(loan_spec(data), path), 10.0)


async def logged(folder: Path, *rows: tuple[Any, Any]) -> PredictionLogged:
    """The record of a request, once over the wire."""
    audit = FakeAudit()
    await ask(make_inference(folder, audit), application(*rows))
    return msgspec.json.decode(msgspec.json.encode(audit.records()[0]), type=PredictionLogged)


async def test_what_was_answered_comes_out_again_to_the_last_bit(tmp_path: Path) -> None:
    again = replayer(tmp_path)
    random = np.random.default_rng(1)
    for rows in (1, 2, 7, 64):
        values = random.uniform(-50, 50, (rows, 2)).tolist()
        record = await logged(tmp_path, *map(tuple, values))
        assert again.replay(record) == Replayed(prediction_id=record.prediction_id, state="bit_exact", rows=rows)


def test_tree_ensembles_in_batches_come_out_again_to_the_last_bit(tmp_path: Path) -> None:
    data, columns = tree_model()
    spec = replace(loan_spec(data), **columns)
    path = tmp_path / "trees.onnx"
    path.write_bytes(data)
    model = load(spec, path)
    again = Replayer(model, 10.0)
    random = np.random.default_rng(2)
    for rows in (1, 3, 17, 200):
        feed = {name: random.normal(size=(rows, 1)).astype(np.float32) for name in model.slots}
        arrays = model.run(feed)
        record = record_of(spec.digest, feed, dict(zip(model.outputs, arrays, strict=True)))
        assert again.replay(over_the_wire(record)).state == "bit_exact"


async def test_another_output_is_a_mismatch_and_a_slightly_other_one_is_within_tolerance(tmp_path: Path) -> None:
    again = replayer(tmp_path)
    record = await logged(tmp_path, (5, 1))
    label, probabilities = record.outputs
    near = [float(np.nextafter(np.float32(value), np.float32(0))) for value in probabilities.data]  # type: ignore[arg-type]
    found = again.replay(replace(record, outputs=[label, replace(probabilities, data=near)]))
    assert found.state == "within_tolerance"
    assert 0 < found.difference < 1e-6
    far = again.replay(replace(record, outputs=[label, replace(probabilities, data=[0.5, 0.5])]))
    assert (far.state, "'probabilities' differs by up to" in far.reason) == ("mismatch", True)
    other = again.replay(replace(record, outputs=[replace(label, data=[0]), probabilities]))
    assert (other.state, other.reason) == ("mismatch", "output 'label' differs")


async def test_other_bytes_a_failed_request_and_a_foreign_input_are_not_replayable(tmp_path: Path) -> None:
    again = replayer(tmp_path)
    record = await logged(tmp_path, (5, 1))
    cases = {
        "not by these bytes": replace(record, digest="sha256:0"),
        "no answer left the house": replace(record, status="failed"),
        "lacks the model's input debt": replace(record, inputs=record.inputs[:1]),
        "the run failed": replace(record, inputs=[replace(one, data=["x"]) for one in record.inputs]),
    }
    for reason, changed in cases.items():
        found = again.replay(changed)
        assert found.state == "not_replayable" and reason in found.reason, found


async def test_another_runtime_is_named_beside_what_comes_out(tmp_path: Path) -> None:
    record = await logged(tmp_path, (5, 1))
    assert replayer(tmp_path).replay(record).software == ""
    found = replayer(tmp_path).replay(replace(record, runtime="onnxruntime 0.9 Plan9 pdp11"))
    assert found.software == f"logged by onnxruntime 0.9 Plan9 pdp11, replayed by {RUNTIME}"


@given(strategies.lists(strategies.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=50))
def test_every_float32_survives_the_wire_exactly(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    output = TensorData(name="x", datatype="FP32", shape=[len(values)], data=array.tolist())
    arrived = msgspec.json.decode(msgspec.json.encode(output), type=TensorData)
    again = np.array(arrived.data, dtype=np.float32)
    finite = np.isfinite(array)
    assert again[finite].tobytes() == array[finite].tobytes()  # the sign of zero too
    assert [value is None for value in arrived.data] == (~finite).tolist()
    assert compared(record_of("", {}, {"x": array}), {"x": array}).state == "bit_exact"


@given(strategies.integers(0, 2**32 - 1))
def test_every_bit_pattern_of_a_float32_survives_the_wire(bits: int) -> None:
    number = np.array([bits], dtype=np.uint32).view(np.float32)
    if math.isfinite(number[0]):
        (arrived,) = msgspec.json.decode(msgspec.json.encode(number.tolist()))
        assert np.array([arrived], dtype=np.float32).tobytes() == number.tobytes()


async def test_the_program_answers_line_by_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    record = await logged(tmp_path, (5, 1), (1, 2))
    (tmp_path / "m.onnx").write_bytes(loan_model())
    task = ReplayTask(spec=loan_spec(loan_model()), model_path=str(tmp_path / "m.onnx"))
    lines = [task, record, replace(record, digest="sha256:0")]
    answers = run(lines)
    assert [one.state for one in answers] == ["bit_exact", "not_replayable"]


async def test_bytes_that_are_not_the_registered_ones_run_nothing(tmp_path: Path) -> None:
    record = await logged(tmp_path, (5, 1))
    (tmp_path / "m.onnx").write_bytes(loan_model(2.0))
    task = ReplayTask(spec=loan_spec(loan_model()), model_path=str(tmp_path / "m.onnx"))
    (answer,) = run([task, record])
    assert (answer.state, "is not the registered" in answer.reason) == ("not_replayable", True)


def run(lines: list[Any]) -> list[Replayed]:
    given_ = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    command = [sys.executable, "-I", "-m", "affiant.modelserver.replay"]
    done = subprocess.run(command, input=given_, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [msgspec.json.decode(line, type=Replayed) for line in done.stdout.splitlines()]


def record_of(digest: str, feed: dict[str, Any], arrays: dict[str, Any]) -> PredictionLogged:
    """What the model server would log of these arrays."""

    def tensors(given_: dict[str, Any]) -> list[TensorData]:
        kinds = {"f": "FP32", "i": "INT64"}
        return [
            TensorData(name=name, datatype=kinds[one.dtype.kind], shape=list(one.shape), data=one.reshape(-1).tolist())
            for name, one in given_.items()
        ]

    return PredictionLogged(
        prediction_id="p1", model="loan", version=1, digest=digest, received_at="2026-11-24T10:00:00Z",
        status="answered", inputs=tensors(feed), outputs=tensors(arrays), labels=[0],
    )  # fmt: skip


def over_the_wire(record: PredictionLogged) -> PredictionLogged:
    return msgspec.json.decode(msgspec.json.encode(record), type=PredictionLogged)
