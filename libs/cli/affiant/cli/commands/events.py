"""`affiant tail`: the events on the bus, as they come."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer
from nats.aio.msg import Msg

from affiant.cli.connection import connected, wait_for
from affiant.cli.natsconf import LISTENERS
from affiant.cli.references import names
from affiant.cli.session import Session, command
from affiant.cli.views import events as views
from affiant.common import wire
from affiant.common.errors import Problem
from affiant.common.events import EVENTS

PANEL = "For other systems"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "tail", PANEL)(tail)


def tail(
    session: Session,
    model: Annotated[str, typer.Option(help="Only events about this model.")] = "",
    events: Annotated[
        list[str], typer.Option(help="Only these, such as prediction_logged; repeat, or use commas.")
    ] = [],
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.")] = None,
) -> None:
    """Follow the events on the bus as they come, dead letters too; Ctrl-C ends it.

    affiant tail
    affiant tail --model loan --events prediction_explained,model_deployed
    affiant tail --output json | jq .type
    """
    wanted = frozenset(names(events))
    known = {event.name for event in EVENTS} | {views.DEAD_LETTER}
    if unknown := wanted - known:
        raise Problem(f"there is no event {', '.join(sorted(unknown))}", hint=f"known: {', '.join(sorted(known))}")
    wait_for(_follow(session, model, wanted, count))


async def _follow(session: Session, model: str, wanted: frozenset[str], count: int | None) -> None:
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(connected(session.home, ear)) for ear in LISTENERS.values()]
        for client in clients:
            await client.subscribe("affiant.>", cb=arrived.put)
            await client.flush()
        session.note(f"following {client.connected_url.netloc if client.connected_url else 'the bus'}; Ctrl-C ends it")
        watching = asyncio.create_task(_end_with(clients[0], arrived))
        shown = 0
        while count is None or shown < count:
            message = await arrived.get()
            if message is None:
                raise Problem("the bus is away", status=503, hint="affiant doctor")
            for single in wire.unbatched(message.data, message.headers):
                if count is None or shown < count:
                    shown += _show(session, message.subject, single, model, wanted)
        watching.cancel()


async def _end_with(client: Any, arrived: asyncio.Queue[Msg | None]) -> None:
    """nats-py goes silent when a connection that may not reconnect is lost: a follower must be told."""
    while client.is_connected:  # noqa: ASYNC110 - nats-py has no event for it
        await asyncio.sleep(0.5)
    await arrived.put(None)


def _show(session: Session, subject: str, event: wire.Single, model: str, wanted: frozenset[str]) -> bool:
    seen = views.Seen.of(subject, event.body, event.headers)
    if (wanted and seen.name not in wanted) or (model and seen.model != model):
        return False
    session.line(seen.data(), seen.line())
    return True
