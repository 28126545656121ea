"""The events that a step leads to. Their ids follow from what they tell, so that telling it twice is recognised."""

from __future__ import annotations

import uuid

from affiant.common import ids, trace, wire
from affiant.common.events import ModelDeployed, ModelDeploymentFailed, ModelUndeployed
from affiant.deployer.domain.situation import Serving, Situation
from affiant.deployer.domain.steps import Announce, Fail, Withdraw

OWNER = "deployer"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "affiant://deployer")


def deployed(situation: Situation, step: Announce, backend: str) -> tuple[Serving, wire.Message]:
    """What to remember as deployed, and the event that says so: one for each wish and server."""
    at = ids.now()
    event = ModelDeployed(
        model=situation.slot.model,
        version=step.spec.version,
        digest=step.spec.digest,
        alias=situation.slot.alias,
        url=situation.address,
        backend=backend,
        replicas=[step.instance.replica],
        seconds=round(step.seconds, 3),
        deployed_at=at,
        previous_version=step.previous_version,
    )
    serving = Serving(
        wish_id=step.wish_id, spec=step.spec, replica=step.instance.replica, url=situation.address, since=at
    )
    return serving, _message(situation, event, step.wish_id, step.instance.replica)


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
    return _message(situation, event, step.trouble.wish_id, step.instance.replica)


def undeployed(situation: Situation, step: Withdraw) -> wire.Message:
    """The event that says that nothing serves this version under this alias any more."""
    archived = step.spec.version in situation.archived
    event = ModelUndeployed(
        model=situation.slot.model,
        version=step.spec.version,
        digest=step.spec.digest,
        alias=situation.slot.alias,
        undeployed_at=ids.now(),
        reason="the version was archived" if archived else "the alias points to no version any more",
    )
    serving = situation.serving
    return _message(situation, event, *((serving.wish_id, serving.replica) if serving else ()))


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
