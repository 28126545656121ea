"""`affiant package`: a version as a container image."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from affiant.cli import images
from affiant.cli.images import NOTHING, Base, Layout
from affiant.cli.pushing import Repository
from affiant.cli.references import Reference, reference
from affiant.cli.session import Session, command
from affiant.common.errors import Conflict, Problem
from affiant.common.events import ModelSpec

PANEL = "Models"
SCHEME = "oci://"
DOWNLOAD_SECONDS = 300.0


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "package", PANEL)(package)


def package(
    session: Session,
    version: Annotated[str, typer.Argument(metavar="MODEL/VERSION", help="Such as loan/3.")],
    to: Annotated[str, typer.Option(help="oci://registry/path:tag, or a folder for an OCI layout.")],
    base: Annotated[
        str, typer.Option(help="An image with a shell to build upon (busybox), for KServe and for copying.")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="The registry speaks plain HTTP.")] = False,
) -> None:
    """Build a version's container image (a ModelCar) and push it; the registry records it by its digest.

    The model lies at /models/model.onnx. The same version and base always give the same digest, for linux on amd64 and
    arm64. Promotions from then on name the image, and the deployer serves from it. An approver or operator may.

    affiant package loan/3 --to oci://registry.example.com/models/loan:3 --as omar
    affiant package loan/3 --to oci://registry.example.com/models/loan:3 \\
        --base oci://registry.example.com/busybox@sha256:… --as omar
    affiant package loan/3 --to ./loan-3
    """
    wanted = reference(version)
    pushed = to.startswith(SCHEME)
    if not pushed and Path(to).exists():
        raise Conflict(f"{to} exists already", hint="name a folder that does not: it is written as a whole")
    if base and not base.startswith(SCHEME):
        raise Problem(f"--base {base!r} is no image", hint="oci://registry.example.com/busybox@sha256:…")
    with tempfile.TemporaryDirectory(prefix="affiant-package-") as scratch:
        layout = Layout(Path(scratch) / "layout")
        below = Repository(base.removeprefix(SCHEME), insecure=insecure).base(layout, session.note) if base else NOTHING
        digest, platforms = _built(session, wanted, layout, below)
        if pushed:
            image = Repository(to.removeprefix(SCHEME), insecure=insecure).push(layout, digest, session.note)
            body = {"image": image, "platforms": platforms}
            session.services.ask("registry", "PUT", f"{wanted.path}/image", json=body)
            said = f"{wanted} is {image}; its promotions name it from now on"
        else:
            shutil.move(layout.path, to)
            image, said = digest, f"{wanted} is {digest} in {to}; nothing was pushed, and nothing recorded"
    session.show({"image": image, "digest": digest, "platforms": platforms}, Text(said))


def _built(session: Session, wanted: Reference, layout: Layout, base: Base) -> tuple[str, list[str]]:
    found: dict[str, Any] = session.services.get("registry", wanted.path)
    spec = msgspec.convert(found["spec"], ModelSpec)
    answer = session.services.ask("registry", "GET", f"/v1/artifacts/{spec.digest}", timeout=DOWNLOAD_SECONDS)
    if images.digest_of(answer.content) != spec.digest:
        raise Problem(f"the registry sent other bytes than {spec.digest}", hint="affiant doctor")
    session.note(f"building the image of {wanted} ({len(answer.content):,} bytes)")
    described = images.build(layout, spec, found["registered_at"], answer.content, base)
    return described["digest"], [f"linux/{architecture}" for architecture in sorted(base.layers)]
