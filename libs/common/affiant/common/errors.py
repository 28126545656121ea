"""The two words everybody learns at once, and the one that people see.

`Refused` says: set this message aside, trying again will not help. Any other exception raised while a
message is handled says: try again later. `Problem` is an error for a person: what is wrong and what to do.
"""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """This message can never be handled; the text says why and goes with it to the dead letters."""


class Problem(Exception):
    """An error that a person can act on. Doors translate it; everybody else lets it pass.

    `status` is the HTTP status that says the same; `hint` is what to do next; `details` go beside them in the
    answer (plain JSON values).
    """

    def __init__(
        self, message: str, *, status: int = 400, hint: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.hint = hint
        self.details = details


class NotFound(Problem):
    """The thing asked for does not exist."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=404, hint=hint)


class Conflict(Problem):
    """What was asked for contradicts what is already so."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=409, hint=hint)


class Forbidden(Problem):
    """This person may not do that."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=403, hint=hint)


class Unavailable(Problem):
    """Something that is needed is away at the moment; the same call may succeed later."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, status=503, hint=hint)
