"""From a situation to the next steps; pure, and asked again whenever something may have changed.

The order it holds to: a new version is started, waited for until it is ready, and only then the old one drained.
What cannot be served does not take away what can: until the wanted version is ready, the one before goes on, and
is started again if need be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from affiant.common.events import ModelSpec
from affiant.deployer.domain.situation import NEVER, Instance, Limits, Route, Situation, Trouble
from affiant.deployer.domain.steps import (
    Announce,
    Discard,
    Drain,
    Fail,
    Kept,
    Redirect,
    Release,
    Start,
    Step,
    Withdraw,
)


@dataclass(frozen=True)
class Plan:
    """The steps to take now, in order, and when to look again at the latest (seconds since 1970).

    `keep`: the servers that go on, as they should be.
    """

    steps: tuple[Step, ...]
    look_again_at: float
    keep: tuple[Kept, ...] = ()


def plan(situation: Situation, limits: Limits, now: float) -> Plan:
    """What to do about one slot at this moment."""
    steps, well, situation = _sort_out(situation, limits, now)
    candidates = [instance for instance in well if instance.drain_asked_at is None]
    answering = [instance for instance in well if instance.phase == "ready"]
    keep = _to_keep(situation, candidates)
    steps += _redirection(situation, keep)
    steps += [Drain(instance) for instance in candidates if instance not in keep]
    steps += _starts(situation, candidates, limits, now)
    steps += _facts(situation, answering, keep, now)
    if situation.address and not candidates and not answering and not _comes_back(situation):
        steps.append(Release())
    kept = _kept(situation, keep, limits, now)
    return Plan(tuple(steps), _look_again_at(situation, well, limits, now), kept)


# --- what failed ----------------------------------------------------------------------------------------------


def _sort_out(situation: Situation, limits: Limits, now: float) -> tuple[list[Step], list[Instance], Situation]:
    """Take out what failed. The situation that comes back knows of these failures already."""
    steps: list[Step] = []
    well: list[Instance] = []
    for instance in situation.instances:
        fault = fault_of(instance, limits, now)
        if not fault:
            well.append(instance)
            continue
        step = _after_fault(situation, instance, fault, limits, now)
        if step is not None:
            steps.append(step)
        if isinstance(step, Fail):
            situation = replace(situation, troubles={**situation.troubles, instance.version: step.trouble})
        if instance.recovers and not isinstance(step, Discard):
            well.append(instance)
    return steps, well, situation


def fault_of(instance: Instance, limits: Limits, now: float) -> str:
    """Why this server has to go at once, in words; empty while it is well."""
    if instance.phase == "failed":
        return instance.reason or "the model server failed"
    if instance.drain_asked_at is not None:
        late = now - instance.drain_asked_at > limits.drain
        return f"the model server did not end within {limits.drain:g} s of being told to" if late else ""
    if instance.phase == "starting" and now - instance.changed_at > limits.ready:
        detail = f": {instance.reason}" if instance.reason else ""
        return f"the model server was not ready within {limits.ready:g} s{detail}"
    if instance.phase == "ready" and now - instance.heard_at > limits.silent:
        return f"the model server did not answer for {limits.silent:g} s"
    return ""


def _after_fault(
    situation: Situation, instance: Instance, fault: str, limits: Limits, now: float
) -> Fail | Discard | None:
    specs = (situation.wanted, situation.serving.spec if situation.serving else None)
    spec = next((spec for spec in specs if spec is not None and instance.serves(spec)), None)
    if situation.wanted is None or spec is None or instance.drain_asked_at is not None:
        # One that is no longer wanted, but was not told so yet, is drained like a healthy one where it recovers.
        return None if instance.recovers and instance.drain_asked_at is None else Discard(instance)
    before = situation.trouble(spec)
    if before is not None and before.replica == instance.replica:
        if not instance.recovers:
            return Discard(instance)
        if before.cause == instance.cause:
            return None
    trouble = _count(situation, instance, before, fault, limits, now)
    # A server that had served and is started again at once is for the restart count, not for the bus.
    # What the platform starts again by itself is counted by the platform: by then it is worth telling.
    grave = instance.recovers or not _served(situation, instance) or trouble.failures >= limits.tell_crashes
    tell = trouble.told != fault and grave
    if tell:
        trouble = msgspec.structs.replace(trouble, told=fault)
    others = [other.version for other in situation.instances if other.phase == "ready" and other is not instance]
    return Fail(instance, spec, trouble, tell, others[0] if others else None)


def _count(
    situation: Situation, instance: Instance, before: Trouble | None, fault: str, limits: Limits, now: float
) -> Trouble:
    served = _served(situation, instance)
    ran_well = served and now - instance.started_at >= limits.well
    failures = 1 if before is None or ran_well else before.failures + 1
    return Trouble(
        wish_id=situation.wish.id if situation.wish else "",
        replica=instance.replica,
        failures=failures,
        crashes=(before.crashes if before else 0) + served,
        retry_at=now + retry_delay(failures, limits),
        at=now,
        reason=fault,
        told=before.told if before and not ran_well else "",
        cause=instance.cause,
        final=instance.final,
    )


def _served(situation: Situation, instance: Instance) -> bool:
    return situation.serving is not None and situation.serving.replica == instance.replica


def retry_delay(failures: int, limits: Limits) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped."""
    return float(min(limits.first_retry * 2.0 ** min(failures - 1, 30), limits.longest_retry))


# --- who goes on, who is started ------------------------------------------------------------------------------


def _to_keep(situation: Situation, candidates: list[Instance]) -> list[Instance]:
    """Those that may go on: the wanted one alone once it is ready; until then the best of the others beside it."""
    wanted, serving = situation.wanted, situation.serving.spec if situation.serving else None
    if wanted is None:
        return []
    by_worth = sorted(candidates, key=lambda one: (one.phase != "ready", not one.serves(serving), one.started_at))
    right = [one for one in by_worth if one.serves(wanted)][:1]
    if right and right[0].phase in ("ready", "idle"):
        return right
    others = [one for one in by_worth if not one.serves(wanted) and one.version not in situation.archived]
    return right + [one for one in others if one.phase == "ready" or one.serves(situation.fallback)][:1]


def _redirection(situation: Situation, keep: list[Instance]) -> list[Step]:
    """The address leads to the wanted version as soon as it is ready; while nothing is, it stays as it is."""
    ready = next((one for one in keep if one.phase == "ready"), None)
    if not situation.routes or ready is None:
        return []
    challenger = situation.challenger
    shares = challenger is not None and challenger.version != ready.version
    route = Route(ready.replica, situation.share if shares else 0)
    return [Redirect(route)] if route != situation.route else []


def _kept(situation: Situation, keep: list[Instance], limits: Limits, now: float) -> tuple[Kept, ...]:
    wish, serving = situation.wish, situation.serving
    specs = [spec for spec in (situation.wanted, serving.spec if serving else None) if spec is not None]
    share = max(situation.share, wish.traffic if wish else 0)
    return tuple(
        Kept(spec, instance, share, asleep=now >= _asleep_at(situation, instance, limits))
        for instance in keep
        if (spec := next((spec for spec in specs if instance.serves(spec)), None)) is not None
    )


def _asleep_at(situation: Situation, instance: Instance, limits: Limits) -> float:
    """From when on a challenger that gets nothing of the champion's traffic is scaled to zero."""
    wish = situation.wish
    if wish is None or situation.slot.alias != "challenger" or wish.traffic or not instance.serves(wish.spec):
        return NEVER
    if instance.phase == "idle":
        return instance.changed_at if wish.noted_at <= instance.changed_at else NEVER
    return max(wish.noted_at, instance.changed_at) + limits.idle if instance.phase == "ready" else NEVER


def _starts(situation: Situation, candidates: list[Instance], limits: Limits, now: float) -> list[Step]:
    specs: list[ModelSpec | None] = [situation.wanted]
    if not any(instance.phase == "ready" for instance in candidates):
        specs.append(situation.fallback)
    return [
        Start(spec)
        for spec in specs
        if spec is not None
        and not any(instance.serves(spec) for instance in candidates)
        and _due(situation.trouble(spec), limits, now)
    ]


def _due(trouble: Trouble | None, limits: Limits, now: float) -> bool:
    if trouble is None:
        return True
    # A wait longer than the longest comes from a clock that was set back.
    return not trouble.final and not 0 < trouble.retry_at - now <= limits.longest_retry


def _comes_back(situation: Situation) -> bool:
    """Whether a server will be started at this address without anybody asking for it."""
    specs = [spec for spec in (situation.wanted, situation.fallback) if spec is not None]
    troubles = [situation.trouble(spec) for spec in specs]
    return any(trouble is None or not trouble.final for trouble in troubles)


# --- what is to be said ---------------------------------------------------------------------------------------


def _facts(situation: Situation, answering: list[Instance], keep: list[Instance], now: float) -> list[Step]:
    """What has come true and was not said yet."""
    steps: list[Step] = []
    serving = situation.serving
    unwanted = serving is not None and (situation.wanted is None or serving.spec.version in situation.archived)
    if serving is not None and unwanted and not any(one.serves(serving.spec) for one in answering):
        steps.append(Withdraw(serving.spec))
    elif serving is not None and any(one.phase == "idle" and one.serves(serving.spec) for one in keep):
        steps.append(Withdraw(serving.spec, idle=True))
    # Only one that answers alone is deployed: while the old version still accepts, it is not replaced yet.
    if len(answering) == 1 and answering[0] in keep and _is_reached(situation, answering[0]):
        steps += _announcement(situation, answering[0], now)
    return steps


def _is_reached(situation: Situation, instance: Instance) -> bool:
    return not situation.routes or (situation.route is not None and situation.route.replica == instance.replica)


def _announcement(situation: Situation, instance: Instance, now: float) -> list[Step]:
    wish, serving = situation.wish, situation.serving
    if wish is not None and instance.serves(wish.spec):
        spec, wish_id = wish.spec, wish.id
    elif serving is not None and instance.serves(serving.spec):
        spec, wish_id = serving.spec, serving.wish_id
    else:
        return []
    traffic = situation.given if instance.settled else serving.traffic if serving else 0
    if serving is not None and (serving.wish_id, serving.replica, serving.traffic) == (
        wish_id,
        instance.replica,
        traffic,
    ):
        return []
    began = max(instance.started_at, wish.noted_at if wish else 0.0)
    previous = serving.spec.version if serving is not None and serving.spec.version != spec.version else None
    return [Announce(instance, spec, wish_id, previous, max(now - began, 0.0), traffic)]


def _look_again_at(situation: Situation, well: list[Instance], limits: Limits, now: float) -> float:
    """When time alone, or a server that is on its way from one phase to the next, may change the plan."""
    if any(instance.phase not in ("ready", "idle") or instance.drain_asked_at is not None for instance in well):
        return now + limits.look
    times = [trouble.retry_at for trouble in situation.troubles.values() if not trouble.final]
    times += [_asleep_at(situation, instance, limits) for instance in well]
    return min((time for time in times if time > now), default=float("inf"))
