"""W3C trace context (https://www.w3.org/TR/trace-context/): one trace from the request to its audit record.

Only the header is carried along; no tracing backend is needed for it to be useful in logs and events.
"""

from __future__ import annotations

import os
import re

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")


def new_traceparent() -> str:
    """The start of a new, sampled trace."""
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


def child_of(traceparent: str) -> str:
    """A new span in the same trace; a new trace where `traceparent` is absent or malformed, as the standard asks."""
    found = _TRACEPARENT.match(traceparent)
    if not found or not int(found[1], 16) or not int(found[2], 16):
        return new_traceparent()
    return f"00-{found[1]}-{os.urandom(8).hex()}-{found[3]}"


def trace_id(traceparent: str) -> str:
    """The 32 hex digits that all spans of a trace share; empty where there is none."""
    found = _TRACEPARENT.match(traceparent)
    return found[1] if found else ""
