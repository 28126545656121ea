"""People whose tokens another system issues: JSON Web Tokens of an OpenID Connect issuer.

Only what the issuer's own document and keys say is believed (OpenID Connect Discovery 1.0, RFC 7519, 8725): signed by
one of its keys with an algorithm of `ALGORITHMS`, for this audience, not expired, with a subject. Nothing is fetched
before the first token comes; keys are kept for `KEYS_SECONDS`, fetched anew for a key id that is not known yet (at most
every `AGAIN_SECONDS`, whoever asks), and go on counting for `STALE_SECONDS` while the issuer is away.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import structlog
from jwt import PyJWK, PyJWKSet

from affiant.common.auth import ROLES, Denied, Person
from affiant.common.errors import Problem, Unavailable
from affiant.common.settings import ServiceSettings

log = structlog.get_logger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. Never `none`, and never HS…: a public key would then be taken for a shared secret."""

MAPPED_ROLES = tuple(role for role in ROLES if role != "service")
"""What an issuer may make of somebody; services show tokens of their own."""

KEYS_SECONDS = 600.0
AGAIN_SECONDS = 30.0
STALE_SECONDS = 86_400.0
LEEWAY_SECONDS = 30.0
LARGEST_ANSWER = 1024**2


@dataclass(frozen=True)
class Trust:
    """Whose tokens count, and what of them says who somebody is.

    `name_claim` must be one that people cannot change themselves: by it the registry knows that an approver is not
    the author. `roles_claim` may be a path (`realm_access.roles`); `roles` maps its values to roles of Affiant; what is
    not mapped counts where it is the name of a role itself, unless there is a mapping.
    """

    issuer: str
    audience: str
    name_claim: str = "sub"
    roles_claim: str = "roles"
    roles: Mapping[str, str] | None = None
    ca_file: str = ""

    @classmethod
    def read(cls, settings: ServiceSettings) -> Trust | None:
        """What the settings say; None where they name no issuer. Raises `Problem` for what cannot be right."""
        if not settings.oidc_issuer:
            return None
        _check_url(settings.oidc_issuer, "oidc_issuer")
        if not settings.oidc_audience:
            raise Problem(
                "oidc_issuer is set, but oidc_audience is not",
                hint="without it, a token that the issuer made for any other program would count here",
            )
        return cls(
            issuer=settings.oidc_issuer,
            audience=settings.oidc_audience,
            name_claim=settings.oidc_name_claim,
            roles_claim=settings.oidc_roles_claim,
            roles=_mapping(settings.oidc_roles) or None,
            ca_file=settings.oidc_ca_file,
        )

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Who is meant by a token's claims. Raises `Denied`."""
        name = claims.get(self.name_claim)
        if not isinstance(name, str) or not name.strip() or len(name) > 255:
            raise Denied(f"the token names nobody: its claim {self.name_claim} is missing or empty")
        given = self._given(claims)
        roles = {self.roles[one] for one in given if one in self.roles} if self.roles else given & set(MAPPED_ROLES)
        return Person(name, frozenset(roles))

    def _given(self, claims: Mapping[str, Any]) -> set[str]:
        found: Any = claims
        # The whole name first: some issuers have claims like `https://example.com/roles`, with dots that are no path.
        for part in [self.roles_claim] if self.roles_claim in claims else self.roles_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        values = found.split() if isinstance(found, str) else found
        return {one for one in values if isinstance(one, str)} if isinstance(values, list) else set()


class Issuer:
    """Holds tokens against the keys of an issuer. `transport` and the clock are for tests."""

    def __init__(
        self,
        trust: Trust,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trust = trust
        self._transport = transport
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def person(self, token: str) -> Person:
        """Whose token this is. Raises `Denied` with the reason, `Unavailable` while the issuer's keys cannot be had."""
        key = await self._key(_header(token))
        return self.trust.person(self._claims(token, key))

    def _claims(self, token: str, key: PyJWK) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                # Of the allowed ones only that of the key: a token may not choose.
                algorithms=[key.algorithm_name],
                audience=self.trust.audience,
                issuer=self.trust.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Denied("the token has expired", hint="sign in again for a new one") from error
        except jwt.InvalidTokenError as error:
            raise Denied(f"the token does not count here: {str(error)[:200]}") from error

    async def _key(self, header: Mapping[str, Any]) -> PyJWK:
        wanted = str(header.get("kid") or "")
        if self._clock() - self._fetched_at > KEYS_SECONDS or self._named(wanted) is None:
            await self._refresh()
        key = self._named(wanted)
        if key is None:
            raise Denied("the token was signed with a key that its issuer does not have")
        if header.get("alg") != key.algorithm_name or key.algorithm_name not in ALGORITHMS:
            raise Denied(f"the token's algorithm {str(header.get('alg'))[:20]!r} is not that of its key")
        return key

    def _named(self, kid: str) -> PyJWK | None:
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        async with self._fetching:
            if self._clock() - self._tried_at < AGAIN_SECONDS:
                self._check_fresh("it was asked a moment ago")
                return  # whoever waited for the lock finds what the one before fetched
            self._tried_at = self._clock()
            try:
                self._keys = await self._fetch()
            except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                log.warning("the issuer's keys cannot be had", issuer=self.trust.issuer, reason=str(error)[:200])
                self._check_fresh(str(error)[:200] or type(error).__name__)
            else:
                self._fetched_at = self._clock()

    def _check_fresh(self, reason: str) -> None:
        if self._clock() - self._fetched_at > STALE_SECONDS:
            raise Unavailable(
                f"who signed this token cannot be checked: the issuer {self.trust.issuer} does not answer ({reason})",
                hint="try again in a moment; an operator: is the issuer reachable from here?",
            )

    async def _fetch(self) -> dict[str, PyJWK]:
        verify: Any = ssl.create_default_context(cafile=self.trust.ca_file) if self.trust.ca_file else True
        async with httpx.AsyncClient(transport=self._transport, verify=verify, timeout=5.0) as http:
            document = await _json(http, self.trust.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if document["issuer"] != self.trust.issuer:
                raise ValueError(f"its document is that of another issuer, {str(document['issuer'])[:100]!r}")
            _check_url(str(document["jwks_uri"]), "jwks_uri")
            found = PyJWKSet.from_dict(await _json(http, str(document["jwks_uri"])))
        signing = [key for key in found.keys if key.public_key_use in (None, "sig")]
        return {str(key.key_id or ""): key for key in signing if key.algorithm_name in ALGORITHMS}


async def _json(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    answer = await http.get(url)
    answer.raise_for_status()
    if len(answer.content) > LARGEST_ANSWER:
        raise ValueError(f"{url} answers with more than a mebibyte")
    found = answer.json()
    if not isinstance(found, dict):
        raise TypeError(f"{url} does not answer with a JSON object")
    return found


def _header(token: str) -> Mapping[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise Denied("the token is malformed") from error


def _check_url(url: str, name: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")):
        return
    raise Problem(
        f"{name}={url!r} is no https address", hint="over plain http anybody on the way could hand out his own keys"
    )


def _mapping(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        value, _, role = line.rpartition("=")
        if not value or role not in MAPPED_ROLES:
            raise Problem(
                f"oidc_roles: {line!r} is no mapping", hint=f"value=role with a role of {', '.join(MAPPED_ROLES)}"
            )
        found[value] = role
    return found
