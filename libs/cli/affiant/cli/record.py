"""`affiant.json`: what runs in a home, so that other commands find it and `down` ends the right processes."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from affiant.cli import processes
from affiant.cli.home import Home, write_private
from affiant.cli.processes import Identity
from affiant.common.errors import NotFound, Problem


class Entry(Struct, frozen=True):
    """One process and where it answers. `started` tells it from a later process with the same pid."""

    url: str
    pid: int = 0
    started: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.started)


class Record(Struct, frozen=True):
    """What `affiant up` wrote. `ready`: everything had answered when it was written."""

    nats_url: str
    services: dict[str, Entry]
    nats: Entry = field(default_factory=lambda: Entry(""))
    up: Entry = field(default_factory=lambda: Entry(""))
    ready: bool = False

    def processes(self) -> dict[str, Entry]:
        """Every recorded process by name, services first, nats last: the order in which to end them."""
        return {**self.services, "nats": self.nats}


def read(home: Home) -> Record:
    """What was recorded last. Raises `NotFound` where nothing ever ran, `Problem` where the file is damaged."""
    try:
        return msgspec.json.decode(home.record_file.read_bytes(), type=Record)
    except FileNotFoundError as error:
        raise NotFound(f"there is no installation in {home.path}", hint="start one: affiant up") from error
    except (OSError, msgspec.DecodeError) as error:
        raise Problem(f"cannot read {home.record_file}: {error}", hint="affiant up writes it anew") from error


def write(home: Home, record: Record) -> None:
    write_private(home.record_file, msgspec.json.format(msgspec.json.encode(record), indent=1).decode())


def entry(url: str, pid: int | None) -> Entry:
    """The entry of a process as it runs now; without a pid where it does not."""
    identity = processes.identify(pid) if pid else None
    return Entry(url, identity.pid, identity.started) if identity else Entry(url)


def running(record: Record) -> dict[str, Entry]:
    """Those recorded processes that still run."""
    return {name: entry for name, entry in record.processes().items() if entry.pid and processes.alive(entry.identity)}
