"""The command line's own connections to the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from affiant.cli import record
from affiant.cli.home import Home
from affiant.cli.services import NOT_RUNNING
from affiant.common import bus, subjects
from affiant.common.errors import Problem, Unavailable

T = TypeVar("T")


@asynccontextmanager
async def connected(home: Home, user: str, url: str = "") -> AsyncIterator[Client]:
    """A connection as `user`; closed at the end.

    Raises `Unavailable` at once where no server answers (a person waits for it), with the server's own words
    where it refuses.
    """
    address = url or record.read(home).nats_url
    refused: list[str] = []
    subjects.accept_any()

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    try:
        client = await nats.connect(
            address,
            user=user,
            password=home.password(user),
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
        raise Unavailable(f"the bus at {address} does not let {user} in: {words}", hint=NOT_RUNNING) from error
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

    async def as_admin() -> list[str]:
        async with connected(home, "admin", url) as client:
            return await bus.declare(client.jetstream())

    return wait_for(as_admin())
