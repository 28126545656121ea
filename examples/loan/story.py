"""The run itself: what ana, ben and the applicants do, over HTTP only.

Ana registers version 1 and, though an approver too, may not promote it, because it is hers; ben may. People apply.
Version 2 is registered and promoted while applications keep coming, then rolled back in one step. At the end
everything must be in the record.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from affiant.common.errors import Problem
from examples.loan import record
from examples.loan.flow import Flow
from examples.loan.outcome import Check, Outcome, TableFacts, Version
from examples.loan.progress import Running
from examples.loan.stage import Stage, until
from examples.loan.train import Model, background
from examples.loan.words import plural

CLIENTS = 8
TRICKLE = 20.0
"""Applications a second while a version changes."""

DEPLOY_SECONDS = 60.0


async def tell(stage: Stage) -> Outcome:
    """The whole run. Raises `Problem` where it cannot go on; what was merely not kept is in `complaints`."""
    with stage.progress.step("Version 1: registered, approved, deployed") as step:
        await _register(stage, 0, step)
        await _refused(stage, step)
        await _promote(stage, 1, step)
        url = await _deployed(stage, 1, step)
        step.say("")
    flow = Flow(
        stage.http, f"{url}/v2/models/{stage.model}/infer", stage.table, stage.parts.held_out.tolist(), CLIENTS,
        stage.began,
    )  # fmt: skip
    async with flow.running():
        await _send(stage, flow)
        await _change_version(stage, flow)
        await _roll_back(stage, flow)
    with stage.progress.step("Every application in the sworn record") as step:
        await record.wait_audited(stage, flow, step)
    with stage.progress.step("Every denial explained: anchor and SHAP values") as step:
        await record.wait_explained(stage, flow, step)
    with stage.progress.step("Reading the record back") as step:
        return await _outcome(stage, flow, step)


async def _register(stage: Stage, index: int, step: Running) -> None:
    model = stage.models[index]
    step.say(f"ana registers the {model.kind}")
    view = await stage.door("registry", "ana").register(
        stage.model, model.onnx, background(stage.table, stage.parts, stage.seed), _manifest(stage, model)
    )
    stage.registered.append(view)
    passed = sum(check["passed"] for check in view["checks"])
    version = int(view["version"])
    stage.remember("registered", version, "ana", f"{model.kind}, {passed} checks passed")
    step.note(f"ana registers {model.kind} as version {version}: {passed} of {len(view['checks'])} checks passed")


def _manifest(stage: Stage, model: Model) -> dict[str, Any]:
    return {
        "description": f"{model.kind} on {stage.table.name}: {stage.table.target}",
        "tags": {"held-out AUC": f"{model.auc:.3f}", "held-out accuracy": f"{model.accuracy:.3f}"},
        "protected": list(stage.table.protected.columns),
        "favourable": stage.table.favourable,
        "label_output": "label",
        "probability_output": "probabilities",
        "classes": list(model.classes),
        "policy": {"audit": "acked", "explain": {"when": "adverse", "methods": ["anchor", "shap"]}},
    }


async def _refused(stage: Stage, step: Running) -> None:
    """Ana tries to promote her own model. That this fails is a promise, so a success is a complaint."""
    path = f"/v1/models/{stage.model}/versions/1/promote"
    try:
        await stage.door("registry", "ana").post(path, {"alias": "champion", "reason": "it is good"})
    except Problem as problem:
        if problem.status != 403:
            raise
        stage.refusal = problem.message
        stage.remember("refused", 1, "ana", problem.message)
        step.note(f"ana tries to promote it herself: refused ({problem.message})")
    else:
        stage.complaints.append("the author could promote her own version")


async def _promote(stage: Stage, version: int, step: Running) -> None:
    step.say(f"ben promotes version {version}")
    reason = "checks read, held-out figures good"
    path = f"/v1/models/{stage.model}/versions/{version}/promote"
    await stage.door("registry", "ben").post(path, {"alias": "champion", "reason": reason})
    stage.remember("promoted", version, "ben", reason)
    step.note(f"ben, another person, promotes version {version} to champion")


async def _deployed(stage: Stage, version: int, step: Running) -> str:
    """Wait until the deployer says that `version` answers; the address it answers at."""
    step.say(f"waiting for version {version} to answer")
    deployer, began = stage.door("deployer", "omar"), time.monotonic()

    async def serving() -> str:
        for deployment in (await deployer.get("/v1/deployments"))["deployments"]:
            if deployment["model"] == stage.model and deployment["alias"] == "champion":
                if deployment["version"] == version and deployment["state"] == "serving":
                    return str(deployment["url"])
                if deployment["version"] == version and deployment["state"] == "failed":
                    raise Problem(f"version {version} was not deployed: {deployment['reason']}", status=500)
        return ""

    url = await until(serving, DEPLOY_SECONDS, f"version {version} does not answer")
    stage.remember("deployed", version, "deployer", f"answers at {url}")
    step.note(f"version {version} answers at {url} after {time.monotonic() - began:.1f} s")
    return url


async def _send(stage: Stage, flow: Flow) -> None:
    share = stage.applications * 6 // 10
    with stage.progress.step(f"{CLIENTS} clients send applications, all at once") as step:
        sending = asyncio.create_task(flow.send(share))
        while not sending.done():
            step.count(len(flow.answers), share)
            await asyncio.wait([sending], timeout=0.1)
        await sending
        times = sorted(answer.milliseconds for answer in flow.answers) or [0.0]
        step.say(f"{len(flow.answers)} answered, median {times[len(times) // 2]:.0f} ms")


async def _change_version(stage: Stage, flow: Flow) -> None:
    with stage.progress.step("Version 2 takes over while applications keep coming") as step:
        async with flow.trickling(TRICKLE):
            await _register(stage, 1, step)
            await _promote(stage, 2, step)
            await _deployed(stage, 2, step)
            wanted = max(10, stage.applications // 5)
            await _answers_from(flow, 2, wanted, step)
        step.say(_failures(flow))


async def _roll_back(stage: Stage, flow: Flow) -> None:
    with stage.progress.step("Back to version 1 in one step, under the same load") as step:
        async with flow.trickling(TRICKLE):
            path = f"/v1/models/{stage.model}/rollback"
            await stage.door("registry", "ben").post(path, {"alias": "champion", "reason": "rehearsing the way back"})
            stage.remember("rolled back", 1, "ben", "rehearsing the way back")
            before = flow.answered_by(1)
            await _deployed(stage, 1, step)
            await _answers_from(flow, 1, before + max(10, stage.applications // 10), step)
        await flow.send(max(0, stage.applications - flow.sent))
        step.say(f"{_failures(flow)}; version 1 answered {flow.answered_by(1)}, version 2 {flow.answered_by(2)}")


def _failures(flow: Flow) -> str:
    return f"{plural(len(flow.failures), 'request')} failed" if flow.failures else "no request failed"


async def _answers_from(flow: Flow, version: int, count: int, step: Running) -> None:
    step.say(f"version {version} answers")

    async def enough() -> bool:
        step.count(flow.answered_by(version), count)
        return flow.answered_by(version) >= count

    await until(enough, DEPLOY_SECONDS, f"version {version} does not answer applications")


async def _outcome(stage: Stage, flow: Flow, step: Running) -> Outcome:
    totals = await record.totals(stage, flow)
    fairness = await record.fairness(stage, flow)
    case = await record.denied_case(stage)
    step.say(f"{plural(totals.audited, 'prediction')}, {plural(totals.explained, 'explanation')}")
    table = stage.table
    return Outcome(
        model=stage.model,
        began_at=stage.began_at,
        seconds=time.monotonic() - stage.began,
        table=TableFacts(
            table.name, table.source, table.rows, len(stage.parts.held_out), len(table.columns), table.target,
            table.favourable, table.adverse, table.adverse_rate, table.notes, table.protected_are_inputs,
        ),
        versions=tuple(_version(stage, flow, n) for n in range(len(stage.registered))),
        refusal=stage.refusal,
        moments=tuple(stage.moments),
        answers=tuple(flow.answers),
        totals=totals,
        fairness=fairness,
        case=case,
        home=stage.home,
        clients=CLIENTS,
        complaints=(*stage.complaints, *record.complaints(totals, fairness, flow, case)),
        steps=tuple(stage.progress.steps),
        program=stage.program,
    )  # fmt: skip


def _version(stage: Stage, flow: Flow, index: int) -> Version:
    view, model = stage.registered[index], stage.models[index]
    number = int(view["version"])
    approvers = [m.who for m in stage.moments if m.kind == "promoted" and m.version == number]
    return Version(
        number=number,
        kind=model.kind,
        digest=str(view["digest"]),
        size_bytes=len(model.onnx),
        author=str(view["author"]),
        approved_by=approvers[0] if approvers else "",
        auc=model.auc,
        accuracy=model.accuracy,
        adverse_rate=model.adverse_rate,
        adverse_weight=model.adverse_weight,
        largest_difference=model.largest_difference,
        rows_compared=model.rows_compared,
        checks=tuple(Check(c["name"], c["passed"], c["detail"]) for c in view["checks"]),
        answered=flow.answered_by(number),
        denied=sum(answer.adverse for answer in flow.answers if answer.version == number),
    )
