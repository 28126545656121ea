"""What a service is, as a value: a name, its doors, and what it does while it runs.

Each service has a `make_service()` that builds one of these and connects nothing. `affiant.common.runner` runs
it; services are found by the entry points `affiant.services`, so that nothing here imports one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points

from fastapi import APIRouter
from faststream.nats import NatsRouter
from nats.js import JetStreamContext

from affiant.common.client import Client
from affiant.common.errors import Problem
from affiant.common.settings import ServiceSettings

ENTRY_POINTS = "affiant.services"


@dataclass(frozen=True)
class Runtime:
    """What a running service is given. A task in `tasks` that raises stops the process, to be started again."""

    nats: Client
    js: JetStreamContext
    tasks: asyncio.TaskGroup


@dataclass(frozen=True)
class Service:
    """One service.

    `lifespan` opens what the service keeps, after the bus is connected and before any message or request is
    taken. `ready` answers why the service is not ready, in words; an empty list says that it is. `state` is what else
    /readyz tells.
    """

    name: str
    settings: ServiceSettings
    router: NatsRouter
    api: APIRouter
    lifespan: Callable[[Runtime], AbstractAsyncContextManager[None]]
    ready: Callable[[], Awaitable[list[str]]]
    state: Callable[[], dict[str, str]] = dict


def find(name: str) -> Callable[[], Service]:
    """The `make_service` of an installed service. Raises `Problem` naming what is installed."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        raise Problem(f"there is no service {name!r}", hint=f"installed: {', '.join(sorted(found))}")
    try:
        make: Callable[[], Service] = found[name].load()
    except ModuleNotFoundError as error:
        raise Problem(
            f"the {name} service needs {error.name}, which is not installed",
            hint=f"pip install 'affiant[{name}]'",
        ) from error
    return make
