"""The events that a step leads to. Their ids follow from what they tell, so that telling it twice is recognised."""

from __future__ import annotations

import uuid

from affiant.common import ids, trace, wire
from affiant.common.events import ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from affiant.deployer.domain.situation import Serving, Situation, Slot, Wish
from affiant.deployer.domain.steps import Announce, Fail, Withdraw

OWNER = "deployer"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "affiant://deployer")


def deployed(situation: Situation, step: Announce, backend: str, shares_by: str = "") -> tuple[Serving, wire.Message]:
    """What to remember as deployed, and the event that says so: one for each wish, server and share of the traffic."""
    at = ids.now()
    event = ModelDeployed(
        model=situation.slot.model,
        version=step.spec.version,
        digest=step.spec.digest,
        alias=situation.slot.alias,
        url=situation.address,
        backend=backend,
        replicas=list(step.instance.copies or (step.instance.replica,)),
        seconds=round(step.seconds, 3),
        deployed_at=at,
        previous_version=step.previous_version,
        image=step.instance.image,
        model_image=step.spec.image,
        traffic=step.traffic,
        traffic_by=shares_by if step.traffic else "",
    )
    serving = Serving(
        wish_id=step.wish_id,
        spec=step.spec,
        replica=step.instance.replica,
        url=situation.address,
        since=at,
        traffic=step.traffic,
    )
    return serving, _message(situation, event, step.wish_id, step.instance.replica, *_share(situation, step))


def failed(situation: Situation, step: Fail) -> wire.Message:
    """The event that says that a server could not serve: one for each server."""
    log = f"; it wrote: {step.instance.log}" if step.instance.log else ""
    event = ModelDeploymentFailed(
        model=situation.slot.model,
        version=step.spec.version,
        digest=step.spec.digest,
        alias=situation.slot.alias,
        reason=step.trouble.reason + log,
        failed_at=ids.now(),
        still_serving=step.still_serving,
    )
    about = (step.instance.cause,) if step.instance.cause else ()
    return _message(situation, event, step.trouble.wish_id, step.instance.replica, *about)


def undeployed(situation: Situation, step: Withdraw) -> wire.Message:
    """The event that says that nothing serves this version under this alias any more."""
    archived = step.spec.version in situation.archived
    event = ModelUndeployed(
        model=situation.slot.model,
        version=step.spec.version,
        digest=step.spec.digest,
        alias=situation.slot.alias,
        undeployed_at=ids.now(),
        reason=_why_gone(archived=archived, idle=step.idle),
    )
    serving = situation.serving
    about = (serving.since,) if serving and step.idle else ()
    return _message(situation, event, *((serving.wish_id, serving.replica) if serving else ()), *about)


def no_share(slot: Slot, wish: Wish, reason: str) -> wire.Message:
    """The event that says that this back end cannot give a version the share that was promised to it."""
    event = ModelDeploymentFailed(
        model=slot.model,
        version=wish.spec.version,
        digest=wish.spec.digest,
        alias=slot.alias,
        reason=reason,
        failed_at=ids.now(),
    )
    return _message(Situation(slot, wish), event, wish.id, "no share")


def _share(situation: Situation, step: Announce) -> tuple[str, ...]:
    """What tells one change of the share from the next, also where it returns to what it was."""
    before = situation.serving
    if before is None or before.traffic == step.traffic:
        return ()
    return (f"{step.traffic} %", before.since)


def _why_gone(*, archived: bool, idle: bool) -> str:
    if archived:
        return "the version was archived"
    if idle:
        return "scaled to zero: a challenger without a share of the traffic; promote it again to wake it"
    return "the alias points to no version any more"


def _message(
    situation: Situation, event: ModelDeployed | ModelDeploymentFailed | ModelUndeployed, *about: str
) -> wire.Message:
    name = "|".join((type(event).__name__, *situation.slot, str(event.version), *about))
    given = situation.wish.traceparent if situation.wish else ""
    return wire.encode(
        event,
        owner=OWNER,
        id=str(uuid.uuid5(_NAMESPACE, name)),
        traceparent=trace.child_of(given) if given else "",
    )
