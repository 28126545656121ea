"""The folder of an installation."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest

from affiant.cli import home as homes, plans
from affiant.cli.home import Home
from affiant.common import auth, bus, nkeys
from affiant.common.errors import NotFound


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    homes.prepare(home)
    return home


def test_only_its_owner_can_read_it(home: Home) -> None:
    assert home.path.stat().st_mode & 0o777 == 0o700
    files = [path for path in home.path.rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert homes.exposed(home) == []


def test_a_secret_that_others_may_read_is_found(home: Home) -> None:
    home.token_file("ana").chmod(0o644)
    assert homes.exposed(home) == [home.token_file("ana")]


def test_preparing_it_again_keeps_secrets_and_ports(home: Home) -> None:
    before = (home.token("ana"), home.nkey_file("registry").read_text(), home.password(), home.ports())
    homes.prepare(home)
    assert (home.token("ana"), home.nkey_file("registry").read_text(), home.password(), home.ports()) == before


def test_every_secret_is_another(home: Home) -> None:
    secrets = [home.nkey_file(user).read_text().strip() for user in homes.NATS_USERS]
    secrets += [home.password(), *(home.token(person) for person in homes.PEOPLE)]
    assert len(set(secrets)) == len(secrets)
    assert min(map(len, secrets)) >= 32


def test_the_people_file_holds_hashes_only_and_the_services_read_it(home: Home) -> None:
    text = home.people_file.read_text()
    assert all(home.token(person) not in text for person in homes.PEOPLE)
    assert hashlib.sha256(home.token("ben").encode()).hexdigest() in text

    ben = auth.People.read(str(home.people_file)).with_token(home.token("ben"))
    assert ben is not None
    assert (ben.name, ben.roles) == ("ben", frozenset({"approver"}))


def test_the_rule_of_four_eyes_can_be_met_on_a_laptop() -> None:
    assert {"author", "approver"} <= set(homes.PEOPLE["ana"])
    assert "approver" in homes.PEOPLE["ben"]


def test_an_unknown_person_is_told_who_is_known(home: Home) -> None:
    with pytest.raises(NotFound) as refused:
        home.token("eve")
    assert refused.value.hint.startswith("known here: ana, ben, iris, omar")


def test_ports_lie_below_those_of_outgoing_connections(home: Home) -> None:
    ports = home.ports()
    assert set(ports) == {*bus.SERVICES, "nats", "nats-monitor"}
    assert len(set(ports.values())) == len(ports)
    assert all(port < 32_768 for port in ports.values())


def test_ports_can_be_given(tmp_path: Path) -> None:
    home = Home(tmp_path)
    homes.prepare(home, first_port=8400)
    assert home.ports()["registry"] == 8400
    homes.prepare(home)
    assert home.ports()["nats"] == 8404


def test_a_taken_port_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not homes.port_is_free(taken.getsockname()[1])


def test_every_user_hears_its_own_inbox_only(home: Home) -> None:
    plans.of_nats(home)
    accounts = json.loads(home.nats_config.read_text())["accounts"]
    heard = {
        (name, number): login["permissions"]["subscribe"]
        for name, one in accounts.items()
        for number, login in enumerate(one["users"])
    }
    assert heard == {
        ("AFFIANT", 0): ["_INBOX_admin.>"],
        ("AFFIANT", 1): ["affiant.>"],
        ("AUDIT", 0): ["_INBOX_admin-audit.>"],
        ("AUDIT", 1): ["affiant.>"],
    } | {(user.upper(), 0): [f"_INBOX_{user}.>"] for user in (*bus.SERVICES, "modelserver", "operator", "outside")}


def test_the_configuration_of_the_bus_holds_no_seed(home: Home) -> None:
    plans.of_nats(home)
    text = home.nats_config.read_text()
    for user in homes.NATS_USERS:
        key = nkeys.read(home.nkey_file(user))
        assert key.public in text
        assert key.seed not in text


def test_a_service_is_told_where_its_secrets_lie_but_not_what_they_are(home: Home) -> None:
    for service in bus.SERVICES:
        settings = plans.settings(home, service)
        assert settings[f"AFFIANT_{service.upper()}_NATS_NKEY_FILE"] == str(home.nkey_file(service))
        assert home.nkey_file(service).read_text().strip() not in settings.values()
        assert home.token(service) not in settings.values()
