"""Runs one service: HTTP, the bus, signals, health. The same code on a laptop and in a container.

Order of the start: HTTP (the probes answer at once), bus, durables found, the service's own lifespan, then
messages and requests. Order of the stop: no new messages, no new requests, what is under way ends, then the
service closes what it opened, last the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context
from typing import Any, TypeVar, cast

import structlog
import uvicorn
import uvloop
from faststream.nats import NatsBroker, NatsMessage
from nats.js import JetStreamContext

from affiant.common import auth, bus, logs, oidc, subjects
from affiant.common.client import Client, credentials, servers
from affiant.common.health import BusHealth, Seldom
from affiant.common.http import make_app
from affiant.common.service import Runtime, Service
from affiant.common.serving import BusAccess
from affiant.common.settings import ServiceSettings

log = structlog.get_logger(__name__)


class Running:
    """A service while it runs: what the probes look at."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.bus_health = BusHealth(service.name)
        self.started = False
        self.stopping = asyncio.Event()
        self.nats: Client | None = None
        self.js: JetStreamContext | None = None
        self.close_door: Callable[[], Awaitable[None]] | None = None

    async def problems(self) -> list[str]:
        """Why this service should get no work now."""
        if self.stopping.is_set():
            return ["stopping"]
        problems = await self.bus_health.problems(self.nats, self.js)
        if not self.started:
            return problems or ["starting"]
        return problems + await self.service.ready()

    async def on_closed(self) -> None:
        """The client gave up for good: a process without a bus must end, so that another can begin."""
        if not self.stopping.is_set():
            log.error("the connection to the bus was closed for good; stopping")
            self.stopping.set()


class _Server(uvicorn.Server):
    """uvicorn, without its own signal handlers: the runner decides the order of the stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: Service) -> None:
    """Run `service` until SIGTERM or SIGINT."""
    logs.configure(service.name, service.settings.log_format)
    uvloop.run(serve(service))


async def serve(service: Service) -> None:
    """Run `service` until it is told to stop or one of its tasks fails."""
    running = Running(service)
    _listen_to_signals(running.stopping)
    async with _http(running), _bus(running) as broker:
        await _until_declared(running)
        if running.nats is None or running.js is None or running.stopping.is_set():
            return
        async with Tasks() as tasks:
            await _work(running, Runtime(running.nats, running.js, tasks), broker)


_T = TypeVar("_T")


class Tasks(asyncio.TaskGroup):
    """A task group whose tasks run for as long as the service: at its end they are cancelled, not waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._all: set[asyncio.Task[Any]] = set()

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        """As `asyncio.TaskGroup.create_task`."""
        task = super().create_task(coro, name=name, context=context)
        self._all.add(task)
        task.add_done_callback(self._all.discard)
        return task

    async def cancel(self) -> None:
        """End every task and wait until it has ended."""
        ending = list(self._all)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def _work(running: Running, runtime: Runtime, broker: NatsBroker) -> None:
    settings = running.service.settings
    async with running.service.lifespan(runtime):
        await broker.start()
        running.started = True
        log.info("ready", address=f"http://{settings.http_host}:{settings.http_port}")
        try:
            await running.stopping.wait()
        finally:
            running.stopping.set()
            running.started = False
            log.info("stopping")
            for subscriber in broker.subscribers:
                await subscriber.stop()
            # Before the service closes its store: whoever is being answered may be reading there.
            if running.close_door is not None:
                await running.close_door()
            if isinstance(runtime.tasks, Tasks):
                await runtime.tasks.cancel()


@contextlib.asynccontextmanager
async def _http(running: Running) -> AsyncIterator[None]:
    settings = running.service.settings
    trust = oidc.Trust.read(settings)
    app = make_app(
        running.service,
        running.problems,
        lambda: running.started,
        auth.People.read(settings.people_file),
        oidc.Issuer(trust) if trust else None,
    )
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=10,
        )
    )
    task = asyncio.create_task(server.serve())
    # uvicorn ends its task when the address is taken; without this the process would go on without a door.
    task.add_done_callback(lambda _: running.stopping.set())

    async def close() -> None:
        server.should_exit = True
        await task

    running.close_door = close
    try:
        yield
    finally:
        await close()


@contextlib.asynccontextmanager
async def _bus(running: Running) -> AsyncIterator[NatsBroker]:
    broker = _make_broker(running)
    broker.include_router(running.service.router)
    connecting = asyncio.create_task(broker.connect())
    stopped = asyncio.create_task(running.stopping.wait())
    await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not connecting.done():
        connecting.cancel()
    else:
        running.nats = cast(Client, await connecting)
        running.js = running.nats.jetstream()
    try:
        yield broker
    finally:
        running.stopping.set()
        if running.nats is not None:
            await broker.stop()


def _make_broker(running: Running) -> NatsBroker:
    settings = running.service.settings
    subjects.accept_any()
    return _Broker(
        Client(settings.nats_api),
        credentials(_access(settings)),
        servers(settings.nats_url),
        name=f"affiant-{running.service.name}",
        inbox_prefix=bus.inbox_prefix(running.service.name).encode(),
        # After its last attempt a pull subscriber would hang for ever at full CPU.
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        ping_interval=10,
        error_cb=running.bus_health.on_error,
        closed_cb=running.on_closed,
        decoder=_raw_body,
        logger=None,
    )


class _Broker(NatsBroker):
    """FastStream's broker over a client of ours."""

    def __init__(self, client: Client, proof: dict[str, Any], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._own, self._proof = client, proof

    async def _connect(self) -> Client:
        await self._own.connect(**self._connection_kwargs | self._proof)
        self.config.connect(self._own)
        return self._own


def _access(settings: ServiceSettings) -> BusAccess:
    return BusAccess(
        url=settings.nats_url,
        user=settings.nats_user,
        password_file=settings.nats_password_file,
        nkey_file=settings.nats_nkey_file,
        ca_file=settings.nats_ca_file,
    )


async def _raw_body(message: NatsMessage) -> bytes:
    """FastStream's own decoder refuses `application/cloudevents+json`; `affiant.common.wire` decodes ours."""
    return message.body


async def _until_declared(running: Running) -> None:
    """Wait for whoever declares the streams and durables, and say so: each time after twice as long."""
    said = Seldom()
    while running.nats is not None and not running.stopping.is_set():
        missing = await running.bus_health.problems(running.nats, running.js)
        if not missing:
            return
        if said.due():
            log.warning("waiting for the bus", missing=missing)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.stopping.wait(), 1.0)


def _listen_to_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
