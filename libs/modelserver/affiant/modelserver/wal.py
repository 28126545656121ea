"""The local write-ahead file: messages that are durable on this disk and not yet on the bus.

A segment is a file of lines, one message each: eight hex digits of the CRC-32 of the rest, the subject, the headers
as JSON and the body (itself one line of JSON), with tabs between. A line whose checksum does not fit was torn by a
crash, in which case no answer had left for it, or damaged later; both are counted and told, and the rest is read.

Whoever writes or reads a segment holds a lock on it (`flock`), which the kernel drops when the process dies. So the
servers that share a folder find the segments that a dead one left behind, and publish them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from affiant.common.wire import Message

SUFFIX = ".wal"
_headers = msgspec.json.Decoder(dict[str, str])


def line(message: Message) -> bytes:
    """`message` as a line of a segment."""
    rest = b"%b\t%b\t%b" % (message.subject.encode(), msgspec.json.encode(message.headers), message.body)
    return b"%08x\t%b\n" % (zlib.crc32(rest), rest)


def parse(text: bytes) -> Message | None:
    """The message in a line without its end; `None` when its checksum does not fit."""
    checksum, _, rest = text.partition(b"\t")
    if checksum != b"%08x" % zlib.crc32(rest):
        return None
    subject, headers, body = rest.split(b"\t", 2)
    named = _headers.decode(headers)
    return Message(subject.decode(), body, named, named.get("Nats-Msg-Id", ""))


class Segment:
    """One file, locked by this process. `size` counts the bytes that are known to be on the disk."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.size = os.fstat(descriptor).st_size
        self.sealed = False
        self.adopted = False
        self.damaged = 0
        self._descriptor = descriptor
        self._read = 0

    def append(self, lines: bytes) -> None:
        """Write and wait for the disk; raises `OSError`, and then the file is as before, as far as can be."""
        try:
            _write_all(self._descriptor, lines, self.size)
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(lines)

    def read(self, at_most: int) -> list[Message]:
        """The next messages, about `at_most` bytes of them; empty at the end of what is on the disk."""
        messages: list[Message] = []
        while not messages and self._read < self.size:
            chunk = os.pread(self._descriptor, min(at_most, self.size - self._read), self._read)
            end = chunk.rfind(b"\n") + 1
            if not end and self._read + len(chunk) < self.size:
                at_most *= 2  # a line that is longer than what was asked for
                continue
            self._read += end or len(chunk)
            messages = list(self._parsed(chunk[:end] if end else chunk))
        return messages

    def _parsed(self, lines: bytes) -> Iterator[Message]:
        for text in lines.rstrip(b"\n").split(b"\n"):
            message = parse(text)
            if message is None:
                self.damaged += 1
            else:
                yield message

    def remove(self) -> None:
        """Everything in it is on the bus. A damaged one is kept under another name, for a person to look at."""
        if self.damaged:
            self.path.rename(self.path.with_suffix(".damaged"))
        else:
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the file up as it is; another process may take it over."""
        os.close(self._descriptor)


def create(path: Path) -> Segment:
    """A new segment, locked. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor) and _is_at(descriptor, path):
            _sync_folder(path.parent)
            return Segment(path, descriptor)
        os.close(descriptor)  # another process took the empty file for an abandoned one, and removed it


def adopt(folder: Path) -> list[Segment]:
    """The segments in `folder` that nobody holds any more, oldest first, locked and sealed."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        if _lock(descriptor) and _is_at(descriptor, path):
            segment = Segment(path, descriptor)
            segment.sealed = segment.adopted = True
            found.append(segment)
        else:
            os.close(descriptor)
    return found


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    """A new file survives a power loss only when its folder was synced as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
