"""Where a run takes place: who acts, through which doors, on what, and what has happened so far."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import httpx

from affiant.common.errors import Problem
from affiant.common.ids import now
from examples.loan.client import Door
from examples.loan.outcome import Moment
from examples.loan.progress import Progress
from examples.loan.table import Table

if TYPE_CHECKING:
    from examples.loan.train import Model, Split

T = TypeVar("T")


class SystemLike(Protocol):
    """What is needed of the system: where its services answer, and people's tokens."""

    @property
    def urls(self) -> dict[str, str]: ...
    def token(self, person: str) -> str: ...


@dataclass
class Stage:
    """One run: who acts, what they act on, and what happened so far."""

    table: Table
    parts: Split
    models: Sequence[Model]
    applications: int
    seed: int
    progress: Progress
    home: str
    http: httpx.AsyncClient
    system: SystemLike
    began: float
    program: str = "affiant"
    began_at: str = field(default_factory=now)
    moments: list[Moment] = field(default_factory=list)
    registered: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    complaints: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The model's name: the table's, as a DNS label."""
        return re.sub(r"[^a-z0-9]+", "-", self.table.name.lower()).strip("-")[:60] or "loans"

    def door(self, service: str, person: str) -> Door:
        """A service, as a person."""
        return Door(self.http, self.system.urls[service], self.system.token(person))

    def log_key(self) -> str:
        """The auditor's public key, from its folder: not from the answer that it is to check."""
        return (Path(self.home) / "auditor" / "log.vkey").read_text()

    def remember(self, kind: Any, version: int, who: str, what: str) -> None:
        """Add to the timeline."""
        self.moments.append(Moment(time.monotonic() - self.began, now(), kind, version, who, what))


async def until(ready: Callable[[], Awaitable[T]], seconds: float, otherwise: str) -> T:
    """Ask again and again until the answer is true. Raises `Problem` (504) with `otherwise` after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := await ready()):
        if time.monotonic() > end:
            raise Problem(f"{otherwise} within {seconds:g} seconds", status=504, hint="see the logs folder")
        await asyncio.sleep(0.1)
    return answer
