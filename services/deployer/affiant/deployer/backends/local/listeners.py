"""The listening sockets: one for each slot, on a port that is chosen once and kept for ever.

The deployer holds a copy of each, so that connections wait in the kernel's queue while a server is started again.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Protocol

import structlog

from affiant.common.errors import Unavailable
from affiant.deployer.domain.situation import Slot

log = structlog.get_logger(__name__)

# Below the ephemeral range: a port from `bind(0)` could be lent to an outgoing connection while it is not bound.
# Below 30000: there Kubernetes' node ports begin.
PORTS = range(20_000, 30_000)
BACKLOG = 1_024


class Ports(Protocol):
    """Remembers which port belongs to which slot."""

    def port(self, slot: Slot) -> int | None:
        """The slot's port, once it has one."""

    def taken_ports(self) -> frozenset[int]:
        """Every port that belongs to a slot."""

    def keep_port(self, slot: Slot, port: int) -> None:
        """Give the port to the slot for ever."""


class Listeners:
    """The open listening sockets, by slot. Not safe for several threads at once."""

    def __init__(self, host: str, ports: Ports) -> None:
        self._host = host
        self._ports = ports
        self._open: dict[Slot, socket.socket] = {}

    def url(self, slot: Slot) -> str:
        """Where the slot is reached; empty while nothing is open."""
        if slot not in self._open:
            return ""
        return f"http://{self._host}:{self._open[slot].getsockname()[1]}"

    def open(self, slot: Slot) -> socket.socket:
        """The slot's socket, bound where it is not open yet. Raises `Unavailable` where another has its port."""
        if slot not in self._open:
            port = self._ports.port(slot)
            self._open[slot] = self._choose(slot) if port is None else self._bind(port)
        return self._open[slot]

    def adopt(self, slot: Slot, found: socket.socket) -> None:
        """Take a socket back from a server that runs; it is closed where the slot's is open already or is another."""
        port = found.getsockname()[1]
        if slot in self._open or port != self._ports.port(slot):
            found.close()
            return
        self._open[slot] = found
        log.info("listening socket taken over", model=slot.model, alias=slot.alias, port=port)

    def is_open(self, slot: Slot) -> bool:
        """Whether the slot's socket is held."""
        return slot in self._open

    def close(self, slot: Slot) -> None:
        """Close this copy of the slot's socket; servers that inherited it keep theirs."""
        if slot in self._open:
            self._open.pop(slot).close()

    def close_all(self) -> None:
        """Close every copy held here."""
        for slot in list(self._open):
            self.close(slot)

    def _choose(self, slot: Slot) -> socket.socket:
        taken = self._ports.taken_ports()
        for port in random.sample(PORTS, 200):
            if port in taken:
                continue
            try:
                bound = self._bind(port)
            except Unavailable:
                continue
            self._ports.keep_port(slot, port)
            return bound
        raise Unavailable(f"no free port on {self._host} between {PORTS.start} and {PORTS.stop - 1} in 200 attempts")

    def _bind(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._host, port))
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            reason = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise Unavailable(f"cannot listen on {self._host}:{port}: {reason}") from error
        return bound
