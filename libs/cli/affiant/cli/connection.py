"""The command line's own connections to the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from nats.errors import Error as NatsError

from affiant.cli import record
from affiant.cli.home import Home
from affiant.cli.natsconf import ADMINS
from affiant.cli.services import NOT_RUNNING
from affiant.common import bus, subjects
from affiant.common.client import Client, credentials, servers
from affiant.common.errors import Problem, Unavailable
from affiant.common.serving import BusAccess

T = TypeVar("T")


def connected(home: Home, user: str, url: str = "") -> AbstractAsyncContextManager[Client]:
    """A connection as `user` of this home; closed at the end. Raises as `connect` does."""
    access = BusAccess(url=url or record.read(home).nats_url, nkey_file=str(home.nkey_file(user)))
    return connect(access, user, hint=NOT_RUNNING)


@asynccontextmanager
async def connect(access: BusAccess, user: str, *, hint: str = "") -> AsyncIterator[Client]:
    """A connection to the bus as `user`.

    Raises `Unavailable` at once where no server answers (a person waits for it), with the server's own words
    where it refuses.
    """
    refused: list[str] = []
    subjects.accept_any()

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = Client(bus.API if user in ADMINS.values() else bus.LENT_API)
    try:
        await client.connect(
            servers(access.url),
            **credentials(access),
            name=f"affiant-cli-{user}",
            inbox_prefix=bus.inbox_prefix(user).encode(),
            allow_reconnect=False,
            # Without these two nats-py goes on trying for two minutes before it says that nobody is there.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=2,
            error_cb=on_error,
        )
    except (OSError, NatsError, TimeoutError) as error:
        words = next(filter(None, reversed(refused)), "") or str(error) or "no answer in time"
        raise Unavailable(f"the bus at {access.url} does not let {user} in: {words}", hint=hint) from error
    try:
        yield client
    except (NatsError, TimeoutError) as error:
        # nats-py shows a refused permission only as a time-out; the reason came to `on_error`.
        words = "; ".join(filter(None, refused)) or str(error) or "no answer in time"
        raise Problem(f"the bus did not do it: {words}", status=503) from error
    finally:
        await client.close()


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; in a thread of its own where the caller has an event loop running (a test may)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "bus") as pool:
        return pool.submit(asyncio.run, work).result()


def declare(home: Home, url: str) -> list[str]:
    """Make the server agree with `affiant.common.bus`. Returns what was changed, in words."""
    access = {user: BusAccess(url=url, nkey_file=str(home.nkey_file(user))) for user in ADMINS.values()}
    return wait_for(declare_as(access))


def read_again(home: Home, service: str) -> list[str]:
    """Have the running bus deliver to `service` everything that it still holds. Returns the durables."""

    async def work() -> list[str]:
        durables = []
        for account, admin in ADMINS.items():
            streams = [stream for stream in bus.STREAMS if stream.account == account]
            async with connected(home, admin) as client:
                durables += await bus.reread(client.jetstream(), service, streams)
        return durables

    return wait_for(work())


async def declare_as(access: Mapping[str, BusAccess], *, replicas: int = 1) -> list[str]:
    """The same with the administrators that `access` names: each account that holds streams has its own."""
    changed = []
    for account, admin in ADMINS.items():
        streams = [stream for stream in bus.sized(bus.STREAMS) if stream.account == account]
        async with connect(access[admin], admin) as client:
            changed += await bus.declare(client.jetstream(), streams=streams, replicas=replicas)
    return changed
