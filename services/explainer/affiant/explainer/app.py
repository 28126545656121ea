"""Puts the explainer together; nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from affiant.common.outbox import Relay
from affiant.common.service import Runtime, Service
from affiant.common.settings import load, read_secret
from affiant.explainer.actions.plots import Plots
from affiant.explainer.actions.predictions import Predictions
from affiant.explainer.actions.requests import Requests
from affiant.explainer.actions.surveys import Surveying
from affiant.explainer.actions.sweep import Sweep
from affiant.explainer.actions.work import WARM_VERSIONS, Work
from affiant.explainer.api import make_api
from affiant.explainer.backends.artifacts import RegistryArtifacts
from affiant.explainer.backends.records import AuditorRecords
from affiant.explainer.handlers import make_router, read_predictions
from affiant.explainer.methods.pool import Worker
from affiant.explainer.settings import ExplainerSettings
from affiant.explainer.store import Store, outbox_rows


def make_service(settings: ExplainerSettings | None = None) -> Service:
    """The explainer, not yet connected to anything."""
    settings = settings or load(ExplainerSettings, "AFFIANT_EXPLAINER")
    folder = Path(settings.data_dir)
    registry = _client(settings.registry_url, settings)
    auditor = _client(settings.auditor_url, settings)
    store = Store(folder / "explainer.sqlite")
    artifacts = RegistryArtifacts(registry, folder / "artifacts")
    work = Work(store, artifacts, settings, time.time)
    predictions = Predictions(store, settings, time.time, work.queued, work.want)
    sweep = Sweep(store, predictions, settings, time.time)
    requests = Requests(store, AuditorRecords(auditor), settings, time.time, work.queued)
    surveys = Surveying(store, artifacts, settings, time.time, work.queued)
    work.spare = surveys.next

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(registry)
            await stack.enter_async_context(auditor)
            store.open()
            stack.callback(store.close)
            surveys.recover()
            _start(runtime, settings, store, work, predictions, sweep)
            yield

    async def ready() -> list[str]:
        return [f"worker {number} is away: {reason}" for number, reason in sorted(work.trouble.items())]

    return Service(
        "explainer",
        settings,
        make_router(predictions, surveys),
        make_api(requests, surveys, Plots(store, requests, surveys)),
        lifespan,
        ready,
    )


def _start(
    runtime: Runtime, settings: ExplainerSettings, store: Store, work: Work, predictions: Predictions, sweep: Sweep
) -> None:
    store.recover()
    for spec in reversed(store.recent_specs(WARM_VERSIONS)):
        work.want(spec)
    relay = Relay(store.engine, outbox_rows, runtime.js)
    runtime.tasks.create_task(relay.run(), name="outbox")
    runtime.tasks.create_task(read_predictions(runtime.js, predictions), name="predictions")
    runtime.tasks.create_task(sweep.run(relay), name="sweep")
    for number in range(settings.workers):
        worker = Worker(number, settings.run_seconds, settings.worker_memory_mib)
        runtime.tasks.create_task(work.serve(worker, relay), name=f"worker-{number}")


def _client(url: str, settings: ExplainerSettings) -> httpx.AsyncClient:
    token = read_secret(settings.service_token_file)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=httpx.Timeout(10.0, read=60.0))
