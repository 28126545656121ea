"""How things are, for a person who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from affiant.common import ids
from affiant.deployer.domain.situation import Instance, Phase, Situation

State = Literal["starting", "serving", "failed", "draining", "idle"]

_STATES: dict[Phase, State] = {
    "preparing": "starting",
    "starting": "starting",
    "ready": "serving",
    "idle": "idle",
    "draining": "draining",
    "failed": "failed",
}


@dataclass(frozen=True)
class ReplicaView:
    """One model server. `restarts` counts the crashes of its version since it was promoted."""

    replica: str
    pid: int
    state: State
    version: int
    restarts: int


@dataclass(frozen=True)
class DeploymentView:
    """One alias of one model: the version that is wanted there, and what is there.

    `version` and `digest` are those of the wanted version, or of the one that is on its way out. `url` is empty
    while nothing listens. `serving` begins where `model_deployed` is published: when the version before it accepts
    no more. `idle`: scaled to zero. `since` (RFC 3339): since when it is in this state, as far as is known. `traffic`:
    the percentage of the champion's requests that a challenger answers.
    """

    model: str
    alias: str
    version: int
    digest: str
    url: str
    state: State
    replicas: list[ReplicaView]
    reason: str
    since: str
    traffic: int = 0


@dataclass(frozen=True)
class DeploymentsView:
    """Every slot that serves or should, and by which back end.

    `shares_by`: how a challenger gets a share of the champion's requests (weights, replicas); empty where it cannot,
    and `no_shares` says why.
    """

    deployments: list[DeploymentView]
    backend: str = ""
    shares_by: str = ""
    no_shares: str = ""


def deployments(
    situations: list[Situation], *, backend: str = "", shares_by: str = "", no_shares: str = ""
) -> DeploymentsView:
    """What `GET /v1/deployments` answers."""
    views = [view for situation in situations if (view := _deployment(situation)) is not None]
    return DeploymentsView(views, backend, shares_by, no_shares)


def _deployment(situation: Situation) -> DeploymentView | None:
    wanted, serving = situation.wanted, situation.serving
    spec = wanted or (serving.spec if serving else None)
    if spec is None:
        return None
    state, reason, since = _state(situation)
    return DeploymentView(
        model=situation.slot.model,
        alias=situation.slot.alias,
        version=spec.version,
        digest=spec.digest,
        url=situation.address,
        state=state,
        replicas=[_replica(situation, instance) for instance in situation.instances],
        reason=reason,
        since=since,
        traffic=situation.given,
    )


def _state(situation: Situation) -> tuple[State, str, str]:
    wanted, serving, wish = situation.wanted, situation.serving, situation.wish
    if wanted is None or wish is None:
        return "draining", "no version is promoted any more", serving.since if serving else ""
    right = [one for one in situation.instances if one.serves(wanted)]
    if serving is not None and serving.wish_id == wish.id and _answers(right, serving.replica):
        return "serving", "", serving.since
    if any(one.phase == "idle" for one in right):
        return "idle", "a challenger without a share of the traffic", _time(right[0].changed_at)
    trouble = situation.trouble(wanted)
    reason = trouble.reason if trouble else ""
    on_its_way = [one for one in right if one.phase in ("preparing", "starting", "ready")]
    given_up = trouble is not None and any(one.recovers and one.replica == trouble.replica for one in on_its_way)
    if on_its_way and not given_up:
        return "starting", reason, _time(on_its_way[0].started_at)
    if trouble is None:
        return "starting", "", _time(wish.noted_at)
    again = "; not tried again until a new promotion" if trouble.final else "; trying again"
    return "failed", reason + again, _time(trouble.at)


def _answers(instances: list[Instance], replica: str) -> bool:
    return any(one.phase == "ready" and one.replica == replica for one in instances)


def _replica(situation: Situation, instance: Instance) -> ReplicaView:
    trouble = situation.troubles.get(instance.version)
    if trouble is not None and situation.wish is not None and trouble.wish_id != situation.wish.id:
        trouble = None
    return ReplicaView(
        replica=instance.replica,
        pid=instance.pid,
        state=_STATES[instance.phase],
        version=instance.version,
        restarts=trouble.crashes if trouble else 0,
    )


def _time(seconds: float) -> str:
    return ids.timestamp(datetime.fromtimestamp(seconds, UTC))
