"""The local back end by itself: files, sockets and processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from affiant.common.errors import Problem, Unavailable
from affiant.common.serving import BusAccess, read_config
from affiant.deployer.backends.artifacts import Artifacts, WrongDigest
from affiant.deployer.backends.local.backend import LocalBackend
from affiant.deployer.backends.local.folders import SOCKET_PATH_BYTES, folders_below
from affiant.deployer.backends.local.listeners import Listeners
from affiant.deployer.domain.situation import Instance, Slot
from affiant.deployer.store import Store
from tests.support.deployer import FAKE, FakeRegistry, answer, fake_file, fake_spec

SLOT = Slot("loan", "champion")


class Local:
    """A back end over a folder, and another one after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FakeRegistry("t")
        (folder / "token").write_text("t")
        self.store = Store(folder / "data")
        self.store.open()
        self.backend = self.make()

    def make(self) -> LocalBackend:
        folders = folders_below(self.folder / "data")
        return LocalBackend(
            folders,
            Artifacts(folders.artifacts, self.registry.url, str(self.folder / "token")),
            Listeners("127.0.0.1", self.store),
            BusAccess(url="nats://127.0.0.1:1"),
            drain_seconds=2,
            changed=lambda: None,
            command=FAKE,
        )

    async def starts(self, version: int = 1, **tags: str) -> None:
        self.registry.files[fake_spec(version).digest] = fake_file(version)
        await self.backend.start(SLOT, fake_spec(version, **tags))

    async def until(self, wanted: Callable[[list[Instance]], object]) -> list[Instance]:
        async with asyncio.timeout(45):
            while not wanted(found := await self.backend.observe()):
                await asyncio.sleep(0.02)
        return found

    async def until_phase(self, phase: str) -> Instance:
        return (await self.until(lambda found: [one.phase for one in found] == [phase]))[0]

    async def comes_back(self) -> None:
        """The deployer ends, its servers do not; another deployer begins."""
        await self.backend.close(stop=False)
        self.backend = self.make()
        await self.backend.open()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    found = Local(tmp_path)
    await found.backend.open()
    yield found
    for instance in await found.backend.observe():
        await found.backend.discard(instance)
    await found.backend.close(stop=False)
    found.store.close()
    found.registry.close()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_started_server_answers_at_the_address(local: Local) -> None:
    await local.starts()
    await local.until_phase("ready")
    assert (await answer(local.backend.address(SLOT)))["version"] == 1


async def test_only_the_owner_can_read_a_servers_configuration(local: Local) -> None:
    await local.starts()
    await local.until_phase("ready")
    [config] = (local.folder / "data" / "servers").glob("*/config.json")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert read_config(config.read_bytes()).spec == fake_spec(1)


async def test_a_server_has_a_session_of_its_own_and_not_the_deployers_settings(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFIANT_DEPLOYER_SERVICE_TOKEN_FILE", "/somewhere")
    await local.starts()
    pid = (await local.until_phase("ready")).pid
    assert os.getsid(pid) == pid
    assert b"AFFIANT_DEPLOYER" not in environment_of(pid)


async def test_a_server_that_still_starts_is_taken_over_with_its_address(local: Local) -> None:
    await local.starts(late="1.0")
    first = await local.until_phase("starting")
    await local.comes_back()
    assert local.backend.address(SLOT) == ""
    after = await local.until_phase("ready")
    assert (after.replica, after.pid) == (first.replica, first.pid)
    assert (await answer(local.backend.address(SLOT)))["version"] == 1


async def test_a_server_that_was_taken_over_is_seen_to_end(local: Local) -> None:
    await local.starts()
    await local.until_phase("ready")
    await local.comes_back()
    pid = (await local.until_phase("ready")).pid
    os.kill(pid, signal.SIGKILL)
    assert "ended" in (await local.until_phase("failed")).reason


async def test_a_crash_is_told_with_the_exit_code_and_the_last_lines(local: Local) -> None:
    await local.starts(fake="crash")
    failed = await local.until_phase("failed")
    assert failed.reason == "the model server ended with exit code 3 before it was ready"
    assert failed.log == "the fake model server says why"


async def test_a_server_that_is_told_to_end_by_another_drains(local: Local) -> None:
    await local.starts(slow="2")
    pid = (await local.until_phase("ready")).pid
    under_way = asyncio.create_task(answer(local.backend.address(SLOT)))
    await asyncio.sleep(0.2)
    os.kill(pid, signal.SIGTERM)
    assert (await local.until_phase("draining")).drain_asked_at is not None
    assert (await under_way)["version"] == 1


async def test_a_server_that_does_not_drain_can_be_discarded(local: Local) -> None:
    await local.starts(fake="deaf")
    instance = await local.until_phase("ready")
    await local.backend.drain(instance)
    assert (await local.until_phase("ready")).drain_asked_at is not None
    await local.backend.discard(instance)
    assert await local.backend.observe() == []
    assert not list((local.folder / "data" / "run").glob("*.sock"))


async def test_a_server_that_is_not_wanted_any_more_while_its_model_is_fetched_never_starts(local: Local) -> None:
    await local.starts()
    [instance] = await local.backend.observe()
    assert instance.phase == "preparing"
    await local.backend.drain(instance)
    assert (await local.until_phase("failed")).pid == 0


async def test_a_port_that_another_program_took_is_named(local: Local) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        local.store.keep_port(SLOT, other.getsockname()[1])
        await local.starts()
        assert "another program has it" in (await local.until_phase("failed")).reason


async def test_a_registry_that_is_away_is_a_failure_that_may_pass(local: Local) -> None:
    local.registry.close()
    await local.starts()
    failed = await local.until_phase("failed")
    assert failed.reason.startswith("cannot fetch sha256:")
    assert not failed.final


async def test_other_bytes_than_the_registered_ones_are_a_final_failure(local: Local) -> None:
    local.registry.files[fake_spec(1).digest] = b"the file of version 9"
    await local.backend.start(SLOT, fake_spec(1))
    failed = await local.until_phase("failed")
    assert failed.final
    assert not [*(local.folder / "data" / "artifacts").iterdir()]


@pytest.fixture
def artifacts(local: Local) -> Artifacts:
    return Artifacts(local.folder / "data" / "artifacts", local.registry.url, str(local.folder / "token"))


async def test_a_file_is_fetched_once_and_again_when_it_was_altered(local: Local, artifacts: Artifacts) -> None:
    spec = fake_spec(1)
    local.registry.files[spec.digest] = fake_file(1)
    paths = await asyncio.gather(*(artifacts.fetch(spec.digest, spec.size_bytes) for _ in range(3)))
    assert len(local.registry.fetched) == 1
    paths[0].chmod(0o600)
    paths[0].write_bytes(b"altered")
    assert (await artifacts.fetch(spec.digest, spec.size_bytes)).read_bytes() == fake_file(1)
    assert len(local.registry.fetched) == 2


async def test_a_file_that_is_longer_than_registered_is_not_read_to_its_end(local: Local, artifacts: Artifacts) -> None:
    local.registry.files[fake_spec(1).digest] = b"x" * 1_000_000
    with pytest.raises(WrongDigest, match="larger than"):
        await artifacts.fetch(fake_spec(1).digest, 10)


async def test_an_unknown_file_or_token_is_told_as_the_registry_tells_it(local: Local, artifacts: Artifacts) -> None:
    with pytest.raises(Unavailable, match="404"):
        await artifacts.fetch(fake_spec(1).digest, 10)
    (local.folder / "token").write_text("wrong")
    with pytest.raises(Unavailable, match="who are you"):
        await artifacts.fetch(fake_spec(1).digest, 10)


def test_control_sockets_fit_into_their_address_however_deep_the_folder_is(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    folders = folders_below(deep)
    folders.make()
    try:
        assert len(os.fsencode(folders.control_socket("0123456789ab"))) <= SOCKET_PATH_BYTES
        assert stat.S_IMODE(folders.run.stat().st_mode) == 0o700
        assert folders_below(deep).run == folders.run
    finally:
        folders.run.rmdir()


def test_a_run_folder_that_others_can_enter_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="a") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        folders = folders_below(tmp_path / ("d" * 100))
        assert folders.run.parent == Path(short)
        folders.run.mkdir(mode=0o755)
        folders.run.chmod(0o755)
        with pytest.raises(Problem, match="not a private folder"):
            folders.make()
