"""The bus of a cluster, made ready outside of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from affiant.cli import bootstrap
from affiant.cli.bootstrap import Folder
from affiant.cli.home import NATS_USERS
from affiant.common import auth, nkeys
from affiant.common.errors import Conflict, NotFound, Problem


def made(path: Path, servers: int = 3, tls: bool = False) -> Folder:
    folder = Folder(path)
    bootstrap.prepare(folder, ["core-banking", bootstrap.TRIAL])
    bootstrap.prepare_people(folder, {"ana": ["author"]})
    password = bootstrap.route_password(folder)
    server = bootstrap.cluster_server(release="a", namespace="n", servers=servers, tls=tls, password=password)
    bootstrap.write(folder, server, "a")
    return folder


def keys_of(folder: Folder, account: str) -> list[str]:
    return [login["nkey"] for login in json.loads(folder.config.read_text())["accounts"][account]["users"]]


def test_everybody_gets_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for user in (*NATS_USERS, "core-banking"):
        assert folder.seed(user).stat().st_mode & 0o777 == 0o600
        assert nkeys.read(folder.seed(user)).public in folder.config.read_text()
    assert bootstrap.prepare(folder, ["core-banking"]) == []


def test_a_secret_holds_the_seed_of_one_user_and_the_configuration_holds_none(tmp_path: Path) -> None:
    folder = made(tmp_path)
    found = {one["metadata"]["name"]: one["data"] for one in yaml.safe_load_all(folder.secrets.read_text())}
    config = base64.b64decode(found.pop("a-nats-config")["nats.conf"]).decode()
    bus_secrets = {name: data for name, data in found.items() if name.startswith("a-nats-")}
    for name, data in bus_secrets.items():
        key = nkeys.NKey.from_seed(base64.b64decode(data["seed"]).decode())
        assert key.public == nkeys.read(folder.seed(name.removeprefix("a-nats-"))).public
        assert key.seed not in config
    assert len(bus_secrets) == len(NATS_USERS) + 2


def test_a_changed_key_and_the_one_before_both_count_until_the_old_one_is_retired(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (before,) = keys_of(folder, "REGISTRY")
    bootstrap.rotate(folder, "registry")
    made(tmp_path)
    assert keys_of(folder, "REGISTRY") == [nkeys.read(folder.seed("registry")).public, before]
    with pytest.raises(Conflict, match="still counts"):
        bootstrap.rotate(folder, "registry")
    bootstrap.retire(folder, "registry")
    made(tmp_path)
    assert before not in keys_of(folder, "REGISTRY")
    with pytest.raises(NotFound):
        bootstrap.retire(folder, "registry")


@pytest.mark.parametrize("name", ["registry", "audit", "affiant", "admin-audit", "Core", "a.b", "", "../x"])
def test_an_outside_system_cannot_take_a_name_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(Problem, match="cannot be an outside system's name"):
        bootstrap.prepare(Folder(tmp_path), [name])


def test_servers_know_each_other_by_a_password_and_sync_always(tmp_path: Path) -> None:
    config = json.loads(made(tmp_path, tls=True).config.read_text())
    password = (tmp_path / "keys" / "routes").read_text()
    assert config["cluster"]["authorization"]["password"] == password
    assert config["cluster"]["routes"][2] == f"nats://routes:{password}@a-nats-2.a-nats.n.svc:6222"
    assert config["cluster"]["tls"]["ca_file"] == "/etc/nats/tls/ca.crt"
    assert config["tls"]["cert_file"] == "/etc/nats/tls/tls.crt"
    assert config["jetstream"]["sync_interval"] == "always"
    assert "cluster" not in json.loads(made(tmp_path, servers=1).config.read_text())


def test_people_are_known_by_hashes_and_their_tokens_are_files(tmp_path: Path) -> None:
    folder = made(tmp_path)
    bootstrap.prepare_people(folder, {"ben": ["approver", "operator"]})
    people = auth.People.read(str(folder.people))
    for name, roles in (("ana", {"author"}), ("ben", {"approver", "operator"}), ("registry", {"service"})):
        token = folder.token(name).read_text().strip()
        found = people.with_token(token)
        assert found is not None
        assert (found.name, found.roles) == (name, frozenset(roles))
        assert token not in folder.people.read_text()


def test_personal_tokens_go_into_no_secret_and_a_models_token_into_one(tmp_path: Path) -> None:
    folder = made(tmp_path)
    found = {one["metadata"]["name"]: one["data"] for one in yaml.safe_load_all(folder.secrets.read_text())}
    text = json.dumps({name: {key: base64.b64decode(value).decode() for key, value in data.items()}
                       for name, data in found.items()})  # fmt: skip
    assert folder.token("ana").read_text() not in text
    assert text.count(folder.token(bootstrap.OF_MODELS).read_text()) == 1
    assert set(found["a-nats-modelserver"]) == {"seed", "token"}


@pytest.mark.parametrize("person", [{"ana": []}, {"ana": ["king"]}, {"ana": ["service"]}, {"registry": ["author"]}])
def test_a_person_without_a_fitting_role_is_refused(tmp_path: Path, person: dict[str, list[str]]) -> None:
    with pytest.raises(Problem, match="--person"):
        bootstrap.prepare_people(Folder(tmp_path), person)
