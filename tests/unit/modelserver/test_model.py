"""Exactly the registered bytes, or nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from affiant.common.errors import Problem
from affiant.common.events import TensorSpec
from affiant.modelserver.model import Pace, load
from tests.support.model import loan_model, loan_spec


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def test_a_file_that_is_not_the_registered_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is not the registered"):
        load(loan_spec(loan_model(1.0)), written(tmp_path, loan_model(2.0)))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="does not load"):
        load(loan_spec(b"no model"), written(tmp_path, b"no model"))


def test_a_model_that_takes_other_inputs_than_registered_is_refused(tmp_path: Path) -> None:
    spec = loan_spec(loan_model())
    other = [msgspec.structs.replace(spec.inputs[0], datatype="INT64"), spec.inputs[1]]
    with pytest.raises(Problem, match="is registered"):
        load(msgspec.structs.replace(spec, inputs=other), written(tmp_path, loan_model()))


def test_an_output_that_the_model_does_not_give_is_refused(tmp_path: Path) -> None:
    spec = loan_spec(loan_model())
    more = [*spec.outputs, TensorSpec(name="reason", datatype="BYTES", shape=[-1])]
    with pytest.raises(Problem, match="'reason'"):
        load(msgspec.structs.replace(spec, outputs=more), written(tmp_path, loan_model()))


def test_a_small_model_is_quick_enough_for_the_event_loop(tmp_path: Path) -> None:
    assert load(loan_spec(loan_model()), written(tmp_path, loan_model())).pace.inline_rows > 1


def test_the_pace_of_a_model_that_could_not_be_warmed_is_learnt_from_its_first_runs() -> None:
    pace = Pace(None)
    for seconds in (0.1, 0.0001, 0.1, 0.1):
        pace.note(1, seconds)
    assert pace.inline_rows == 0
    pace.note(1, 0.1)
    assert pace.inline_rows == 20


def test_a_model_that_is_slow_stays_off_the_event_loop() -> None:
    pace = Pace(None)
    for _ in range(5):
        pace.note(10, 0.1)
    assert pace.inline_rows == 0
