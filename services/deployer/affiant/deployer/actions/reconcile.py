"""The reconciler: observes, plans, takes the steps; when it is woken, when a plan asks for it, and on a timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import Counter

from affiant.deployer.actions import facts
from affiant.deployer.backends import Backend
from affiant.deployer.domain.planning import plan
from affiant.deployer.domain.situation import Instance, Limits, Situation, Slot
from affiant.deployer.domain.steps import Announce, Discard, Drain, Fail, Release, Start, Step, Withdraw
from affiant.deployer.store import Store

log = structlog.get_logger(__name__)

SHORTEST_PAUSE = 0.02

_steps = Counter("affiant_deployer_steps_total", "Steps taken by the reconciler", ["step"])


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
            look_again_at = await self.reconcile()
            await self._pause(min(look_again_at - self._clock(), self._reconcile_seconds))

    async def situations(self) -> list[Situation]:
        """Every slot, as it is wanted and as it is."""
        instances = await self._backend.observe()
        known = {situation.slot: situation for situation in await asyncio.to_thread(self._store.situations)}
        for instance in instances:
            known.setdefault(instance.slot, Situation(instance.slot))
        return [
            replace(
                situation,
                instances=tuple(one for one in instances if one.slot == slot),
                address=self._backend.address(slot),
            )
            for slot, situation in sorted(known.items())
        ]

    async def reconcile(self) -> float:
        """Plan for every slot and take the steps. Returns when to look again (seconds since 1970)."""
        times = await asyncio.gather(*(self._advance(situation) for situation in await self.situations()))
        self.has_reconciled = True
        return min(times, default=float("inf"))

    async def _advance(self, situation: Situation) -> float:
        now = self._clock()
        planned = plan(situation, self._limits, now)
        try:
            for step in planned.steps:
                await self._take(situation, step)
        except Exception:
            # One slot's trouble is not another's. What was not done is seen at the next look and planned again.
            log.exception("a step failed", model=situation.slot.model, alias=situation.slot.alias)
            return now + min(1.0, self._reconcile_seconds)
        return now if planned.steps else planned.look_again_at

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
            case Release():
                await self._backend.release(situation.slot)

    async def _announce(self, situation: Situation, step: Announce) -> None:
        serving, message = facts.deployed(situation, step, self._backend.name)
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
        await self._backend.discard(step.instance)

    async def _withdraw(self, situation: Situation, step: Withdraw) -> None:
        message = facts.undeployed(situation, step)
        await asyncio.to_thread(self._store.announce, situation.slot, None, message)
        log.info("model undeployed", **_names(situation.slot), version=step.spec.version)
        self._published()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(SHORTEST_PAUSE)
        try:
            await asyncio.wait_for(self._woken.wait(), max(seconds - SHORTEST_PAUSE, 0.0))
        except TimeoutError:
            return


def _names(slot: Slot) -> dict[str, str]:
    return {"model": slot.model, "alias": slot.alias}


def _who(instance: Instance) -> dict[str, str | int]:
    return {"version": instance.version, "replica": instance.replica, "pid": instance.pid}
