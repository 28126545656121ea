"""What the deployer remembers, and in which order it believes the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from affiant.common import wire
from affiant.common.errors import Problem
from affiant.common.events import ModelUndeployed
from affiant.deployer.domain.situation import Situation, Slot, Trouble, Wish
from affiant.deployer.store import Store, outbox_rows
from tests.unit.deployer.world import SLOT, serving, wish


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "deployer")
    found.open()
    yield found
    found.close()


def only(store: Store) -> Situation:
    [situation] = store.situations()
    return situation


def at(version: int, second: int) -> Wish:
    return msgspec.structs.replace(wish(version), id=f"at-{second}", promoted_at=f"2026-01-01T00:00:{second:02d}Z")


def event(id: str = "1") -> wire.Message:
    return wire.encode(
        ModelUndeployed(model="loan", version=1, digest="sha256:0", alias="champion", undeployed_at=""),
        owner="deployer",
        id=id,
    )


def test_the_latest_promotion_is_the_wish(store: Store) -> None:
    assert store.wish(SLOT, at(1, 1))
    assert store.wish(SLOT, at(2, 2))
    assert only(store).wish == at(2, 2)


def test_a_promotion_that_comes_again_or_late_changes_nothing(store: Store) -> None:
    store.wish(SLOT, at(2, 2))
    assert not store.wish(SLOT, at(2, 2))
    assert not store.wish(SLOT, at(1, 1))
    assert only(store).wish == at(2, 2)


def test_what_is_archived_is_not_wanted(store: Store) -> None:
    store.wish(SLOT, at(1, 1))
    store.archive("loan", 1, ["champion"], "2026-01-01T00:00:02Z")
    assert (only(store).wish, only(store).wanted) == (None, None)


def test_archiving_an_old_version_leaves_the_new_wish(store: Store) -> None:
    store.wish(SLOT, at(2, 3))
    store.archive("loan", 1, ["champion"], "2026-01-01T00:00:02Z")
    assert only(store).wish == at(2, 3)
    assert only(store).archived == frozenset({1})


def test_a_promotion_that_arrives_after_its_archiving_is_not_wanted(store: Store) -> None:
    store.archive("loan", 1, ["champion"], "2026-01-01T00:00:02Z")
    assert not store.wish(SLOT, at(1, 1))
    assert store.situations() == []


def test_the_aliases_of_a_model_are_apart(store: Store) -> None:
    store.wish(SLOT, at(1, 1))
    store.wish(Slot("loan", "challenger"), at(2, 2))
    assert [(one.slot.alias, one.wish and one.wish.spec.version) for one in store.situations()] == [
        ("challenger", 2),
        ("champion", 1),
    ]


def test_what_is_deployed_is_kept_together_with_its_event(store: Store) -> None:
    store.wish(SLOT, at(1, 1))
    store.announce(SLOT, serving(1), event())
    assert only(store).serving == serving(1)
    with store.engine.connect() as connection:
        assert connection.execute(select(outbox_rows.c.event_id)).scalars().all() == ["1"]


def test_neither_is_kept_where_the_event_cannot_be(store: Store) -> None:
    store.wish(SLOT, at(1, 1))
    store.announce(SLOT, serving(1), event())
    with pytest.raises(Exception, match="UNIQUE"):
        store.announce(SLOT, None, event())
    assert only(store).serving == serving(1)


def test_troubles_outlive_the_deployer(tmp_path: Path) -> None:
    trouble = Trouble(wish_id="w", replica="r", failures=1, crashes=0, retry_at=1.0, at=1.0, reason="why", final=True)
    for attempt in range(2):
        store = Store(tmp_path / "deployer")
        store.open()
        if attempt == 0:
            store.wish(SLOT, at(1, 1))
            store.fail(SLOT, 1, trouble, None)
        assert only(store).troubles == {1: trouble}
        store.close()


def test_a_slot_keeps_its_port(store: Store) -> None:
    assert store.port(SLOT) is None
    store.keep_port(SLOT, 20_001)
    assert (store.port(SLOT), store.taken_ports()) == (20_001, frozenset({20_001}))


def test_a_second_deployer_is_kept_out(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="another deployer runs"):
        Store(tmp_path / "deployer").open()
