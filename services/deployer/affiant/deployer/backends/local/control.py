"""Talking to a model server over its control socket (see `affiant.common.serving`)."""

from __future__ import annotations

import array
import asyncio
import os
import socket

import msgspec

from affiant.common.serving import ServerStatus

MAX_ANSWER_BYTES = 65_536


class NoAnswer(Exception):
    """Nobody listens, or what came back was no status."""


async def ask(path: str, word: str, timeout: float) -> ServerStatus:
    """What the server at `path` answers to `word`. Raises `NoAnswer`."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(f"{word}\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
        return msgspec.json.decode(line, type=ServerStatus)
    except (OSError, TimeoutError, ValueError) as error:
        raise NoAnswer(f"no answer to {word}: {error or type(error).__name__}") from error


def listener(path: str, timeout: float) -> socket.socket:
    """The listening socket of the server at `path`. Blocks for at most `timeout` seconds. Raises `NoAnswer`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
            connection.sendall(b"listener\n")
            descriptors = _receive(connection)
        except OSError as error:
            raise NoAnswer(f"no answer to listener: {error}") from error
    for surplus in descriptors[1:]:
        os.close(surplus)
    if not descriptors:
        raise NoAnswer("the answer to listener came without a descriptor")
    return _checked(socket.socket(fileno=descriptors[0]))


def _receive(connection: socket.socket) -> list[int]:
    """The descriptors that come with the answer; it is read to its end, because they may come with any part."""
    descriptors: list[int] = []
    received = 0
    while received < MAX_ANSWER_BYTES:
        data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4 * array.array("i").itemsize))
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i", payload[: len(payload) - len(payload) % array.array("i").itemsize])
                descriptors += found
        received += len(data)
        if not data or data.endswith(b"\n"):
            break
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def _checked(found: socket.socket) -> socket.socket:
    try:
        listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        listening = 0
    if not listening:
        found.close()
        raise NoAnswer("the descriptor that came is no listening socket")
    return found
