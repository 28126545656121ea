"""`affiant dead-letters`: messages that were set aside, with the reason; look, mend the cause, replay."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from affiant.cli import deadletters
from affiant.cli.connection import connected, wait_for
from affiant.cli.deadletters import DeadLetter
from affiant.cli.session import Session, command
from affiant.cli.views.tables import ago, pairs, plain_table
from affiant.common.errors import Problem

PANEL = "Look after it"

Number = Annotated[int, typer.Argument(help="The dead letter's number, from the list.", min=1)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True, help="Messages that no service could handle: list, show, replay, drop.")
    app.add_typer(group, name="dead-letters", rich_help_panel=PANEL)
    command(group, "list")(list_)
    command(group, "show")(show)
    command(group, "replay")(replay)
    command(group, "drop")(drop)


def list_(
    session: Session,
    durable: Annotated[str, typer.Option(help="Only of this durable consumer.")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 100,
) -> None:
    """List the messages that were set aside, newest last, with the reason.

    affiant dead-letters list
    affiant dead-letters list --durable auditor-predictions --output json
    """

    async def read() -> list[DeadLetter]:
        async with connected(session.home, "operator") as client:
            return await deadletters.listed(client.jetstream(), durable, limit)

    found = wait_for(read())
    table = plain_table("number", "set aside", "by", "subject", "reason", right=("number",))
    for letter in found:
        table.add_row(str(letter.number), ago(letter.at), letter.durable, letter.subject, letter.reason)
    nothing = Text("no dead letters: every message could be handled")
    session.show({"dead_letters": [letter.summary() for letter in found]}, table if found else nothing)


def show(session: Session, number: Number) -> None:
    """Show one dead letter whole.

    affiant dead-letters show 12
    """
    letter = wait_for(_one(session, number))
    session.show(letter.summary() | {"headers": letter.headers, "body": letter.text}, *_views(letter))


def replay(
    session: Session,
    number: Annotated[int | None, typer.Argument(help="The dead letter's number.", min=1)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    durable: Annotated[str, typer.Option(help="With --all: only of this durable consumer.")] = "",
) -> None:
    """Publish dead letters again to the subject that they came from, and take them out of the list.

    All consumers of that subject see them again; those that had handled one know it by its id and change nothing.
    Mend the cause first, or it comes back.

      affiant dead-letters replay 12
      affiant dead-letters replay --all --durable deployer-models
    """
    if (number is None) == (not every):
        raise Problem("name one dead letter, or give --all", hint="affiant dead-letters list")

    async def publish() -> list[int]:
        async with connected(session.home, "operator") as client:
            js = client.jetstream()
            chosen = await deadletters.listed(js, durable, None) if every else [await deadletters.get(js, number or 0)]
            return [await deadletters.replay(js, letter) for letter in chosen]

    done = wait_for(publish())
    session.show({"replayed": done}, Text(f"replayed: {', '.join(map(str, done)) or 'nothing to replay'}"))


def drop(session: Session, number: Number) -> None:
    """Delete a dead letter that will never be of use, such as a malformed message.

    affiant dead-letters drop 12
    """

    async def delete() -> None:
        async with connected(session.home, "operator") as client:
            js = client.jetstream()
            await deadletters.drop(js, await deadletters.get(js, number))

    wait_for(delete())
    session.show({"dropped": number}, Text(f"dropped {number}"))


async def _one(session: Session, number: int) -> DeadLetter:
    async with connected(session.home, "operator") as client:
        return await deadletters.get(client.jetstream(), number)


def _views(letter: DeadLetter) -> list[RenderableType]:
    facts = pairs(
        ("number", letter.number),
        ("set aside", ago(letter.at)),
        ("by", letter.durable),
        ("reason", Text(letter.reason, style="bold")),
        ("deliveries", letter.deliveries),
        ("subject", letter.subject),
        ("message id", letter.message_id),
    )
    return [facts, Text(f"\n{letter.text}\n"), Text(f"→ affiant dead-letters replay {letter.number}", style="dim")]
