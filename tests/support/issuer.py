"""An OpenID Connect issuer for tests: its document and keys over HTTP's own words, without a socket."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER = "https://login.example.com"
AUDIENCE = "affiant"


class FakeIssuer(httpx.AsyncBaseTransport):
    """Answers as an issuer does; `away` makes it fail, `requests` counts what it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.document: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}
        self.extra_keys: list[dict[str, Any]] = []
        self.away = False
        self.requests: list[str] = []
        self.new_key("one")

    def new_key(self, kid: str) -> None:
        self.keys[kid] = ec.generate_private_key(ec.SECP256R1())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path)
        if self.away:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/.well-known/openid-configuration":
            return httpx.Response(200, json=self.document)
        return httpx.Response(200, json={"keys": [*map(self._public, self.keys), *self.extra_keys]})

    def _public(self, kid: str) -> dict[str, Any]:
        public = json.loads(ECAlgorithm.to_jwk(self.keys[kid].public_key()))
        return {**public, "kid": kid, "use": "sig", "alg": "ES256"}

    def token(self, kid: str = "one", *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that counts, but for what `claims` change; a claim that is None is left out."""
        now = int(time.time())
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ben", "iat": now, "exp": now + 600, "roles": ["approver"]}
        given = {name: value for name, value in {**given, **claims}.items() if value is not None}
        return jwt.encode(given, self.keys[kid], algorithm="ES256", headers={"kid": kid, **(headers or {})})
