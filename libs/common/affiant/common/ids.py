"""Identifiers that sort by time (UUIDv7, RFC 9562 section 5.7), and the times that stand in events."""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta

MODEL_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
"""A DNS label: a model's name becomes a NATS subject token, a path segment and a Kubernetes name. Use `fullmatch`: `$`
alone lets a newline at the end pass."""

_lock = threading.Lock()
_last_stamp = 0


def uuid7() -> str:
    """A new UUIDv7: 48 bits of milliseconds, 12 bits of sub-millisecond time, 62 random bits.

    Strictly increasing within one process, so that a store's key order is its arrival order.
    """
    global _last_stamp
    with _lock:
        stamp = max(_stamp_now(), _last_stamp + 1)
        _last_stamp = stamp
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    tail = (int.from_bytes(os.urandom(8)) & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000
    text = f"{(milliseconds << 16) | 0x7000 | fraction:016x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _stamp_now() -> int:
    """Milliseconds since 1970 in the upper bits, 1/4096 ms in the lower twelve."""
    return (time.time_ns() << 12) // 1_000_000


def now() -> str:
    """This moment in UTC as RFC 3339 with microseconds and a `Z`."""
    return timestamp(datetime.now(UTC))


def later_than(earlier: str) -> str:
    """This moment; or, where the clock was set back, the first microsecond after `earlier` (as `now` gives it)."""
    this = now()
    return this if this > earlier else timestamp(datetime.fromisoformat(earlier) + timedelta(microseconds=1))


def timestamp(moment: datetime) -> str:
    """`moment` (with a time zone) in UTC as RFC 3339 with microseconds and a `Z`."""
    # Not strftime: it takes six times as long, and this stands on the way of every prediction.
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
