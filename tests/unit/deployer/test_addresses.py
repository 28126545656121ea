"""Planning where the back end leads addresses itself, and where a platform starts servers again by itself."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from affiant.deployer.actions.reconcile import with_share
from affiant.deployer.domain.planning import Plan, plan
from affiant.deployer.domain.situation import Instance, Limits, Route, Situation, Slot, Trouble, Wish
from affiant.deployer.domain.steps import Announce, Drain, Fail, Redirect, Start, Withdraw
from tests.unit.deployer.world import LIMITS, NOW, SLOT, server, serving, spec, wish

CHALLENGER = Slot("loan", "challenger")


def planned(now: float = NOW, limits: Limits = LIMITS, **situation: object) -> Plan:
    return plan(Situation(SLOT, routes=True, **situation), limits, now)  # type: ignore[arg-type]


def challenged(percent: int, now: float = NOW, limits: Limits = LIMITS, **situation: object) -> Plan:
    whole = Situation(CHALLENGER, wish=_wish(2, percent), routes=True, **situation)  # type: ignore[arg-type]
    return plan(whole, limits, now)


def _wish(version: int, percent: int) -> Wish:
    return msgspec.structs.replace(wish(version), traffic=percent)


def failing(version: int, **more: object) -> Instance:
    return server(version, "failed", reason="cannot be pulled", cause="pull", recovers=True, **more)


def test_the_address_leads_to_a_version_once_it_is_ready() -> None:
    assert planned(wish=wish(1), instances=(server(1, "starting", age=1),)).steps == ()
    [redirect] = planned(wish=wish(1), instances=(server(1),)).steps
    assert redirect == Redirect(Route("replica-1"))


def test_a_version_is_announced_when_its_address_leads_to_it() -> None:
    [announce] = planned(wish=wish(1), instances=(server(1),), route=Route("replica-1")).steps
    assert isinstance(announce, Announce)


def test_the_address_is_led_to_the_new_version_before_the_old_one_goes() -> None:
    both = (server(1), server(2))
    first, second = planned(wish=wish(2), instances=both, serving=serving(1), route=Route("replica-1")).steps
    assert (first, second) == (Redirect(Route("replica-2")), Drain(server(1)))


def test_while_nothing_is_ready_the_address_stays_as_it_is() -> None:
    gone = server(1, "starting", age=1, recovers=True)
    assert planned(wish=wish(1), instances=(gone,), serving=serving(1), route=Route("replica-1")).steps == ()


def test_a_failed_server_that_recovers_is_told_of_once_and_kept() -> None:
    both = (server(1), failing(2))
    first = planned(wish=wish(2), instances=both, serving=serving(1), route=Route("replica-1"))
    [fail] = first.steps
    assert isinstance(fail, Fail)
    assert (fail.tell, fail.still_serving) == (True, 1)
    told = {2: fail.trouble}
    again = planned(wish=wish(2), instances=both, serving=serving(1), route=Route("replica-1"), troubles=told)
    assert again.steps == ()
    assert [kept.instance for kept in again.keep] == [failing(2), server(1)]


def test_another_cause_is_told_of_anew() -> None:
    before = Trouble(
        wish_id="wish-2",
        replica="replica-2",
        failures=1,
        crashes=0,
        retry_at=NOW,
        at=NOW,
        reason="cannot be pulled",
        told="cannot be pulled",
        cause="pull",
    )
    crashed = replace(failing(2), reason="crashes again and again", cause="crash")
    both = (server(1), crashed)
    [fail] = planned(
        wish=wish(2), instances=both, serving=serving(1), route=Route("replica-1"), troubles={2: before}
    ).steps
    assert isinstance(fail, Fail)
    assert (fail.tell, fail.trouble.failures) == (True, 2)


def test_a_failed_server_that_is_no_longer_wanted_is_drained() -> None:
    assert planned(wish=wish(3), instances=(failing(2),), route=None).steps == (Drain(failing(2)), Start(spec(3)))


def test_the_challenger_gets_its_share_when_it_is_ready() -> None:
    champion = {"wish": wish(1), "instances": (server(1),), "serving": serving(1), "route": Route("replica-1")}
    assert planned(**champion, share=10).steps == ()
    [redirect] = planned(**champion, share=10, challenger=server(2)).steps
    assert redirect == Redirect(Route("replica-1", 10))


def test_a_challenger_that_is_the_champions_version_needs_no_share() -> None:
    champion = {"wish": wish(2), "instances": (server(2),), "serving": serving(2), "route": Route("replica-2")}
    assert planned(**champion, share=10, challenger=server(2, replica="other")).steps == ()


def test_a_challengers_share_is_announced_when_it_has_it() -> None:
    one = {"instances": (server(2),), "serving": serving(2), "route": Route("replica-2")}
    assert challenged(10, **one, given=0).steps == ()
    [announce] = challenged(10, **one, given=10).steps
    assert isinstance(announce, Announce)
    assert announce.traffic == 10
    unsettled = one | {"instances": (server(2, settled=False),)}
    assert challenged(10, **unsettled, given=10).steps == ()


def test_an_idle_challenger_sleeps_after_a_while_and_not_with_a_share() -> None:
    patient = replace(LIMITS, silent=9999.0, idle=500.0)
    one = {"instances": (server(2),), "serving": serving(2), "route": Route("replica-2")}
    early = challenged(0, NOW + 499, patient, **one)
    assert (early.keep[0].asleep, early.look_again_at) == (False, NOW + 500)
    assert challenged(0, NOW + 500, patient, **one).keep[0].asleep
    assert not challenged(10, NOW + 500, patient, **one, given=10).keep[0].asleep


def test_a_challenger_that_sleeps_is_withdrawn_and_sleeps_on() -> None:
    patient = replace(LIMITS, silent=9999.0, idle=500.0)
    sleeping = replace(server(2, "idle"), changed_at=NOW + 500)
    found = challenged(0, NOW + 600, patient, instances=(sleeping,), serving=serving(2), route=Route("replica-2"))
    assert found.steps == (Withdraw(spec(2), idle=True),)
    assert found.keep[0].asleep


def test_a_champion_never_sleeps() -> None:
    patient = replace(LIMITS, silent=9999.0, idle=1.0)
    found = planned(NOW + 999, patient, wish=wish(1), instances=(server(1),), serving=serving(1))
    assert not found.keep[0].asleep


def test_both_slots_learn_of_the_share() -> None:
    challenger = Situation(CHALLENGER, wish=_wish(2, 10))
    ready = replace(server(2), slot=CHALLENGER)
    champion = with_share(Situation(SLOT, wish=wish(1)), challenger, [ready], Route("replica-1"))
    assert (champion.share, champion.challenger) == (10, ready)
    assert with_share(challenger, challenger, [ready], Route("replica-1", 10)).given == 10
    assert with_share(challenger, challenger, [], Route("replica-1", 10)).given == 0
