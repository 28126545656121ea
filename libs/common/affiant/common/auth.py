"""Who is calling: the one choke point for authentication of every service.

`Guard` wraps the whole application, so that a route cannot be forgotten: everything but the probes and the
metrics needs `Authorization: Bearer <token>`, or the token as the password of Basic authentication. Tokens are kept as
SHA-256 hashes in a file: `[{"name": "ana", "roles": ["author"], "token_sha256": "…"}]`. They are random (at least 128
bits), which is why a fast hash suffices. Beside them tokens of an OpenID Connect issuer may count
(`affiant.common.oidc`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from fastapi import Request
from msgspec import Struct
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from affiant.common.errors import Forbidden, Problem, Unavailable

ROLES = ("author", "approver", "auditor", "operator", "service")
OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})


@dataclass(frozen=True)
class Person:
    """A person or a service that showed a valid token."""

    name: str
    roles: frozenset[str]


class Denied(Exception):
    """This token does not count; the text says why, to whoever showed it."""

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class Tokens(Protocol):
    """Whoever knows whose a token is."""

    async def person(self, token: str) -> Person:
        """Raises `Denied`, or `Unavailable` while it cannot be told."""
        ...


class KnownPerson(Struct, frozen=True):
    """A line of the people file."""

    name: str
    roles: list[str]
    token_sha256: str


class People:
    """The people that are known, by the hash of their token."""

    def __init__(self, known: list[KnownPerson]) -> None:
        self.names = frozenset(line.name for line in known)
        self._by_hash = {line.token_sha256: Person(line.name, frozenset(line.roles)) for line in known}

    @classmethod
    def read(cls, path: str) -> People:
        """The people in the file at `path`; nobody where no path is given. Raises `Problem` when malformed."""
        if not path:
            return cls([])
        try:
            known = msgspec.json.decode(Path(path).read_bytes(), type=list[KnownPerson])
        except (OSError, msgspec.DecodeError) as error:
            raise Problem(f"cannot read the people file {path}: {error}") from error
        unknown = {role for line in known for role in line.roles} - set(ROLES)
        if unknown:
            raise Problem(f"unknown roles in {path}: {', '.join(sorted(unknown))}", hint=f"known: {ROLES}")
        return cls(known)

    def with_token(self, token: str) -> Person | None:
        """The person this token belongs to. Looking up a hash leaks nothing about the token by its time."""
        return self._by_hash.get(token_hash(token))


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Guard:
    """ASGI middleware around everything: 401 for whoever is not known, the person in `scope["state"]` otherwise."""

    def __init__(self, app: ASGIApp, people: People, issuer: Tokens | None = None) -> None:
        self.app = app
        self.people = people
        self.issuer = issuer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                person = await self._person(_bearer(scope))
            except Denied as denied:
                await _refusal(str(denied), denied.hint)(scope, receive, send)
                return
            except Unavailable as away:
                content = {"error": away.message, "hint": away.hint}
                await JSONResponse(content, status_code=away.status)(scope, receive, send)
                return
            scope.setdefault("state", {})["person"] = person
        await self.app(scope, receive, send)

    async def _person(self, token: str) -> Person:
        known = self.people.with_token(token)
        if known is not None:
            return known
        # What an issuer signed has three parts; our own tokens have no dot, so that a mistyped one is not sent about.
        if self.issuer is None or token.count(".") != 2:
            raise Denied("who are you? this needs a valid token", hint="send `Authorization: Bearer <token>`")
        person = await self.issuer.person(token)
        if person.name in self.people.names:
            raise Denied(f"the name {person.name} belongs to somebody in the people file")
        return person


def _bearer(scope: Scope) -> str:
    """The token in the request; of a program that can only be given a URL (KServe's payload logger) the password in it,
    which HTTP clients send as Basic authentication."""
    for key, value in scope["headers"]:
        if key == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            if kind.lower() == "basic":
                return _password(token.strip())
            return token.strip() if kind.lower() == "bearer" else ""
    return ""


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _refusal(reason: str, hint: str) -> JSONResponse:
    return JSONResponse(
        {"error": reason, **({"hint": hint} if hint else {})},
        status_code=401,
        headers={"WWW-Authenticate": "Bearer"},
    )


def needs(*roles: str) -> Callable[..., Any]:
    """A FastAPI dependency: the person calling, who must have one of `roles` (any known person where none is given)."""

    def person(request: Request) -> Person:
        caller: Person = request.state.person
        if roles and not caller.roles.intersection(roles):
            raise Forbidden(
                f"{caller.name} may not do this: it needs the role {' or '.join(roles)}",
                hint=f"{caller.name} has: {', '.join(sorted(caller.roles)) or 'no role'}",
            )
        return caller

    return person
