"""Who asks for a change, and why: it goes into the history and into the event."""

from __future__ import annotations

from dataclasses import dataclass

from affiant.common import wire
from affiant.common.errors import Problem, Refused
from affiant.common.events import Event
from affiant.common.trace import child_of

MAX_REASON = 2_000


@dataclass(frozen=True)
class Order:
    """Raises `Problem` for a reason that cannot be kept. `trace` is the request's W3C traceparent, if it had one."""

    person: str
    reason: str = ""
    trace: str = ""

    def __post_init__(self) -> None:
        if len(self.reason) > MAX_REASON:
            raise Problem(f"the reason is longer than {MAX_REASON} characters", status=422, hint="Be brief.")
        if "\x00" in self.reason:  # PostgreSQL cannot keep it
            raise Problem("the reason holds a NUL character", status=422, hint="Send plain text.")

    def message(self, event: Event) -> wire.Message:
        """The message that tells of what was ordered. Raises `Problem` when it does not fit into one."""
        try:
            return wire.encode(event, owner="registry", traceparent=child_of(self.trace))
        except Refused as error:
            raise Problem(str(error), status=422, hint="Shorten the description, the tags or the columns.") from error
