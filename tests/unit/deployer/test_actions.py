"""Noting wishes, the events that follow, and what a person is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from affiant.common import wire
from affiant.common.errors import Refused
from affiant.common.events import ModelArchived, ModelDeployed, ModelPromoted
from affiant.deployer.actions import facts
from affiant.deployer.actions.view import deployments
from affiant.deployer.actions.wishes import Wishes
from affiant.deployer.domain.situation import Situation
from affiant.deployer.domain.steps import Announce
from affiant.deployer.store import Store
from tests.unit.deployer.test_planning import trouble
from tests.unit.deployer.world import NOW, SLOT, server, serving, spec, wish

PROMOTED = ModelPromoted(
    model="loan", version=1, alias="champion", spec=spec(1), approved_by="ben", promoted_at="2026-01-01T00:00:00Z"
)


async def test_a_promotion_is_noted_and_wakes_the_reconciler(tmp_path: Path) -> None:
    store, woken = Store(tmp_path), []
    store.open()
    wishes = Wishes(store, lambda: woken.append(True))
    await wishes.promoted(PROMOTED, event_id="e1", traceparent="")
    [situation] = store.situations()
    assert situation.wish is not None
    assert (situation.wish.id, situation.wish.spec, len(woken)) == ("e1", spec(1), 1)
    await wishes.archived(
        ModelArchived(
            model="loan", version=1, digest=spec(1).digest, by="ben", archived_at="2026-01-02T", removed_aliases=[]
        )
    )
    [situation] = store.situations()
    assert (situation.wanted, len(woken)) == (None, 2)
    store.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "../loan"}, "not a model's name"),
        ({"version": 2}, "another version's spec"),
        ({"alias": "../../x"}, "not an alias"),
        ({"spec": msgspec.structs.replace(spec(1), digest="sha256:../../etc/passwd")}, "not a digest"),
    ],
)
async def test_a_promotion_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        await Wishes(Store(tmp_path), lambda: None).promoted(
            msgspec.structs.replace(PROMOTED, **changes), event_id="e1", traceparent=""
        )


def announcement(wish_id: str = "wish-1", replica: str = "r1") -> wire.Message:
    step = Announce(server(1, replica=replica), spec(1), wish_id, None, 1.5)
    return facts.deployed(Situation(SLOT, wish=wish(1), address="http://127.0.0.1:20000"), step, "local")[1]


def test_the_same_fact_has_the_same_id_and_another_has_another() -> None:
    assert announcement().id == announcement().id
    assert len({announcement().id, announcement(wish_id="w2").id, announcement(replica="r2").id}) == 3


def test_an_announcement_says_where_and_how_long_it_took() -> None:
    message = announcement()
    event = wire.decode(message.subject, message.body, message.headers).event
    assert isinstance(event, ModelDeployed)
    assert (event.url, event.seconds, event.replicas) == ("http://127.0.0.1:20000", 1.5, ["r1"])


def test_an_event_goes_on_with_the_trace_of_its_promotion() -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    step = Announce(server(1), spec(1), "wish-1", None, 0.0)
    traced = msgspec.structs.replace(wish(1), traceparent=given)
    _, message = facts.deployed(Situation(SLOT, wish=traced), step, "local")
    assert message.headers["traceparent"].split("-")[1] == given.split("-")[1]


def state(situation: Situation) -> tuple[str, str]:
    [view] = deployments([situation]).deployments
    return view.state, view.reason


def test_a_version_serves_once_it_is_announced() -> None:
    situation = Situation(SLOT, wish=wish(1))
    assert state(situation) == ("starting", "")
    situation = replace(situation, instances=(server(1),))
    assert state(situation) == ("starting", "")
    assert state(replace(situation, serving=serving(1))) == ("serving", "")


def test_a_failed_version_says_whether_it_is_tried_again() -> None:
    failed = Situation(SLOT, wish=wish(2), serving=serving(1), instances=(server(1),), troubles={2: trouble(2)})
    assert state(failed) == ("failed", "broken; trying again")
    final = replace(failed, troubles={2: trouble(2, final=True)})
    assert state(final) == ("failed", "broken; not tried again until a new promotion")


def test_what_is_on_its_way_out_is_shown_until_it_is_gone() -> None:
    leaving = Situation(SLOT, serving=serving(1), instances=(server(1, "draining", drain_asked_at=NOW),))
    [view] = deployments([leaving]).deployments
    assert (view.state, view.version, view.replicas[0].state) == ("draining", 1, "draining")
    assert deployments([Situation(SLOT)]).deployments == []
