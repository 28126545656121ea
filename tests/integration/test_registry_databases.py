"""What the registry does, the same on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from affiant.common import ids, outbox
from affiant.common.errors import Conflict, Forbidden, NotFound, Problem, Unavailable
from affiant.common.events import Check
from affiant.registry.actions.deployments import Deployments
from affiant.registry.actions.lifecycle import Lifecycle
from affiant.registry.actions.lookup import Lookup
from affiant.registry.actions.order import Order
from affiant.registry.actions.registration import Registration, Upload
from affiant.registry.checks.findings import Examination, Finding
from affiant.registry.domain.lifecycle import Deployment, Version
from affiant.registry.domain.manifest import Manifest
from affiant.registry.store.artifacts import Artifacts
from affiant.registry.store.database import Store, open_engine
from affiant.registry.store.tables import OUTBOX
from tests.support.model import loan_spec
from tests.support.postgres import Postgres

SPEC = loan_spec(b"")
PASSED = Examination(
    checks=[Check(name="format", passed=True, detail="fine")],
    finding=Finding(inputs=SPEC.inputs, outputs=SPEC.outputs, columns=SPEC.columns, decision=SPEC.decision),
)
FAILED = Examination(checks=[Check(name="load", passed=False, detail="it does not load")])


class FakeExaminer:
    """Finds what it is told to find, without looking."""

    def __init__(self) -> None:
        self.found = PASSED

    async def examine(self, *_: object) -> Examination:
        await asyncio.sleep(0.01)
        return self.found


@dataclass
class Office:
    """The registry without its doors."""

    store: Store
    examiner: FakeExaminer
    registration: Registration
    lifecycle: Lifecycle
    lookup: Lookup
    deployments: Deployments

    async def register(self, content: bytes = b"model", model: str = "loan", **manifest: Any) -> Version:
        upload = Upload(model, io.BytesIO(content), io.BytesIO(b"a\n1\n"), Manifest(**manifest))
        return await self.registration.register(upload, Order("ana"))

    async def promote(self, version: int, alias: str = "champion") -> Version:
        return await self.lifecycle.promote("loan", version, alias, Order("ben", "better"))

    def events(self) -> list[dict[str, Any]]:
        """What waits in the outbox, oldest first."""
        with self.store.engine.connect() as connection:
            rows = connection.execute(select(OUTBOX.c.subject, OUTBOX.c.body).order_by(OUTBOX.c.sequence)).all()
        return [{"kind": row.subject.split(".")[2], **json.loads(row.body)["data"]} for row in rows]


def office(url: str, folder: Path) -> Office:
    store = Store(open_engine(url))
    artifacts = Artifacts(folder)
    artifacts.open(0.0)
    examiner = FakeExaminer()
    registration = Registration(store, artifacts, examiner, max_model_bytes=1000, max_background_bytes=1000)  # type: ignore[arg-type]
    return Office(store, examiner, registration, Lifecycle(store), Lookup(store, artifacts), Deployments(store))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def registry(url: str, tmp_path: Path) -> AsyncIterator[Office]:
    made = office(url, tmp_path)
    await made.store.open()
    yield made
    made.store.close()


async def test_versions_are_numbered_from_one_for_each_model(registry: Office) -> None:
    assert (await registry.register()).version == 1
    assert (await registry.register()).version == 2
    assert (await registry.register(model="other")).version == 1
    assert [model.name for model in await registry.lookup.models()] == ["loan", "other"]
    assert [version.version for version in (await registry.lookup.model("loan")).versions] == [2, 1]


async def test_registrations_at_once_get_different_numbers(registry: Office, url: str, tmp_path: Path) -> None:
    second = office(url, tmp_path)
    await second.store.open()
    both = [registry, second] * 8
    versions = await asyncio.gather(*(each.register(bytes([n])) for n, each in enumerate(both)))
    second.store.close()
    assert sorted(version.version for version in versions) == list(range(1, 17))
    assert len(registry.events()) == 16


async def test_a_version_is_as_it_was_registered(registry: Office) -> None:
    made = await registry.register(b"bytes", protected=["sex"], tags={"team": "credit"}, description="loans")
    found = await registry.lookup.version("loan", 1)
    assert found == made
    assert found.spec.tags == {"team": "credit"}
    assert found.spec.decision == SPEC.decision
    assert found.spec.size_bytes == 5
    assert [check.name for check in found.checks] == ["size", "digest", "format"]


async def test_the_event_of_a_registration_is_written_with_it(registry: Office) -> None:
    version = await registry.register()
    (event,) = registry.events()
    assert event["kind"] == "model_registered"
    assert event["spec"]["digest"] == version.digest
    assert event["registered_at"] == version.registered_at


async def test_a_refused_model_gets_no_number_and_no_file_but_a_line_in_the_history(registry: Office) -> None:
    registry.examiner.found = FAILED
    with pytest.raises(Problem, match="refused at the check 'load'") as caught:
        await registry.register()
    assert caught.value.details is not None
    assert [check["name"] for check in caught.value.details["checks"]] == ["size", "digest", "load"]
    assert registry.events() == []
    assert not list(registry.lookup.artifacts.kept.rglob("*"))
    assert not list(registry.lookup.artifacts.incoming.iterdir())
    (entry,) = await registry.lookup.history("loan")
    assert (entry.action, entry.version, entry.by) == ("refused", None, "ana")
    registry.examiner.found = PASSED
    assert (await registry.register()).version == 1


async def test_a_file_that_is_too_long_or_empty_is_not_examined(registry: Office) -> None:
    for content in (b"", b"x" * 1001):
        with pytest.raises(Problem, match="refused at the check 'size'"):
            await registry.register(content)


async def test_bytes_that_are_not_what_the_sender_says_are_refused(registry: Office) -> None:
    upload = Upload("loan", io.BytesIO(b"model"), None, Manifest(), "sha256:" + "0" * 64)
    with pytest.raises(Problem, match="refused at the check 'digest'"):
        await registry.registration.register(upload, Order("ana"))


async def test_the_same_bytes_are_one_file(registry: Office) -> None:
    first, second = await registry.register(), await registry.register()
    assert first.digest == second.digest
    path = await registry.lookup.artifact(first.digest)
    assert path.read_bytes() == b"model"
    assert len([file for file in registry.lookup.artifacts.kept.rglob("*") if file.is_file()]) == 2
    with pytest.raises(NotFound):
        await registry.lookup.artifact("sha256:" + "0" * 64)
    with pytest.raises(Problem):
        await registry.lookup.artifact("../../etc/passwd")


async def test_an_event_that_cannot_be_made_leaves_nothing_behind(registry: Office) -> None:
    with pytest.raises(Problem, match="fit into a message"):
        await registry.register(description="x" * 2_000_000)
    with pytest.raises(NotFound):
        await registry.lookup.model("loan")
    assert (await registry.register()).version == 1


async def test_another_person_promotes_and_that_is_the_approval(registry: Office) -> None:
    await registry.register()
    with pytest.raises(Forbidden):
        await registry.lifecycle.promote("loan", 1, "champion", Order("ana"))
    version = await registry.promote(1)
    assert version.aliases == ("champion",)
    event = registry.events()[-1]
    assert (event["kind"], event["approved_by"], event["by"]) == ("model_promoted", "ben", "ben")
    assert event.get("previous_version") is None
    entry = (await registry.lookup.history("loan"))[-1]
    assert (entry.action, entry.by, entry.reason) == ("promoted", "ben", "better")


async def test_promoting_what_holds_the_alias_changes_nothing(registry: Office) -> None:
    await registry.register()
    await registry.promote(1)
    assert (await registry.promote(1)).aliases == ("champion",)
    assert [event["kind"] for event in registry.events()] == ["model_registered", "model_promoted"]


async def test_an_alias_is_held_by_one_version_and_a_version_may_hold_both(registry: Office) -> None:
    await registry.register()
    await registry.register()
    await registry.promote(1)
    await registry.promote(2, "challenger")
    await registry.promote(2)
    first, second = await registry.lookup.version("loan", 1), await registry.lookup.version("loan", 2)
    assert (first.aliases, second.aliases) == ((), ("challenger", "champion"))


async def test_a_rollback_returns_to_the_version_before_by_its_earlier_approval(registry: Office) -> None:
    await registry.register()
    await registry.register()
    await registry.promote(1)
    await registry.promote(2)
    version = await registry.lifecycle.rollback("loan", "champion", Order("omar", "denials"))
    assert (version.version, version.aliases) == (1, ("champion",))
    event = registry.events()[-1]
    assert (event["version"], event["previous_version"], event["rollback"]) == (1, 2, True)
    assert (event["approved_by"], event["by"]) == ("ben", "omar")
    with pytest.raises(Conflict, match="no earlier version"):
        await registry.lifecycle.rollback("loan", "champion", Order("omar"))


async def _canary(registry: Office) -> None:
    await registry.register()
    await registry.register()
    await registry.promote(1)
    await registry.lifecycle.promote("loan", 2, "challenger", Order("ben", "try it"), 10)


async def test_a_challenger_is_promised_a_share_of_the_champions_requests(registry: Office) -> None:
    await _canary(registry)
    event, entry = registry.events()[-1], (await registry.lookup.history("loan"))[-1]
    assert (event["alias"], event["version"], event["traffic"]) == ("challenger", 2, 10)
    assert entry.details["traffic"] == 10
    version = await registry.lifecycle.promote("loan", 2, "challenger", Order("ben"), 25)
    assert (version.traffic, registry.events()[-1]["traffic"]) == (25, 25)
    assert (await registry.lifecycle.promote("loan", 2, "challenger", Order("ben"), 25)).traffic == 25
    assert len([event for event in registry.events() if event["kind"] == "model_promoted"]) == 3


async def test_a_challenger_that_becomes_the_champion_keeps_no_share_beside_it(registry: Office) -> None:
    await _canary(registry)
    version = await registry.promote(2)
    assert (version.aliases, version.traffic) == (("challenger", "champion"), 0)
    told = [(event["alias"], event["version"], event.get("traffic", 0)) for event in registry.events()[-2:]]
    assert told == [("champion", 2, 0), ("challenger", 2, 0)]
    await registry.lifecycle.rollback("loan", "champion", Order("omar"))
    assert (await registry.lookup.holder("loan", "champion")).version.version == 1


async def test_a_rollback_during_a_canary_takes_the_share_away_and_leaves_the_champion(registry: Office) -> None:
    await _canary(registry)
    version = await registry.lifecycle.rollback("loan", "champion", Order("omar", "errors"))
    assert (version.version, version.aliases) == (1, ("champion",))
    event = registry.events()[-1]
    assert (event["alias"], event["version"], event.get("traffic", 0)) == ("challenger", 2, 0)
    assert (event["rollback"], event["approved_by"], event["by"]) == (True, "ben", "omar")


@pytest.mark.parametrize(
    ("number", "alias", "traffic", "error"),
    [(2, "champion", 10, Problem), (2, "challenger", 100, Problem), (1, "challenger", 10, Conflict)],
)
async def test_a_share_without_a_meaning_is_refused(
    registry: Office, number: int, alias: str, traffic: int, error: type[Problem]
) -> None:
    await registry.register()
    await registry.register()
    await registry.promote(1)
    with pytest.raises(error):
        await registry.lifecycle.promote("loan", number, alias, Order("ben"), traffic)


async def test_a_share_needs_a_champion(registry: Office) -> None:
    await registry.register()
    with pytest.raises(Conflict, match="no champion whose requests"):
        await registry.lifecycle.promote("loan", 1, "challenger", Order("ben"), 10)


async def test_promotions_at_once_form_one_chain(registry: Office) -> None:
    for _ in range(4):
        await registry.register()
    await asyncio.gather(*(registry.promote(number) for number in (1, 2, 3, 4)))
    moves = await registry.store.query(lambda records: records.moves("loan", "champion"))
    assert [move.before for move in moves] == [None, *(move.id for move in moves[:-1])]
    seen = [event for event in registry.events() if event["kind"] == "model_promoted"]
    assert [event.get("previous_version") for event in seen] == [None, *(event["version"] for event in seen[:-1])]


async def test_the_champion_at_a_time_is_known(registry: Office) -> None:
    await registry.register()
    await registry.register()
    before = ids.now()
    with pytest.raises(NotFound, match="no version of 'loan' was champion"):
        await registry.lookup.holder("loan", "champion")
    await registry.promote(1)
    between = ids.now()
    await registry.promote(2)
    then = await registry.lookup.holder("loan", "champion", between)
    now = await registry.lookup.holder("loan", "champion")
    assert (then.version.version, now.version.version) == (1, 2)
    assert then.until == now.move.at
    assert now.until == ""
    with pytest.raises(NotFound):
        await registry.lookup.holder("loan", "champion", before)
    for text in ("yesterday", "2026-01-01T00:00:00"):
        with pytest.raises(Problem, match="is no time"):
            await registry.lookup.holder("loan", "champion", text)


async def test_a_clock_that_is_set_back_changes_no_order(registry: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await registry.register()
    await registry.register()
    await registry.promote(1)
    monkeypatch.setattr(ids, "now", lambda: "2020-01-01T00:00:00.000000Z")
    await registry.promote(2)
    await registry.lifecycle.archive("loan", 1, Order("ben"))
    times = [event.get("promoted_at") or event.get("archived_at") for event in registry.events()[2:]]
    assert len(times) == 3 and times == sorted(set(times))
    assert (await registry.lookup.holder("loan", "champion")).version.version == 2


async def test_archiving_takes_the_alias_away_and_the_champions_only_by_force(registry: Office) -> None:
    await registry.register()
    await registry.promote(1)
    with pytest.raises(Conflict):
        await registry.lifecycle.archive("loan", 1, Order("ben"))
    version = await registry.lifecycle.archive("loan", 1, Order("ben", "retired"), force=True)
    assert (version.state, version.aliases) == ("archived", ())
    event = registry.events()[-1]
    assert (event["kind"], event["removed_aliases"], event["by"]) == ("model_archived", ["champion"], "ben")
    with pytest.raises(NotFound):
        await registry.lookup.holder("loan", "champion")
    with pytest.raises(Conflict, match="archived"):
        await registry.promote(1)


async def test_deprecating_leaves_the_alias_where_it_is(registry: Office) -> None:
    await registry.register()
    await registry.promote(1)
    version = await registry.lifecycle.deprecate("loan", 1, Order("ben", "old"))
    assert (version.state, version.aliases) == ("deprecated", ("champion",))
    await registry.lifecycle.deprecate("loan", 1, Order("ben", "old"))
    assert [event["kind"] for event in registry.events()].count("model_deprecated") == 1


async def test_tags_are_replaced_and_the_old_ones_stay_in_the_history(registry: Office) -> None:
    await registry.register(tags={"a": "1"})
    version = await registry.lifecycle.set_tags("loan", 1, {"b": "2"}, Order("ana"))
    assert version.spec.tags == {"b": "2"}
    entry = (await registry.lookup.history("loan"))[-1]
    assert entry.details == {"before": {"a": "1"}, "after": {"b": "2"}}
    await registry.promote(1)
    assert registry.events()[-1]["spec"]["tags"] == {"b": "2"}


async def test_what_does_not_exist_is_not_found(registry: Office) -> None:
    for asking in (
        registry.lookup.model("none"),
        registry.lookup.version("none", 1),
        registry.lookup.history("none"),
        registry.promote(1),
        registry.lifecycle.archive("none", 1, Order("ben")),
        registry.lifecycle.rollback("none", "champion", Order("ben")),
    ):
        with pytest.raises(NotFound):
            await asking


async def test_a_deployment_is_shown_and_a_redelivery_changes_nothing(registry: Office) -> None:
    await registry.register()
    await registry.register()
    serving = Deployment("champion", "serving", "http://x", "", "2026-01-02T00:00:00.000000Z")
    gone = Deployment("champion", "undeployed", "", "stopped", "2026-01-03T00:00:00.000000Z")
    await registry.deployments.note("e1", "loan", 1, serving)
    assert (await registry.lookup.version("loan", 1)).deployment == serving
    await registry.deployments.note("e2", "loan", 1, gone)
    await registry.deployments.note("e1", "loan", 1, serving)
    assert (await registry.lookup.version("loan", 1)).deployment == gone


async def test_a_deployment_that_arrives_late_does_not_hide_a_newer_one(registry: Office) -> None:
    await registry.register()
    newer = Deployment("champion", "serving", "http://x", "", "2026-01-03T00:00:00.000000Z")
    older = Deployment("champion", "failed", "", "no", "2026-01-02T00:00:00.000000Z")
    await registry.deployments.note("e2", "loan", 1, newer)
    await registry.deployments.note("e1", "loan", 1, older)
    assert (await registry.lookup.version("loan", 1)).deployment == newer


async def test_the_version_that_was_replaced_is_shown_as_no_longer_served(registry: Office) -> None:
    await registry.register()
    await registry.register()
    for number, replaced in ((1, None), (2, 1)):
        state = Deployment("champion", "serving", "http://x", "", f"2026-01-0{number}T00:00:00.000000Z")
        await registry.deployments.note(f"e{number}", "loan", number, state, replaced)
    first = (await registry.lookup.version("loan", 1)).deployment
    assert first is not None
    assert (first.state, first.reason) == ("undeployed", "replaced by version 2")


async def test_everything_is_there_after_opening_again(registry: Office, url: str, tmp_path: Path) -> None:
    await registry.register()
    await registry.promote(1)
    again = office(url, tmp_path)
    await again.store.open()
    assert (await again.lookup.version("loan", 1)).aliases == ("champion",)
    assert (await again.register()).version == 2
    again.store.close()


async def test_reading_is_not_kept_waiting_by_a_writer(registry: Office) -> None:
    await registry.register()
    with registry.store.engine.begin() as writing:
        writing.execute(OUTBOX.delete())
        found = await asyncio.wait_for(registry.lookup.model("loan"), 2.0)
    assert found.versions[0].version == 1


async def test_a_message_waits_in_the_outbox_as_the_relay_reads_it(registry: Office) -> None:
    await registry.register()
    published: list[str] = []

    class JetStream:
        async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
            published.append(subject)

    relay = outbox.Relay(registry.store.engine, OUTBOX, JetStream())  # type: ignore[arg-type]
    assert await relay.publish_waiting() == 1
    assert published == ["affiant.registry.model_registered.v1"]
    assert registry.events() == []


async def test_a_database_that_is_away_is_said_and_comes_back(tmp_path: Path) -> None:
    server = Postgres()
    server.start()
    registry = office(server.new_database(), tmp_path)
    try:
        await registry.store.open()
        await registry.register()
        server.kill()
        with pytest.raises(Unavailable, match="database does not answer"):
            await registry.lookup.model("loan")
        assert await registry.store.problem()
        server.start()
        assert (await registry.register()).version == 2
        assert not await registry.store.problem()
    finally:
        registry.store.close()
        server.stop()


async def test_the_image_of_a_version_travels_with_its_promotions(registry: Office) -> None:
    await registry.register()
    await registry.register()
    first, second = (f"registry.example.com/models/loan@sha256:{digit * 64}" for digit in "12")
    order = Order("omar")
    await registry.lifecycle.package("loan", 1, first, ["linux/amd64"], order)
    await registry.lifecycle.package("loan", 1, first, ["linux/amd64"], order)
    made = await registry.lifecycle.package("loan", 1, second, ["linux/amd64"], order)
    assert made.spec.image == (await registry.lookup.version("loan", 1)).spec.image == second
    assert (await registry.lookup.version("loan", 2)).spec.image == ""

    await registry.promote(1)
    packaged = [event["image"] for event in registry.events() if event["kind"] == "model_packaged"]
    assert packaged == [first, second]
    assert registry.events()[-1]["spec"]["image"] == second
