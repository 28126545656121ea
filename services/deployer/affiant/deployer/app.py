"""Puts the deployer together; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from affiant.common import settings as common_settings
from affiant.common.outbox import Relay
from affiant.common.service import Runtime, Service
from affiant.common.serving import BusAccess
from affiant.deployer.actions.reconcile import Reconciler
from affiant.deployer.actions.view import DeploymentsView, deployments
from affiant.deployer.actions.wishes import Wishes
from affiant.deployer.api import make_api
from affiant.deployer.backends import Backend
from affiant.deployer.backends.artifacts import Artifacts
from affiant.deployer.backends.local.backend import GRACE_SECONDS, MODEL_SERVER, LocalBackend
from affiant.deployer.backends.local.folders import folders_below
from affiant.deployer.backends.local.listeners import Listeners
from affiant.deployer.domain.situation import NEVER, Limits
from affiant.deployer.handlers import make_router
from affiant.deployer.settings import DeployerSettings
from affiant.deployer.store import Store, outbox_rows


def make_service(settings: DeployerSettings | None = None, command: Sequence[str] = MODEL_SERVER) -> Service:
    """The deployer as a service. `command` starts a model server; its configuration file is the last argument."""
    settings = settings or common_settings.load(DeployerSettings, "AFFIANT_DEPLOYER")
    woken = asyncio.Event()
    store = Store(Path(settings.data_dir), settings.database_url)
    in_cluster = settings.backend == "kubernetes"
    backend = _kubernetes(settings, woken) if in_cluster else _local(settings, store, woken, command)
    assembled = _Deployer(settings, store, backend, woken)
    return Service(
        name="deployer",
        settings=settings,
        router=make_router(Wishes(store, woken.set, no_shares=backend.no_shares)),
        api=make_api(assembled.deployments),
        lifespan=assembled.lifespan,
        ready=assembled.ready,
    )


def _bus(settings: DeployerSettings) -> BusAccess:
    return BusAccess(
        url=settings.modelserver_nats_url or settings.nats_url,
        user=settings.modelserver_nats_user,
        password_file=settings.modelserver_nats_password_file,
        nkey_file=settings.modelserver_nats_nkey_file,
        ca_file=settings.nats_ca_file,
    )


def _local(settings: DeployerSettings, store: Store, woken: asyncio.Event, command: Sequence[str]) -> LocalBackend:
    folders = folders_below(Path(settings.data_dir))
    return LocalBackend(
        folders,
        Artifacts(folders.artifacts, settings.registry_url, settings.service_token_file),
        Listeners(settings.models_host, store),
        _bus(settings),
        drain_seconds=settings.drain_seconds,
        token_file=settings.models_token_file,
        changed=woken.set,
        command=command,
    )


def _kubernetes(settings: DeployerSettings, woken: asyncio.Event) -> Backend:
    # Only where it is used: a deployer on a laptop need not load the client.
    from affiant.deployer.backends.kubernetes.build import kubernetes_backend

    return kubernetes_backend(settings, _bus(settings), woken.set)


def _limits(settings: DeployerSettings) -> Limits:
    drain = settings.drain_seconds + GRACE_SECONDS
    if settings.backend == "local":
        return Limits(ready=settings.ready_timeout_seconds, drain=drain)
    idle = settings.idle_challenger_seconds or NEVER
    # The cluster tells of every change; to look at it every few milliseconds would only cost.
    return Limits(ready=settings.rollout_timeout_seconds, drain=drain + 60.0, look=1.0, idle=idle)


class _Deployer:
    """The parts while they run."""

    def __init__(self, settings: DeployerSettings, store: Store, backend: Backend, woken: asyncio.Event) -> None:
        self._settings = settings
        self._store = store
        self._backend = backend
        self._relay: Relay | None = None
        self._reconciler = Reconciler(
            store,
            backend,
            _limits(settings),
            woken=woken,
            published=self._published,
            reconcile_seconds=settings.reconcile_seconds,
        )

    @asynccontextmanager
    async def lifespan(self, runtime: Runtime) -> AsyncIterator[None]:
        """Open the store, take over what runs, reconcile until the end."""
        self._store.open()
        try:
            await self._backend.open()
            self._relay = Relay(self._store.engine, outbox_rows, runtime.js)
            work = {runtime.tasks.create_task(self._relay.run()), runtime.tasks.create_task(self._reconciler.run())}
            yield
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        finally:
            await self._backend.close(stop=self._settings.stop_models_on_exit)
            self._store.close()

    async def ready(self) -> list[str]:
        """Ready once what runs was compared with what is wanted for the first time."""
        return [] if self._reconciler.has_reconciled else ["the deployments were not looked at yet"]

    async def deployments(self) -> DeploymentsView:
        """How every deployment is at this moment."""
        backend = self._backend
        situations = await self._reconciler.situations()
        return deployments(situations, backend=backend.name, shares_by=backend.shares_by, no_shares=backend.no_shares)

    def _published(self) -> None:
        if self._relay is not None:
            self._relay.wake()
