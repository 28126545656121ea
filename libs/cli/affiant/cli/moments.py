"""Times as people type them: `24h`, `7d`, `2026-11-23`, `2026-11-23T14:03`, or in full."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from affiant.common.errors import Problem

_AGO = re.compile(r"(\d+)\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str | None, now: datetime | None = None) -> str | None:
    """RFC 3339 in UTC. A length of time counts back from now; without a zone a time is this computer's.

    Raises `Problem` in words for anything else.
    """
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text.strip()):
            found = (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            found = datetime.fromisoformat(text.strip())
        return found.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise Problem(f"{text!r} is no time", hint="such as 24h, 7d, 2026-11-23 or 2026-11-23T14:03:00Z") from error
