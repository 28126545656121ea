"""From a situation to the next steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affiant.deployer.domain.planning import plan, retry_delay
from affiant.deployer.domain.situation import Situation, Trouble
from affiant.deployer.domain.steps import Announce, Discard, Drain, Fail, Release, Start, Withdraw
from tests.unit.deployer.world import LIMITS, NOW, SLOT, World, server, serving, spec, steps, wish


def trouble(version: int, *, retry_in: float = 10.0, final: bool = False, failures: int = 1) -> Trouble:
    return Trouble(
        wish_id=f"wish-{version}",
        replica="earlier",
        failures=failures,
        crashes=0,
        retry_at=NOW + retry_in,
        at=NOW,
        reason="broken",
        told="broken",
        final=final,
    )


def test_a_promoted_version_is_started() -> None:
    assert steps(wish=wish(1)) == (Start(spec(1)),)


def test_nothing_is_done_while_it_starts() -> None:
    assert steps(wish=wish(1), instances=(server(1, "starting", age=1),)) == ()


def test_a_ready_version_is_announced_once() -> None:
    [announce] = steps(wish=wish(1), instances=(server(1),))
    assert isinstance(announce, Announce)
    assert steps(wish=wish(1), instances=(server(1),), serving=serving(1)) == ()


def test_the_old_version_is_not_touched_before_the_new_one_is_ready() -> None:
    both = (server(1), server(2, "starting", age=1))
    assert steps(wish=wish(2), instances=both, serving=serving(1)) == ()


def test_the_old_version_is_drained_once_the_new_one_is_ready() -> None:
    assert steps(wish=wish(2), instances=(server(1), server(2)), serving=serving(1)) == (Drain(server(1)),)


def test_the_new_version_is_announced_only_when_the_old_one_accepts_no_more() -> None:
    told = server(1, drain_asked_at=NOW)
    assert steps(wish=wish(2), instances=(told, server(2)), serving=serving(1)) == ()
    [announce] = steps(wish=wish(2), instances=(replace(told, phase="draining"), server(2)), serving=serving(1))
    assert isinstance(announce, Announce)
    assert announce.previous_version == 1


def test_the_same_version_promoted_again_is_announced_again_by_the_same_server() -> None:
    [announce] = steps(wish=wish(1, "another"), instances=(server(1),), serving=serving(1))
    assert isinstance(announce, Announce)
    assert announce.instance == server(1)


def test_a_server_with_another_digest_does_not_fit() -> None:
    other = replace(server(1), digest="sha256:" + "f" * 64)
    assert steps(wish=wish(1), instances=(other,)) == (Start(spec(1)),)


def test_of_two_servers_of_the_wanted_version_one_goes() -> None:
    younger = server(1, replica="younger", age=1)
    assert steps(wish=wish(1), instances=(younger, server(1)), serving=serving(1)) == (Drain(younger),)


def test_a_server_that_is_not_ready_in_time_has_failed_and_the_old_one_goes_on() -> None:
    [fail] = steps(wish=wish(2), instances=(server(1), server(2, "starting", age=31)), serving=serving(1))
    assert isinstance(fail, Fail)
    assert (fail.trouble.reason, fail.tell) == ("the model server was not ready within 30 s", True)
    assert fail.still_serving == 1


def test_a_failure_is_not_tried_again_before_its_time() -> None:
    assert steps(wish=wish(1), troubles={1: trouble(1)}) == ()
    assert steps(wish=wish(1), troubles={1: trouble(1)}, now=NOW + 10) == (Start(spec(1)),)


def test_a_clock_that_was_set_back_does_not_stop_the_attempts() -> None:
    assert steps(wish=wish(1), troubles={1: trouble(1, retry_in=86_400)}) == (Start(spec(1)),)


def test_a_final_failure_is_not_tried_again_until_a_new_promotion() -> None:
    final = {1: trouble(1, retry_in=-10, final=True)}
    assert steps(wish=wish(1), troubles=final) == ()
    assert steps(wish=wish(1, "another"), troubles=final) == (Start(spec(1)),)


def test_the_plan_asks_to_be_made_again_when_the_wait_is_over() -> None:
    situation = Situation(SLOT, wish=wish(1), troubles={1: trouble(1, retry_in=7)})
    assert plan(situation, LIMITS, NOW).look_again_at == NOW + 7


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.25), (2, 0.5), (5, 4.0), (20, 60.0), (5_000, 60.0)])
def test_the_wait_doubles_up_to_a_minute(failures: int, seconds: float) -> None:
    assert retry_delay(failures, LIMITS) == seconds


def test_the_count_of_failures_begins_anew_after_it_ran_well() -> None:
    many = {1: trouble(1, failures=9, retry_in=-1)}
    long, short = (server(1, "failed", age=age, reason="crashed") for age in (61, 59))
    [fail, *_] = steps(wish=wish(1), instances=(long,), serving=serving(1), troubles=many)
    assert isinstance(fail, Fail)
    assert fail.trouble.failures == 1
    [fail, *_] = steps(wish=wish(1), instances=(short,), serving=serving(1), troubles=many)
    assert isinstance(fail, Fail)
    assert fail.trouble.failures == 10


def test_a_crash_after_it_served_is_counted_but_not_published_until_it_keeps_crashing() -> None:
    crashed = server(1, "failed", age=1, reason="crashed")
    told = []
    for failures in (0, 1, 2):
        before = {1: trouble(1, failures=failures, retry_in=-1)} if failures else {}
        [fail] = steps(wish=wish(1), instances=(crashed,), serving=serving(1), troubles=before)
        assert isinstance(fail, Fail)
        assert fail.trouble.crashes == 1
        told.append(fail.tell)
    assert told == [False, False, True]


def test_the_same_reason_is_published_once() -> None:
    broken = server(1, "failed", age=1, reason="broken")
    [fail] = steps(wish=wish(1), instances=(broken,), troubles={1: trouble(1)})
    assert isinstance(fail, Fail)
    assert not fail.tell


def test_one_failure_is_counted_once() -> None:
    counted = replace(server(1, "failed"), replica="earlier")
    assert steps(wish=wish(1), instances=(counted,), troubles={1: trouble(1)}) == (Discard(counted),)


def test_a_silent_server_is_replaced() -> None:
    silent = replace(server(1), heard_at=NOW - 21)
    [fail] = steps(wish=wish(1), instances=(silent,), serving=serving(1))
    assert isinstance(fail, Fail)


def test_a_server_that_does_not_drain_is_ended() -> None:
    deaf = server(1, "draining", drain_asked_at=NOW - 26)
    assert steps(wish=wish(2), instances=(deaf, server(2)), serving=serving(2)) == (Discard(deaf),)


def test_an_archived_version_is_drained_then_withdrawn_then_its_address_released() -> None:
    gone = {"wish": wish(1), "serving": serving(1), "archived": frozenset({1}), "address": "http://127.0.0.1:20000"}
    assert steps(**gone, instances=(server(1),)) == (Drain(server(1)),)
    draining = server(1, "draining", drain_asked_at=NOW)
    assert steps(**gone, instances=(draining,)) == (Withdraw(spec(1)), Release())


def test_an_archived_version_does_not_go_on_in_place_of_one_that_fails() -> None:
    found = steps(
        wish=wish(2), serving=serving(1), archived=frozenset({1}), instances=(server(1),), troubles={2: trouble(2)}
    )
    assert found == (Drain(server(1)),)


def test_a_server_that_nobody_wants_is_drained() -> None:
    assert steps(instances=(server(7),)) == (Drain(server(7)),)


def test_the_address_stays_open_while_a_crashed_server_waits_to_be_started_again() -> None:
    assert steps(wish=wish(1), serving=serving(1), troubles={1: trouble(1)}, address="http://127.0.0.1:20000") == ()


def test_the_version_before_is_started_again_while_the_wanted_one_only_fails() -> None:
    assert steps(wish=wish(2), serving=serving(1), troubles={2: trouble(2)}) == (Start(spec(1)),)


def test_a_world_swaps_versions_and_always_has_one_that_answers() -> None:
    world = World()
    world.wants(1)
    world.settles()
    world.fewest_ready = 99
    world.wants(2)
    world.settles()
    assert world.said == ["deployed 1, before None", "deployed 2, before 1"]
    assert world.ready() == [2]
    assert world.fewest_ready == 1


def test_a_world_with_a_broken_version_keeps_the_old_one_and_restarts_even_that() -> None:
    world = World()
    world.wants(1)
    world.settles()
    world.broken = {2}
    world.wants(2)
    world.settles()
    assert world.ready() == [1]
    world.crashes()
    world.settles()
    assert world.ready() == [1]
    assert world.said == ["deployed 1, before None", "failed 2, still 1", "deployed 1, before None"]
    world.broken = set()
    world.settles(rounds=100, pace=1.0)
    assert world.ready() == [2]
    assert world.said[-1] == "deployed 2, before 1"


def test_a_world_that_settled_plans_nothing() -> None:
    world = World()
    for version in (1, 2, 3, 2, 3):
        world.wants(version)
        world.settles(rounds=3)
    world.settles()
    assert plan(world.situation, LIMITS, world.now).steps == ()
    assert world.ready() == [3]
    world.archives(3)
    world.settles()
    assert (world.ready(), world.situation.address, world.said[-1]) == ([], "", "undeployed 3")
    assert plan(world.situation, LIMITS, world.now).steps == ()
