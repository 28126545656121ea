"""The whole story of one decision, by real processes: predicted, judged later, overridden, told, proven, replayed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from affiant.cli import plans
from affiant.cli.system import System
from affiant.common import ids, wire
from affiant.common.events import OutcomeRecorded
from tests.integration.test_cli_system import Done, affiant, eventually
from tests.support.model import background_csv, loan_model

CSV = "income,debt,sex\n" + "".join(f"{n}.25,{9 - n}.5,{'f' if n % 2 else 'm'}\n" for n in range(10))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("story")
    (folder / "one.onnx").write_bytes(loan_model(1.0))
    (folder / "two.onnx").write_bytes(loan_model(2.0))
    (folder / "b.csv").write_bytes(background_csv())
    (folder / "applications.csv").write_text(CSV)
    with System(folder / "home") as system:
        yield system


@pytest.fixture(scope="module")
def decided(system: System) -> list[str]:
    """Ten predictions of version 1, then version 2 is promoted and the first server drains; the ids."""
    folder = system.home.path.parent
    promoted(system, "one.onnx", 1)
    answers = json_of(affiant(system.home, "predict", "loan", "--csv", str(folder / "applications.csv"), "-o", "json"))
    found = [one["prediction_id"] for one in answers["predictions"]]
    eventually(lambda: json_of(affiant(system.home, "completeness", "loan", "-o", "json"))["served"] == 10, 60)
    promoted(system, "two.onnx", 2)
    eventually(lambda: ends(system)[:1] == ["ended"], 90)
    return found


def promoted(system: System, file: str, version: int) -> None:
    folder = system.home.path.parent
    given = ["--name", "loan", "--background", str(folder / "b.csv"), "--favourable", "1", "--protected", "sex"]
    assert affiant(system.home, "register", str(folder / file), *given, "--explain", "none").code == 0
    assert affiant(system.home, "promote", f"loan/{version}", "--reason", "tried", "--as", "ben").code == 0
    eventually(lambda: served(system) == version, 90)


def served(system: System) -> int:
    found = json_of(affiant(system.home, "deployments", "-o", "json"))["deployments"]
    return max((one["version"] for one in found if one["state"] == "serving"), default=0)


def ends(system: System) -> list[str]:
    found = json_of(affiant(system.home, "completeness", "loan", "-o", "json"))
    return [line["end"] for line in found["replicas"] if line["received"]]


def json_of(done: Done) -> Any:
    assert done.out, done.err
    return done.json


def test_a_server_that_ends_in_order_says_how_many_requests_it_numbered(system: System, decided: list[str]) -> None:
    found = json_of(affiant(system.home, "completeness", "loan", "-o", "json"))
    line = next(line for line in found["replicas"] if line["received"])
    assert (found["complete"], line["drawn"], line["received"], line["end"]) == (True, 10, 10, "ended")
    assert len(decided) == 10


def test_outcome_and_override_are_entries_beside_the_decision(system: System, decided: list[str]) -> None:
    assert affiant(system.home, "outcome", decided[0], "--label", "1", "--as", "ben").code == 0
    done = affiant(system.home, "override", decided[0], "--decision", "1", "--reason", "payslips", "--as", "ben")
    assert "in the audit log" in done.out
    shown = affiant(system.home, "prediction", decided[0], "--as", "iris").out
    assert "payslips" in shown
    assert affiant(system.home, "outcome", decided[0], "--label", "1", "--as", "iris").code == 4
    assert "no class of loan/1" in affiant(system.home, "outcome", decided[0], "--label", "maybe").err


def test_another_system_tells_outcomes_and_a_malformed_one_is_set_aside_with_the_reason(
    system: System, decided: list[str]
) -> None:
    event = OutcomeRecorded(prediction_id=decided[1], model="loan", label=0, observed_at=ids.now(), by="core banking")
    message = wire.encode(event, owner="outside")
    body = json.dumps(json.loads(message.body) | {"source": "urn:bank"}).encode()
    asyncio.run(publish(system, message.subject, body, message.headers))
    eventually(lambda: "core banking" in affiant(system.home, "prediction", decided[1], "--as", "iris").out)

    bad = json.loads(body)
    bad |= {"id": "bad", "data": bad["data"] | {"row": -1}}
    asyncio.run(publish(system, message.subject, json.dumps(bad).encode(), {"content-type": wire.CONTENT_TYPE}))
    eventually(lambda: "row -1 is none" in affiant(system.home, "dead-letters", "list").out)


async def publish(system: System, subject: str, body: bytes, headers: dict[str, str]) -> None:
    password = system.home.password()
    url = plans.nats_url(system.home)
    client = await nats.connect(url, user="outside", password=password, inbox_prefix=b"_INBOX_outside")
    await client.jetstream().publish(subject, body, headers=headers)
    await client.close()


def test_what_kserve_logs_in_halves_becomes_a_record_of_the_log(system: System) -> None:
    said = {"request": {"instances": [[1.5, 2]]}, "response": {"predictions": [1]}}
    for side in ("response", "request"):
        answer = httpx.post(
            f"{system.urls['auditor']}/sinks/kserve",
            # As a program sends it that can be given nothing but http://kserve:TOKEN@host/sinks/kserve.
            auth=("kserve", system.token("deployer")),
            headers={
                "ce-id": "r1", "ce-type": f"org.kubeflow.serving.inference.{side}", "ce-source": "http://localhost/",
                "ce-inferenceservicename": "income", "ce-namespace": "bank", "ce-specversion": "1.0",
            },
            content=json.dumps(said[side]).encode(),
        )  # fmt: skip
        assert answer.status_code == 200, answer.text

    def listed() -> Any:
        return json_of(affiant(system.home, "predictions", "--model", "income", "-o", "json"))["predictions"]

    eventually(lambda: len(listed()) == 1)
    (line,) = listed()
    assert (line["source"], line["status"], line["request_id"]) == ("urn:kserve:bank:income", "answered", "r1")


def test_an_event_that_another_system_sends_by_http_enters_the_log(system: System, decided: list[str]) -> None:
    told = OutcomeRecorded(prediction_id=decided[2], model="loan", label=1, observed_at=ids.now(), by="collections")
    body = json.dumps(json.loads(wire.encode(told, owner="outside").body) | {"source": "urn:bank"}).encode()
    headers = {"Authorization": f"Bearer {system.token('omar')}", "content-type": wire.CONTENT_TYPE}
    answer = httpx.post(f"{system.urls['auditor']}/v1/events", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    eventually(lambda: "collections" in affiant(system.home, "prediction", decided[2], "--as", "iris").out)


def test_history_tells_which_version_answered_at_a_moment(system: System, decided: list[str]) -> None:
    record = json_of(affiant(system.home, "prediction", decided[0], "--as", "iris", "-o", "json"))["record"]
    then = json_of(affiant(system.home, "history", "loan", "--at", record["received_at"], "-o", "json"))
    now = json_of(affiant(system.home, "history", "loan", "--at", ids.now(), "-o", "json"))
    assert [(one["version"], one["approved_by"]) for one in then["aliases"]] == [(1, "ben")]
    assert [one["version"] for one in now["aliases"]] == [2]
    assert record["replica"] in then["deployments"][0]["replicas"]


def test_a_dossier_made_by_the_command_line_verifies_by_itself(
    system: System, decided: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "case.zip"
    done = affiant(system.home, "dossier", decided[0], "--out", str(place), "--as", "iris")
    assert done.code == 0, done.err
    assert affiant(system.home, "verify", str(place)).code == 0
    with zipfile.ZipFile(place) as packed:
        page = packed.read("index.html").decode()
    assert "loan/1 decided" in page


def test_every_answer_comes_out_again_to_the_last_bit(system: System, decided: list[str]) -> None:
    found = json_of(affiant(system.home, "replay", "--model", "loan", "--as", "iris", "-o", "json"))
    assert found["counts"] == {"bit_exact": len(decided)}
    assert json_of(affiant(system.home, "replay", decided[3], "-o", "json"))["counts"] == {"bit_exact": 1}


def test_an_operator_rebuilds_the_tables_to_the_same_state(system: System, decided: list[str]) -> None:
    assert decided
    assert affiant(system.home, "audit", "rebuild", "--as", "ana").code == 4
    done = affiant(system.home, "audit", "rebuild", "--as", "omar")
    assert "the same as before" in done.out, done.out + done.err


def test_a_server_that_is_killed_leaves_an_open_end(system: System, decided: list[str]) -> None:
    assert decided
    assert affiant(system.home, "predict", "loan", "--row", '{"income": 1, "debt": 1, "sex": "f"}').code == 0
    eventually(lambda: ends(system) == ["ended", "serving"])
    os.kill(server_pid(system), signal.SIGKILL)
    eventually(lambda: ends(system) == ["ended", "open"], 90)
    done = affiant(system.home, "completeness", "loan")
    assert (done.code, "open end" in done.out) == (0, True)


def server_pid(system: System) -> int:
    found = json_of(affiant(system.home, "deployments", "-o", "json"))["deployments"]
    return next(int(replica["pid"]) for one in found if one["version"] == 2 for replica in one["replicas"])
