"""`affiant bootstrap`: the bus of a cluster, with least privilege."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from affiant.cli import bootstrap as making
from affiant.cli.bootstrap import Folder
from affiant.cli.connection import declare_as, wait_for
from affiant.cli.natsconf import ADMINS
from affiant.cli.session import Session, command
from affiant.common.errors import Problem, Unavailable
from affiant.common.serving import BusAccess

PANEL = "Run it"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "bootstrap", PANEL)(bootstrap)


def bootstrap(
    session: Session,
    out: Annotated[Path | None, typer.Option(help="The folder of keys and configuration; made, then kept.")] = None,
    outside: Annotated[
        list[str], typer.Option(help="A system that publishes predictions of its own; repeat. It gets a key.")
    ] = [],
    person: Annotated[
        list[str], typer.Option(help="Somebody with a token, and roles: ana=author,approver; repeat.")
    ] = [],
    release: Annotated[str, typer.Option(help="The name of the Helm release.")] = "affiant",
    namespace: Annotated[str, typer.Option(help="The namespace that the chart is installed in.")] = "affiant",
    servers: Annotated[int, typer.Option(min=1, max=5, help="Servers of the bus; three survive the loss of one.")] = 3,
    tls: Annotated[bool, typer.Option("--tls", help="Clients and servers speak TLS.")] = False,
    rotate: Annotated[str, typer.Option(help="Give this user a new key; the old one counts until --retire.")] = "",
    retire: Annotated[str, typer.Option(help="Forget this user's old key.")] = "",
    declare: Annotated[bool, typer.Option("--declare", help="Declare streams and durables on a running bus.")] = False,
    nats: Annotated[str, typer.Option(help="Where the bus is, for --declare.")] = "nats://127.0.0.1:4222",
    keys: Annotated[Path | None, typer.Option(help="The folder with admin.nk and admin-audit.nk.")] = None,
    ca_file: Annotated[str, typer.Option(help="Certificates by which clients know the bus.")] = "",
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each stream.")] = 1,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the bus.")] = 120.0,
) -> None:
    """Make keys, permissions and tokens for a cluster, or declare the streams of its bus.

    Every service and outside system gets an NKey and may do its own work only; people get tokens (files in
    <out>/tokens). Run again, it keeps what is there and writes the Secrets anew.

    affiant bootstrap --out bus --outside core-banking --person ana=author --person ben=approver,operator
    kubectl --namespace affiant apply --filename bus/secrets.yaml
    affiant bootstrap --out bus --rotate registry     then apply; later --retire registry
    affiant bootstrap --declare --nats nats://affiant-nats:4222 --keys bus/keys --replicas 3
    """
    if declare:
        if keys is None:
            raise Problem("--declare needs --keys", hint="the folder with admin.nk and admin-audit.nk")
        _declare(session, nats, keys, ca_file, replicas, wait)
        return
    if out is None:
        raise Problem("where should the keys go?", hint="affiant bootstrap --out bus")
    folder = Folder(out)
    made = making.prepare(folder, [*outside, making.TRIAL])
    making.prepare_people(folder, dict(_person(one) for one in person))
    if rotate:
        making.rotate(folder, rotate)
    if retire:
        making.retire(folder, retire)
    server = making.cluster_server(
        release=release, namespace=namespace, servers=servers, tls=tls, password=making.route_password(folder)
    )
    making.write(folder, server, release, Path(ca_file) if ca_file else None)
    told = {
        "folder": str(folder.path),
        "made": made,
        "users": [user.name for user in folder.users()],
        "config": str(folder.config),
        "secrets": str(folder.secrets),
    }
    words = (
        f"{len(made)} keys made, {len(folder.users())} users in {folder.config}\n"
        f"next: kubectl --namespace {namespace} apply --filename {folder.secrets}"
    )
    session.show(told, Text(words))


def _person(text: str) -> tuple[str, list[str]]:
    name, _, roles = text.partition("=")
    return name, [role for role in roles.split(",") if role]


def _declare(session: Session, url: str, keys: Path, ca_file: str, replicas: int, wait: float) -> None:
    access = {
        admin: BusAccess(url=url, nkey_file=str(keys / f"{admin}.nk"), ca_file=ca_file) for admin in ADMINS.values()
    }
    deadline = time.monotonic() + wait
    while True:
        try:
            changed = wait_for(declare_as(access, replicas=replicas))
        except (Unavailable, Problem) as problem:
            if time.monotonic() > deadline or problem.status != 503:
                raise
            session.note(f"waiting for the bus: {problem.message}")
            time.sleep(2)
        else:
            session.show({"changed": changed}, Text("\n".join(changed) or "everything was declared already"))
            return
