"""The commands as people and scripts type them, with a fake in place of the services."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from affiant.cli import home as homes, record
from affiant.cli.app import main
from affiant.cli.home import Home
from affiant.cli.record import Entry, Record
from affiant.common import bus
from tests.unit.cli.fake_services import FakeServices

SPEC: dict[str, Any] = {
    "model": "loan",
    "version": 1,
    "size_bytes": 1234,
    "inputs": [{"name": "income", "datatype": "FP32", "shape": [-1, 1]}],
    "outputs": [],
    "columns": [{"name": "income", "kind": "numeric", "datatype": "FP32", "input": "income"}],
    "protected": ["race"],
    "decision": {"label_output": "l", "probability_output": "p", "classes": ["no", "yes"], "favourable": "yes"},
}
VERSION: dict[str, Any] = {
    "model": "loan",
    "version": 1,
    "digest": "sha256:" + "0" * 64,
    "state": "registered",
    "author": "ana",
    "registered_at": "2026-11-23T10:00:00.000000Z",
    "aliases": ["champion"],
    "spec": SPEC,
    "checks": [{"name": "digest", "passed": True, "detail": "as sent"}],
    "deployment": None,
}
INFERRED = {
    "model_name": "loan",
    "model_version": "1",
    "parameters": {"prediction_id": "p1"},
    "outputs": [
        {"name": "l", "datatype": "BYTES", "shape": [1], "data": ["no"]},
        {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.25]},
    ],
}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Affiant = Callable[..., Done]


@pytest.fixture
def services() -> Iterator[FakeServices]:
    fake = FakeServices()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def home(tmp_path: Path, services: FakeServices) -> Home:
    home = Home(tmp_path / "home")
    homes.prepare(home)
    record.write(home, Record("nats://127.0.0.1:1", dict.fromkeys(bus.SERVICES, Entry(services.url))))
    return home


@pytest.fixture
def affiant(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Affiant:
    monkeypatch.delenv("AFFIANT_AS", raising=False)
    monkeypatch.setenv("AFFIANT_HOME", str(home.path))

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


def deploy(services: FakeServices) -> None:
    one = {"model": "loan", "alias": "champion", "version": 1, "state": "serving", "url": services.url, "replicas": []}
    services.answers |= {
        "GET /v1/deployments": (200, {"deployments": [one]}),
        "GET /v1/models/loan/versions/1": (200, VERSION),
        "POST /v2/models/loan/infer": (200, INFERRED),
    }


def test_a_command_speaks_with_the_token_of_its_person(affiant: Affiant, services: FakeServices, home: Home) -> None:
    services.answers["GET /v1/models"] = (200, {"models": []})
    affiant("models")
    affiant("models", "--as", "iris")
    assert [one.token for one in services.asked] == [home.token("ana"), home.token("iris")]


def test_registering_sends_the_file_the_background_and_the_manifest(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    services.answers["POST /v1/models/loan/versions"] = (201, VERSION)
    (tmp_path / "m.onnx").write_bytes(b"the model")
    (tmp_path / "b.csv").write_text("income\n1\n")
    given = ["--name", "loan", "--favourable", "1", "--protected", "race,sex", "--tag", "team=risk"]
    done = affiant("register", str(tmp_path / "m.onnx"), "--background", str(tmp_path / "b.csv"), *given)

    assert done.code == 0
    assert "loan/1 is registered" in done.out
    assert "✓ digest: as sent" in done.out
    sent = services.asked[0].body
    assert b"the model" in sent
    assert b"income\n1" in sent
    assert b'"favourable": 1, ' in sent
    assert b'"protected": ["race", "sex"]' in sent
    assert b'"tags": {"team": "risk"}' in sent


def test_a_protected_column_that_the_model_sees_is_a_warning(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"the model")
    for protected in (["race"], ["income"]):
        view = VERSION | {"spec": SPEC | {"protected": protected}}
        services.answers["POST /v1/models/loan/versions"] = (201, view)
        done = affiant("register", str(tmp_path / "m.onnx"), "--name", "loan")
        assert done.code == 0
        assert ("! the model SEES the protected column income" in done.out) == (protected == ["income"])


@pytest.mark.parametrize(
    ("option", "wrong", "choices"),
    [
        ("--audit", "never", ("acked", "buffered")),
        ("--explain", "sometimes", ("adverse", "all", "none")),
        ("--method", "anchor,magic", ("anchor", "shap")),
    ],
)
def test_a_policy_that_does_not_exist_is_answered_with_those_that_do(
    affiant: Affiant, services: FakeServices, option: str, wrong: str, choices: tuple[str, ...]
) -> None:
    done = affiant("register", "m.onnx", "--name", "loan", option, wrong)
    assert done.code == 2
    assert all(f"'{choice}'" in done.err for choice in choices)
    assert services.asked == []


def test_a_refused_model_shows_every_check_and_exit_code_6(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    checks = [{"name": "operators", "passed": False, "detail": "domain evil is not allowed"}]
    services.answers["POST /v1/models/loan/versions"] = (422, {"error": "refused", "hint": "", "checks": checks})
    (tmp_path / "m.onnx").write_bytes(b"x")
    done = affiant("register", str(tmp_path / "m.onnx"), "--name", "loan")

    assert done.code == 6
    assert "✗ operators: domain evil is not allowed" in done.err


def test_an_author_who_approves_is_told_to_ask_another_person(affiant: Affiant, services: FakeServices) -> None:
    words = "ana registered loan version 1 and so may not promote it"
    error = {"error": words, "hint": "Ask another person with the role approver to promote it."}
    deploy(services)
    services.answers["POST /v1/models/loan/versions/1/promote"] = (403, error)
    done = affiant("promote", "loan/1")

    assert done.code == 4
    assert words in done.err
    assert "another person must: add --as ben" in done.err


def test_a_missing_role_names_somebody_who_has_it(affiant: Affiant, services: FakeServices) -> None:
    error = {"error": "ana may not do this: it needs the role auditor", "hint": "ana has: author"}
    services.answers["GET /v1/predictions/p1"] = (403, error)
    assert "iris is an auditor: add --as iris" in affiant("prediction", "p1").err


def test_whoever_only_approves_is_named_before_an_author_who_does_too(affiant: Affiant, services: FakeServices) -> None:
    error = {"error": "iris may not do this: it needs the role approver", "hint": "iris has: auditor"}
    deploy(services)
    services.answers["POST /v1/models/loan/versions/1/promote"] = (403, error)
    assert "ben is an approver: add --as ben" in affiant("promote", "loan/1", "--as", "iris").err


def test_a_share_is_asked_for_as_the_challengers(affiant: Affiant, services: FakeServices) -> None:
    version = {"version": 2, "aliases": ["challenger"], "traffic": 10}
    services.answers |= {
        "GET /v1/deployments": (200, {"deployments": [], "shares_by": "weights", "no_shares": ""}),
        "GET /v1/models/loan/versions/2": (200, {"version": 2, "aliases": []}),
        "POST /v1/models/loan/versions/2/promote": (200, version),
    }
    done = affiant("promote", "loan/2", "--traffic", "10", "--as", "ben")
    assert services.asked[-1].json == {"alias": "challenger", "traffic": 10}
    assert "loan/2 is the challenger with 10 % of the champion's requests" in done.out


def test_a_share_of_everything_is_the_champions_place(affiant: Affiant, services: FakeServices) -> None:
    services.answers |= {
        "GET /v1/models/loan/versions/2": (200, {"version": 2, "aliases": ["challenger"], "traffic": 10}),
        "POST /v1/models/loan/versions/2/promote": (200, {"version": 2, "aliases": ["champion"], "traffic": 0}),
    }
    assert "loan/2 is the champion now" in affiant("promote", "loan/2", "--traffic", "100", "--as", "ben").out
    assert services.asked[-1].json == {"alias": "champion"}


def test_a_share_that_the_deployer_cannot_give_is_refused_before_it_is_promised(
    affiant: Affiant, services: FakeServices
) -> None:
    answer = {"deployments": [], "no_shares": "the local back end cannot give a challenger a share"}
    services.answers["GET /v1/deployments"] = (200, answer)
    done = affiant("promote", "loan/2", "--traffic", "10", "--as", "ben")
    assert done.code != 0
    assert "the local back end cannot give a challenger a share" in done.err
    assert [asked.method for asked in services.asked] == ["GET"]


def test_a_rollback_during_a_canary_says_that_the_share_is_gone(affiant: Affiant, services: FakeServices) -> None:
    versions = [{"version": 2, "traffic": 10}, {"version": 1, "traffic": 0}]
    services.answers |= {
        "GET /v1/models/loan": (200, {"aliases": {"champion": 1, "challenger": 2}, "versions": versions}),
        "POST /v1/models/loan/rollback": (200, {"version": 1}),
    }
    assert "loan/1 answers every request again; 2 has no share" in affiant("rollback", "loan", "--as", "ben").out


def test_predicting_shows_decision_score_version_and_id(affiant: Affiant, services: FakeServices) -> None:
    deploy(services)
    done = affiant("predict", "loan", "--row", '{"income": 12, "race": "b"}')

    assert done.code == 0
    assert "no (adverse)" in done.out
    assert "0.250" in done.out
    assert "loan/1" in done.out
    assert "p1" in done.out
    sent = services.asked[-1].json["inputs"]
    assert [(tensor["name"], tensor["data"]) for tensor in sent] == [("income", [12.0]), ("race", ["b"])]


def test_predicting_from_a_file_sends_one_request_for_each_row(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    deploy(services)
    (tmp_path / "a.csv").write_text("income,zip\n1,a\n2,b\n3,c\n")
    done = affiant("predict", "loan", "--csv", str(tmp_path / "a.csv"), "--rows", "2-3", "--output", "json")

    assert [one["row"] for one in json.loads(done.out)["predictions"]] == [2, 3]
    sent = [one.json["inputs"][0]["data"] for one in services.asked if one.path.endswith("/infer")]
    assert sent == [[2.0], [3.0]]


def test_predicting_with_a_version_that_is_not_deployed_says_which_is(affiant: Affiant, services: FakeServices) -> None:
    deploy(services)
    done = affiant("predict", "loan/2", "--row", "{}")
    assert done.code == 5
    assert "loan/2 is not deployed; deployed: loan/1 as champion (serving)" in done.err


def test_explaining_waits_until_it_is_done(affiant: Affiant, services: FakeServices) -> None:
    state = {"prediction_id": "p1", "row": 0, "state": "queued"}
    failed = {**state, "state": "failed", "reason": "no background"}
    services.answers |= {
        "POST /v1/explanations": (202, state),
        "GET /v1/explanations/p1": (200, {"explanations": [failed]}),
    }
    done = affiant("explain", "p1")
    assert done.code == 1
    assert "queued…" in done.err
    assert "no background" in done.err


WAITS = {
    "prediction_id": "p1",
    "row": 0,
    "model": "loan",
    "version": 2,
    "state": "queued",
    "priority": 1,
    "methods": ["anchor", "shap"],
    "queued_at": "2026-11-24T09:00:00.000Z",
    "reason": "",
}
QUEUE = {"queued": 1, "running": 0, "done": 7, "failed": 0, "expired": 0, "waiting": 0, "oldest_queued_seconds": 42.2}


def test_the_queue_tells_what_waits_and_for_how_long(affiant: Affiant, services: FakeServices) -> None:
    services.answers["GET /v1/explanations"] = (200, {"explanations": [WAITS], "queue": QUEUE})
    done = affiant("explanations", "--state", "queued", "--model", "loan")
    assert "1 queued · 0 running · 7 done" in done.out and "the oldest has waited 42 s" in done.out
    assert "loan/2" in done.out and "adverse" in done.out
    services.answers["GET /v1/explanations"] = (200, {"explanations": [], "queue": {**QUEUE, "queued": 0}})
    assert "none is failed" in affiant("explanations", "--state", "failed").out


def test_the_status_of_an_explanation_is_told_without_asking_for_one(affiant: Affiant, services: FakeServices) -> None:
    services.answers["GET /v1/explanations/p1"] = (200, {"explanations": [WAITS]})
    assert "queued" in affiant("explain", "p1", "--status").out
    assert [each.method for each in services.asked] == ["GET"]


def test_json_output_is_one_document_and_errors_go_to_standard_error(affiant: Affiant, services: FakeServices) -> None:
    services.answers["GET /v1/deployments"] = (200, {"deployments": []})
    assert json.loads(affiant("deployments", "--output", "json").out) == {"deployments": []}

    done = affiant("models", "nothing", "--output", "json")
    assert (done.code, done.out) == (5, "")
    assert json.loads(done.err)["error"] == "there is no such thing"


def test_a_service_that_is_away_is_named_with_what_to_do(affiant: Affiant, home: Home) -> None:
    record.write(home, Record("nats://127.0.0.1:1", dict.fromkeys(bus.SERVICES, Entry("http://127.0.0.1:1"))))
    done = affiant("models")
    assert done.code == 3
    assert "the registry does not answer" in done.err
    assert "affiant up" in done.err


def test_without_an_installation_people_are_told_to_start_one(affiant: Affiant, tmp_path: Path) -> None:
    done = affiant("models", "--home", str(tmp_path / "none"))
    assert done.code == 5
    assert "affiant up" in done.err


@pytest.mark.parametrize("command", [["tail"], ["dead-letters", "list"]])
def test_a_bus_that_is_away_is_said_at_once(affiant: Affiant, command: list[str]) -> None:
    done = affiant(*command)
    assert done.code == 3
    assert "the bus at nats://127.0.0.1:1" in done.err


def test_the_doctor_finds_everything_that_is_away(affiant: Affiant) -> None:
    done = affiant("doctor", "--output", "json")
    found = {one["subject"]: one for one in json.loads(done.out)["findings"]}
    assert done.code == 1
    assert found["home"]["level"] == "good"
    assert {found[name]["level"] for name in ("up", "bus", "registry", "nats")} == {"problem"}
    assert all(one["next_step"] for one in found.values() if one["level"] == "problem")


def test_a_mistyped_event_is_answered_with_those_that_exist(affiant: Affiant) -> None:
    done = affiant("tail", "--events", "prediction")
    assert "prediction_logged" in done.err


COMMANDS = [
    "bootstrap",
    "package",
    "up",
    "down",
    "run",
    "register",
    "models",
    "promote",
    "rollback",
    "deprecate",
    "archive",
    "history",
    "champion",
    "deployments",
    "predict",
    "prediction",
    "predictions",
    "drift",
    "explain",
    "explanations",
    "tail",
    "doctor",
    "contracts",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_an_example(affiant: Affiant, command: str) -> None:
    done = affiant(command, "--help")
    assert done.code == 0
    assert f"affiant {command}" in done.out.replace("AFFIANT_REGISTRY_NATS_URL=nats://nats:4222 ", "")


def test_a_secret_is_never_shown(affiant: Affiant, home: Home) -> None:
    shown = "".join(
        done.out + done.err for done in (affiant("doctor"), affiant("models", "--as", "eve"), affiant("down"))
    )
    assert all(home.token(person) not in shown for person in homes.PEOPLE)
    assert all(home.nkey_file(user).read_text().strip() not in shown for user in homes.NATS_USERS)


def test_a_time_that_champion_shows_can_be_given_back_to_it(affiant: Affiant, services: FakeServices) -> None:
    since = "2026-11-23T10:00:00.123456Z"
    found = {"model": "loan", "version": 1, "alias": "champion", "digest": "sha256:0", "approved_by": "ben"}
    services.answers["GET /v1/models/loan/champion"] = (200, found | {"by": "ben", "reason": "", "since": since})
    done = affiant("champion", "loan")
    shown = next(line.split("since", 1)[1].strip() for line in done.out.splitlines() if "since" in line)
    assert datetime.fromisoformat(shown) == datetime.fromisoformat(since)

    assert affiant("champion", "loan", "--at", shown).code == 0
    [asked] = parse_qs(urlsplit(services.asked[-1].path).query)["at"]
    assert datetime.fromisoformat(asked) == datetime.fromisoformat(since)


def test_promoting_what_is_the_champion_already_claims_no_change(affiant: Affiant, services: FakeServices) -> None:
    held = VERSION | {"aliases": ["champion"]}
    services.answers["GET /v1/models/loan/versions/1"] = (200, held)
    services.answers["POST /v1/models/loan/versions/1/promote"] = (200, held)
    assert "already: nothing was changed" in affiant("promote", "loan/1", "--as", "ben").out


def test_a_text_from_outside_cannot_steer_the_terminal(affiant: Affiant, services: FakeServices) -> None:
    entry = {"at": "2026-11-03T09:30:00Z", "by": "ben", "action": "promoted", "version": 1, "details": {}}
    hostile = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202ereversed"
    services.answers["GET /v1/models/loan/history"] = (200, {"history": [entry | {"reason": hostile}]})
    out = affiant("history", "loan").out
    assert "␛[31mred␛]0;title␇ \ufffd2J \ufffdreversed" in out
    assert not set(out) & set("\x1b\x07\x9b\u202e")


def test_the_history_of_a_refused_file_gives_the_reason_and_not_every_check(
    affiant: Affiant, services: FakeServices
) -> None:
    entry = {"at": "2026-11-03T09:30:00Z", "by": "ana", "action": "refused", "version": None, "reason": "format: no"}
    details = {"digest": "sha256:1", "checks": [{"name": "format", "passed": False, "detail": "no"}]}
    services.answers["GET /v1/models/loan/history"] = (200, {"history": [entry | {"details": details}]})
    out = affiant("history", "loan").out
    assert "format: no" in out
    assert "passed" not in out


def test_a_hint_of_the_registry_becomes_a_command(affiant: Affiant, services: FakeServices) -> None:
    error = {"error": "'loan' has no version 9", "hint": "GET /v1/models/loan lists its versions."}
    services.answers["GET /v1/models/loan/versions/9"] = (404, error)
    assert "→ affiant models loan lists its versions." in affiant("models", "loan/9").err


def test_an_outcome_is_told_of_one_row_in_the_person_s_name(
    affiant: Affiant, services: FakeServices, home: Home
) -> None:
    services.answers["POST /v1/predictions/p1/outcomes"] = (201, {"event_ids": ["e1"], "audited": True})
    done = affiant("outcome", "p1", "--label", "1", "--row", "2", "--as", "ben")
    assert (done.code, "in the audit log" in done.out) == (0, True)
    assert services.asked[0].token == home.token("ben")
    assert services.asked[0].json == {"label": 1, "row": 1}


def test_many_overrides_come_from_a_table(affiant: Affiant, services: FakeServices, tmp_path: Path) -> None:
    services.answers["POST /v1/overrides"] = (201, {"event_ids": ["e1", "e2"], "audited": False})
    table = tmp_path / "reviewed.csv"
    table.write_text('prediction_id,decision,reason,row\np1,yes,payslips,\np2,no,"fraud, proven",3\n')
    done = affiant("override", "--csv", str(table))
    assert "2 recorded; the audit log has it in a moment" in done.out
    assert services.asked[0].json == {
        "overrides": [
            {"prediction_id": "p1", "decision": "yes", "reason": "payslips"},
            {"prediction_id": "p2", "decision": "no", "reason": "fraud, proven", "row": 2},
        ]
    }


def test_a_table_without_a_needed_cell_is_refused_by_its_line_before_anything_is_sent(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    table = tmp_path / "outcomes.csv"
    table.write_text("prediction_id,label\np1,yes\np2,\n")
    assert "line 3 of" in affiant("outcome", "--csv", str(table)).err
    table.write_text("id,label\np1,yes\n")
    assert "has no column prediction_id" in affiant("outcome", "--csv", str(table)).err
    assert "needs a reason" in affiant("override", "p1", "--decision", "yes").err
    assert services.asked == []


def test_what_is_missing_or_removed_is_named_with_exit_code_1(affiant: Affiant, services: FakeServices) -> None:
    line = {"model": "loan", "replica": "r1", "epoch": 7, "first": 1, "last": 9, "received": 6, "drawn": None}
    gaps = {
        "missing": [{"first": 4, "last": 5, "since": "2026-11-24T10:00:00.000000Z"}],
        "removed": [{"first": 7, "last": 7, "since": ""}],
    }
    found = {
        "served": 9,
        "received": 6,
        "missing": 2,
        "removed": 1,
        "open_ends": 1,
        "complete": False,
        "day": "2026-11-24",
    }
    services.answers["GET /v1/completeness"] = (
        200,
        found | {"replicas": [line | gaps | {"end": "open", "ended_at": None}]},
    )
    done = affiant("completeness", "loan", "--day", "2026-11-24", "--as", "iris")
    assert done.code == 1
    assert "9 served, 6 recorded of loan on 2026-11-24 (UTC): 2 missing, 1 removed" in done.out
    assert "loan r1: missing 4–5 since" in done.out
    assert "loan r1: removed from the store: 7" in done.out
    assert "open end" in done.out
    assert services.asked[0].path.endswith("?model=loan&day=2026-11-24")


def test_what_stood_at_a_moment_is_asked_of_the_auditor(affiant: Affiant, services: FakeServices) -> None:
    alias = {"alias": "champion", "version": 2, "digest": "sha256:0", "since": "2026-11-24T10:00:00Z", "entry": 12}
    alias |= {"approved_by": "ben", "by": "ana", "reason": "checked", "rollback": True, "traffic": 0}
    stood = {"model": "loan", "at": "2026-11-24T14:03:00Z", "aliases": [alias], "deployments": [], "versions": []}
    services.answers["GET /v1/history/loan"] = (200, stood)
    done = affiant("history", "loan", "--at", "2026-11-24T14:03:00Z")
    assert "champion: loan/2" in done.out
    assert "approved by  ben" in done.out
    assert "nothing answered" in done.out
    assert "at=2026-11-24T14%3A03%3A00%2B00%3A00" in services.asked[0].path


def test_a_rebuild_says_whether_the_tables_were_what_the_entries_say(affiant: Affiant, services: FakeServices) -> None:
    done = {"entries": 10, "erased": 0, "before": "aa", "after": "aa", "same": True, "seconds": 0.1}
    services.answers["POST /v1/rebuild"] = (200, done)
    assert "the same as before" in affiant("audit", "rebuild", "--as", "omar").out
    services.answers["POST /v1/rebuild"] = (200, done | {"after": "bb", "same": False})
    assert "now they are" in affiant("audit", "rebuild", "--as", "omar").out


def test_a_dossier_whose_proof_does_not_hold_is_not_written(
    affiant: Affiant, services: FakeServices, tmp_path: Path
) -> None:
    proof = {"payload": "e30=", "leaf": "{}", "checkpoint": "nonsense", "salt": "", "path": [], "index": 0}
    found = {"prediction": {"record": {}, "proof": proof}, "entries": []}
    services.answers["GET /v1/predictions/p1/dossier"] = (200, found)
    done = affiant("dossier", "p1", "--out", str(tmp_path / "d"), "--as", "iris")
    assert done.code == 1
    assert "does not verify" in done.err
    assert not (tmp_path / "d").exists()
