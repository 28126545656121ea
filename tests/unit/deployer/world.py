"""Situations to plan for, and a small world in which the steps of a plan come true."""

from __future__ import annotations

from dataclasses import replace

from affiant.common.events import ModelSpec
from affiant.deployer.domain.planning import plan
from affiant.deployer.domain.situation import Instance, Limits, Phase, Serving, Situation, Slot, Wish
from affiant.deployer.domain.steps import Announce, Discard, Drain, Fail, Release, Start, Step, Withdraw

SLOT = Slot("loan", "champion")
LIMITS = Limits()
NOW = 1_000_000.0


def spec(version: int) -> ModelSpec:
    return ModelSpec(
        model="loan",
        version=version,
        digest=f"sha256:{version:064d}",
        size_bytes=1,
        author="ana",
        inputs=[],
        outputs=[],
        columns=[],
    )


def wish(version: int, id: str = "") -> Wish:
    return Wish(
        id=id or f"wish-{version}", spec=spec(version), promoted_at=f"2026-01-01T00:00:0{version}Z", noted_at=NOW
    )


def server(version: int, phase: Phase = "ready", replica: str = "", age: float = 100.0, **more: object) -> Instance:
    began = NOW - age
    return Instance(
        slot=SLOT,
        version=version,
        digest=spec(version).digest,
        replica=replica or f"replica-{version}",
        phase=phase,
        started_at=began,
        changed_at=began,
        heard_at=NOW,
        **more,  # type: ignore[arg-type]
    )


def serving(version: int, replica: str = "", wish_id: str = "") -> Serving:
    return Serving(
        wish_id=wish_id or f"wish-{version}",
        spec=spec(version),
        replica=replica or f"replica-{version}",
        url="http://127.0.0.1:20000",
        since="2026-01-01T00:00:00Z",
    )


def steps(now: float = NOW, **situation: object) -> tuple[Step, ...]:
    """What is planned for the slot in this situation."""
    return plan(Situation(SLOT, **situation), LIMITS, now).steps  # type: ignore[arg-type]


class World:
    """Carries plans out, one step of time after the other, without any I/O. `broken` versions never get ready."""

    def __init__(self) -> None:
        self.now = NOW
        self.situation = Situation(SLOT)
        self.broken: set[int] = set()
        self.said: list[str] = []
        self.started = 0
        self.fewest_ready = 99

    def wants(self, version: int) -> None:
        self.situation = replace(self.situation, wish=wish(version, f"wish-{version}-{self.now}"))

    def archives(self, version: int) -> None:
        self.situation = replace(self.situation, archived=self.situation.archived | {version})

    def crashes(self) -> None:
        self._replace(*(replace(one, phase="failed", reason="crashed") for one in self.situation.instances))

    def settles(self, rounds: int = 40, pace: float = 0.1) -> None:
        for _ in range(rounds):
            for step in plan(self.situation, LIMITS, self.now).steps:
                self._take(step)
            ready = sum(one.phase == "ready" and one.drain_asked_at is None for one in self.situation.instances)
            self.fewest_ready = min(self.fewest_ready, ready)
            self.now += pace
            self._replace(*(self._older(one) for one in self.situation.instances))

    def ready(self) -> list[int]:
        return [one.version for one in self.situation.instances if one.phase == "ready"]

    def _older(self, one: Instance) -> Instance:
        one = replace(one, heard_at=self.now)
        if one.phase == "starting":
            phase: Phase = "failed" if one.version in self.broken else "ready"
            return replace(one, phase=phase, changed_at=self.now, reason="broken" if phase == "failed" else "")
        if one.drain_asked_at is not None:
            return replace(one, phase="draining" if one.phase == "ready" else "failed")
        return one

    def _take(self, step: Step) -> None:
        instances = self.situation.instances
        match step:
            case Start(wanted):
                self.started += 1
                fresh = server(wanted.version, "starting", f"replica-{wanted.version}-{self.started}")
                self._replace(*instances, replace(fresh, started_at=self.now, changed_at=self.now))
                self.situation = replace(self.situation, address="http://127.0.0.1:20000")
            case Drain(instance):
                asked = replace(instance, drain_asked_at=self.now)
                self._replace(*(asked if one == instance else one for one in instances))
            case Discard(instance):
                self._replace(*(one for one in instances if one.replica != instance.replica))
            case Fail(instance, failed, trouble, tell, still_serving):
                if tell:
                    self.said.append(f"failed {failed.version}, still {still_serving}")
                troubles = {**self.situation.troubles, failed.version: trouble}
                self.situation = replace(self.situation, troubles=troubles)
                self._replace(*(one for one in instances if one.replica != instance.replica))
            case Announce(instance, deployed, wish_id, previous):
                self.said.append(f"deployed {deployed.version}, before {previous}")
                now_serving = serving(deployed.version, instance.replica, wish_id)
                self.situation = replace(self.situation, serving=now_serving)
            case Withdraw(gone):
                self.said.append(f"undeployed {gone.version}")
                self.situation = replace(self.situation, serving=None)
            case Release():
                self.situation = replace(self.situation, address="")

    def _replace(self, *instances: Instance) -> None:
        self.situation = replace(self.situation, instances=instances)
