"""Puts the registry together; nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from affiant.common import settings as common_settings
from affiant.common.outbox import Relay
from affiant.common.service import Runtime, Service
from affiant.registry.actions.deployments import Deployments
from affiant.registry.actions.lifecycle import Lifecycle
from affiant.registry.actions.lookup import Lookup
from affiant.registry.actions.registration import Registration
from affiant.registry.api.routes import make_api
from affiant.registry.checks.examiner import Examiner
from affiant.registry.checks.findings import MIB, Limits
from affiant.registry.handlers import make_router
from affiant.registry.settings import PREFIX, RegistrySettings
from affiant.registry.store.artifacts import Artifacts
from affiant.registry.store.database import Store, open_engine
from affiant.registry.store.tables import OUTBOX


def make_service(settings: RegistrySettings | None = None) -> Service:
    """The registry as a service; settings from the environment where none are given. Connects nothing yet."""
    settings = settings or common_settings.load(RegistrySettings, PREFIX)
    store = Store(open_engine(settings.database))
    artifacts = Artifacts(Path(settings.data_dir))
    registration = Registration(
        store,
        artifacts,
        Examiner(_limits(settings), at_once=settings.checks_at_once),
        max_model_bytes=settings.max_model_mib * MIB,
        max_background_bytes=settings.max_background_mib * MIB,
    )

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        await asyncio.to_thread(artifacts.open, time.time())
        await store.open()
        relay = Relay(store.engine, OUTBOX, runtime.js)
        store.on_commit = relay.wake
        runtime.tasks.create_task(relay.run())
        try:
            yield
        finally:
            store.close()

    async def ready() -> list[str]:
        problem = await store.problem()
        return [problem] if problem else []

    return Service(
        name="registry",
        settings=settings,
        router=make_router(Deployments(store)),
        api=make_api(registration, Lifecycle(store), Lookup(store, artifacts)),
        lifespan=lifespan,
        ready=ready,
    )


def _limits(settings: RegistrySettings) -> Limits:
    return Limits(
        memory_bytes=settings.check_memory_mib * MIB,
        cpu_seconds=settings.check_cpu_seconds,
        wall_seconds=settings.check_wall_seconds,
        run_seconds=settings.check_run_seconds,
        max_nodes=settings.check_max_nodes,
    )
