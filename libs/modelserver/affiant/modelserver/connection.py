"""The connection to the bus: one TCP connection that is never given up, and a cheap way to write to it."""

from __future__ import annotations

import re
from collections.abc import Callable

import structlog

from affiant.common import bus, ids
from affiant.common.client import Client, credentials, servers
from affiant.common.errors import Problem
from affiant.common.serving import BusAccess

log = structlog.get_logger(__name__)

Reply = Callable[[str, bytes, str], None]
"""Called with the token a command was sent with, the body of the reply, and its status (`503`: no stream)."""

_LINE_BREAK = re.compile(r"[\r\n]")


class Disconnected(Exception):
    """There is no connection at this moment; it is being made again."""


class _Client(Client):
    """Two short cuts through nats-py's client, both for the hot path, both by its protected names: the version is
    locked, and the integration tests fail when they no longer hold."""

    on_reply: Reply = staticmethod(lambda *_: None)
    replies = 0

    def write(self, commands: bytes) -> None:
        """Write whole protocol commands at once, and never while disconnected.

        `Client.publish` checks and formats each message by itself (about 10 µs), and while disconnected it keeps
        messages to send them later, long after their sender gave them up.
        """
        if not self.is_connected or self._transport is None:
            raise Disconnected
        self._transport.write(commands)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Hand replies on at once. nats-py puts them into a queue that a task reads: one more turn of the event loop,
        and under load a turn is as long as the requests that are computed in it."""
        if sid != self.replies:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        status = headers[9:12].decode() if headers and headers[8:9] == b" " else ""
        self.on_reply(subject.decode().rsplit(".", 1)[1], data, status)


class Connection:
    """What the publisher needs of the bus."""

    def __init__(self, access: BusAccess, name: str) -> None:
        self._access = access
        self._name = name
        self._client = _Client()
        self._closing = False
        self._inbox = f"{bus.inbox_prefix(access.user or 'modelserver')}.{ids.uuid7()}"
        self._opened = False
        self._reported = ""
        self.on_reply: Reply = lambda *_: None
        self.on_change: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    @property
    def trouble(self) -> str:
        """Why the bus does not work at this moment, in words; empty when it does, as far as is known."""
        if self.connected and self._opened:
            return self._reported
        state = "the connection to the bus is lost; trying again" if self._opened else "not connected to the bus yet"
        return f"{state} ({self._reported})" if self._reported else state

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, that the server takes; it cuts the connection at a larger one."""
        return self._client.max_payload

    async def open(self) -> None:
        """Connect; tries again until it succeeds."""
        user = self._access.user
        await self._client.connect(
            servers(self._access.url),
            name=self._name,
            **credentials(self._access),
            inbox_prefix=bus.inbox_prefix(user or "modelserver").encode(),
            # The default gives up after two minutes.
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated int; it is slept for
            ping_interval=10,
            error_cb=self._error,
            disconnected_cb=self._lost,
            reconnected_cb=self._back,
            closed_cb=self._closed,
        )
        subscription = await self._client.subscribe(f"{self._inbox}.*")
        self._client.on_reply = self._reply
        self._client.replies = subscription._id
        await self._client.flush()
        self._opened, self._reported = True, ""
        log.info("connected to the bus", url=self._access.url, max_payload=self.max_payload)

    def reply_subject(self, token: str) -> str:
        """Where a reply must go to reach `on_reply` with `token`."""
        return f"{self._inbox}.{token}"

    def write(self, commands: bytes) -> None:
        """Send whole protocol commands; raises `Disconnected`."""
        self._client.write(commands)

    async def close(self) -> None:
        """Close for good."""
        self._closing = True
        await self._client.close()

    def _reply(self, token: str, body: bytes, status: str) -> None:
        self._reported = ""
        self.on_reply(token, body, status)

    async def _error(self, error: Exception) -> None:
        """Permission violations appear here only; the publish itself gets no answer."""
        text = str(error) or repr(error)
        if text != self._reported:
            log.warning("the bus reports an error", reason=text)
        self._reported = text

    async def _lost(self) -> None:
        if self._closing:
            return
        log.warning("the connection to the bus is lost")
        self.on_change()

    async def _back(self) -> None:
        self._reported = ""
        log.info("the connection to the bus is back")
        self.on_change()

    async def _closed(self) -> None:
        if self._closing:
            return
        self.on_closed()


def command(subject: str, reply: str, headers: dict[str, str], body: bytes) -> bytes:
    """One HPUB command of the NATS protocol. Raises `Problem` when a header holds a line break."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if _LINE_BREAK.search("".join(headers.values())):
        raise Problem("a header of a message holds a line break")
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    where = f"{subject} {reply}" if reply else subject
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (where.encode(), len(head), len(head) + len(body), head, body)
