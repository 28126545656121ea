"""Replaying from the command line: the record is verified, the bytes are checked, and a child runs them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from affiant.cli import replaying
from affiant.cli.replaying import Replays
from affiant.common.errors import NotFound, Problem
from affiant.common.events import PredictionLogged
from affiant.verify import program
from tests.support.model import loan_model, loan_spec
from tests.unit.modelserver.fakes import FakeAudit, application, ask, make_inference

pytestmark = pytest.mark.anyio


class Services:
    """The auditor with some records, and the registry with the bytes of one version."""

    def __init__(self) -> None:
        self.data = loan_model()
        self.spec = loan_spec(self.data)
        self.records: dict[str, dict[str, Any]] = {}
        self.fetched = 0

    def get(self, service: str, path: str, **_: Any) -> Any:
        if service == "registry":
            return {"spec": msgspec.to_builtins(self.spec)}
        return self.records[path.rsplit("/", 1)[1]]

    def ask(self, _service: str, _method: str, path: str, **_: Any) -> Any:
        self.fetched += 1
        if not path.endswith(self.spec.digest) or not self.data:
            raise NotFound("there is no such artifact")

        class Answer:
            content = self.data

        return Answer()

    async def log(self, folder: Path, *rows: tuple[Any, Any], **changes: Any) -> str:
        """A record of the model server in a log of one entry; `changes` go into the auditor's answer."""
        audit = FakeAudit()
        await ask(make_inference(folder, audit), application(*rows))
        record = replace(audit.records()[0], **changes.pop("fields", {}))
        self.records[record.prediction_id] = sworn(record) | changes
        return record.prediction_id


def sworn(record: PredictionLogged) -> dict[str, Any]:
    """What the auditor answers of a prediction that is the only entry of its log."""
    payload = json.dumps({"id": record.prediction_id, "data": msgspec.to_builtins(record)}).encode()
    salt = bytes(16)
    committed = program.sha256(salt + payload).hexdigest()
    leaf = json.dumps({"event_id": record.prediction_id, "payload": committed})
    root = base64.b64encode(program.leaf_hash(leaf.encode())).decode()
    proof = {
        "payload": base64.b64encode(payload).decode(),
        "salt": salt.hex(),
        "leaf": leaf,
        "index": 0,
        "path": [],
        "checkpoint": f"log\n1\n{root}\n\n— log {base64.b64encode(bytes(68)).decode()}\n",
    }
    return {"record": msgspec.to_builtins(record), "source": replaying.OURS, "proof": proof}


async def test_records_are_run_again_by_one_child_and_the_bytes_are_fetched_once(tmp_path: Path) -> None:
    services = Services()
    ids = [await services.log(tmp_path, (n, 1), (n, 2), (3, n)) for n in range(5)]
    with Replays(services, "") as replays:  # type: ignore[arg-type]
        found = [replays.replay(one) for one in ids]
    assert [(one.state, one.rows) for one in found] == [("bit_exact", 3)] * 5
    assert services.fetched == 1


async def test_why_a_record_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    services = Services()
    cases = {
        "erased": await services.log(tmp_path, (1, 1), record=None),
        "another system made it (urn:bank)": await services.log(tmp_path, (1, 1), source="urn:bank"),
        "no answer left the house": await services.log(tmp_path, (1, 1), fields={"status": "failed"}),
    }
    tampered = await services.log(tmp_path, (1, 1))
    services.records[tampered]["record"]["labels"] = [1, 1]
    cases["does not verify"] = tampered
    with Replays(services, "") as replays:  # type: ignore[arg-type]
        for reason, prediction_id in cases.items():
            found = replays.replay(prediction_id)
            assert found.state == "not_replayable" and reason in found.reason, found


async def test_bytes_that_are_gone_or_are_others_are_not_run(tmp_path: Path) -> None:
    services = Services()
    one = await services.log(tmp_path, (1, 1))
    for data, reason in ((b"", "no more"), (b"other", "are not those of")):
        services.data = data
        with Replays(services, "") as replays:  # type: ignore[arg-type]
            assert reason in replays.replay(one).reason


async def test_a_record_that_ends_its_process_is_named_and_the_next_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services()
    one = await services.log(tmp_path, (1, 1))
    with Replays(services, "") as replays:  # type: ignore[arg-type]
        assert replays.replay(one).state == "bit_exact"
        child = replays._children[services.spec.digest]
        child._process.kill()
        child._process.wait()
        assert "ended its process (SIGKILL)" in replays.replay(one).reason
        assert replays.replay(one).state == "bit_exact"


def test_without_onnxruntime_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "find_spec", lambda _: None)
    with pytest.raises(Problem, match="needs onnxruntime"):
        replaying._Child(None)  # type: ignore[arg-type]
