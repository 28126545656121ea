"""The reconciler: observes, plans, takes the steps; when it is woken, when a plan asks for it, and on a timer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import Counter

from affiant.deployer.actions import facts
from affiant.deployer.backends import Backend
from affiant.deployer.domain.planning import plan
from affiant.deployer.domain.situation import NEVER, Instance, Limits, Route, Situation, Slot
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
from affiant.deployer.store import Store

log = structlog.get_logger(__name__)

SHORTEST_PAUSE = 0.02

_steps = Counter("affiant_deployer_steps_total", "Steps taken by the reconciler", ["step"])
_repairs = Counter("affiant_deployer_repairs_total", "Objects that were not as they should be and were put right")


class Reconciler:
    """Makes what is served equal to what is promoted, for as long as it runs.

    `published` is called when an event waits in the outbox. Drift that nobody tells of is repaired at the latest
    after `reconcile_seconds`.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        limits: Limits,
        *,
        woken: asyncio.Event,
        published: Callable[[], None],
        reconcile_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._backend = backend
        self._limits = limits
        self._woken = woken
        self._published = published
        self._reconcile_seconds = reconcile_seconds
        self._clock = clock
        self.has_reconciled = False

    async def run(self) -> None:
        """Reconcile for ever."""
        while True:
            self._woken.clear()
            # Another deployer does the work for now; this one stands by, and looks as soon as it leads.
            look_again_at = await self.reconcile() if self._backend.leads() else NEVER
            self.has_reconciled = True
            await self._pause(min(look_again_at - self._clock(), self._reconcile_seconds))

    async def situations(self) -> list[Situation]:
        """Every slot, as it is wanted and as it is."""
        instances = await self._backend.observe()
        known = {situation.slot: situation for situation in await asyncio.to_thread(self._store.situations)}
        for instance in instances:
            known.setdefault(instance.slot, Situation(instance.slot))
        by_slot: dict[Slot, list[Instance]] = {slot: [] for slot in known}
        for instance in instances:
            by_slot[instance.slot].append(instance)
        return [
            with_share(
                replace(
                    situation,
                    instances=tuple(by_slot[slot]),
                    address=self._backend.address(slot),
                    routes=bool(self._backend.shares_by),
                    route=self._backend.route(slot),
                ),
                known.get(Slot(slot.model, "challenger")),
                by_slot.get(Slot(slot.model, "challenger"), []),
                self._backend.route(Slot(slot.model, "champion")),
            )
            for slot, situation in sorted(known.items())
        ]

    async def reconcile(self) -> float:
        """Plan for every slot and take the steps. Returns when to look again (seconds since 1970)."""
        times = await asyncio.gather(*(self._advance(situation) for situation in await self.situations()))
        return min(times, default=float("inf"))

    async def _advance(self, situation: Situation) -> float:
        now = self._clock()
        planned = plan(situation, self._limits, now)
        try:
            for step in planned.steps:
                await self._take(situation, step)
            await self._maintain(situation, planned.keep)
        except Exception:
            # One slot's trouble is not another's. What was not done is seen at the next look and planned again.
            log.exception("a step failed", model=situation.slot.model, alias=situation.slot.alias)
            return now + min(1.0, self._reconcile_seconds)
        return now if planned.steps else planned.look_again_at

    async def _maintain(self, situation: Situation, keep: tuple[Kept, ...]) -> None:
        for kept in keep:
            for repaired in await self._backend.maintain(situation.slot, kept):
                _repairs.inc()
                log.warning("repaired", **_names(situation.slot), **_who(kept.instance), what=repaired)

    async def _take(self, situation: Situation, step: Step) -> None:
        _steps.labels(type(step).__name__.lower()).inc()
        match step:
            case Start(spec):
                log.info("starting a model server", **_names(situation.slot), version=spec.version)
                await self._backend.start(situation.slot, spec)
            case Drain(instance):
                log.info("draining a model server", **_names(situation.slot), **_who(instance))
                await self._backend.drain(instance)
            case Discard(instance):
                log.info("discarding a model server", **_names(situation.slot), **_who(instance))
                await self._backend.discard(instance)
            case Fail():
                await self._fail(situation, step)
            case Announce():
                await self._announce(situation, step)
            case Withdraw():
                await self._withdraw(situation, step)
            case Redirect(route):
                log.info("leading the address elsewhere", **_names(situation.slot), **route._asdict())
                await self._backend.redirect(situation.slot, route)
            case Release():
                await self._backend.release(situation.slot)

    async def _announce(self, situation: Situation, step: Announce) -> None:
        serving, message = facts.deployed(
            situation, step, self._backend.name, self._backend.share_in_words(situation.slot)
        )
        await asyncio.to_thread(self._store.announce, situation.slot, serving, message)
        log.info(
            "model deployed", **_names(situation.slot), **_who(step.instance), url=serving.url, seconds=step.seconds
        )
        self._published()

    async def _fail(self, situation: Situation, step: Fail) -> None:
        trouble, message = step.trouble, facts.failed(situation, step) if step.tell else None
        await asyncio.to_thread(self._store.fail, situation.slot, step.spec.version, trouble, message)
        log.warning(
            "model server failed",
            **_names(situation.slot),
            **_who(step.instance),
            reason=trouble.reason,
            wrote=step.instance.log,
            failures=trouble.failures,
            again_in_seconds=None if trouble.final else round(trouble.retry_at - trouble.at, 2),
        )
        self._published()
        if not step.instance.recovers:
            await self._backend.discard(step.instance)

    async def _withdraw(self, situation: Situation, step: Withdraw) -> None:
        message = facts.undeployed(situation, step)
        await asyncio.to_thread(self._store.announce, situation.slot, None, message)
        log.info("model undeployed", **_names(situation.slot), version=step.spec.version)
        self._published()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(SHORTEST_PAUSE)
        # Not wait_for: before Python 3.12 it can lose a cancellation that comes together with what it waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds - SHORTEST_PAUSE, 0.0)):
                await self._woken.wait()


def with_share(
    situation: Situation, challenger: Situation | None, instances: list[Instance], champions_route: Route | None
) -> Situation:
    """`situation` with what the challenger was promised of the champion's requests, and what it has of them now."""
    wanted, wish = (challenger.wanted, challenger.wish) if challenger else (None, None)
    if wanted is None or wish is None:
        return situation
    able = next((one for one in instances if one.serves(wanted) and one.phase == "ready"), None)
    if situation.slot.alias == "champion":
        return replace(situation, share=wish.traffic, challenger=able if wish.traffic else None)
    given = champions_route.percent if champions_route and able else 0
    return replace(situation, given=given)


def _names(slot: Slot) -> dict[str, str]:
    return {"model": slot.model, "alias": slot.alias}


def _who(instance: Instance) -> dict[str, str | int]:
    return {"version": instance.version, "replica": instance.replica, "pid": instance.pid}
