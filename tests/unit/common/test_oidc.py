"""Tokens of an OpenID Connect issuer: which count, and for whom."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from affiant.common import oidc
from affiant.common.auth import Denied, Person
from affiant.common.errors import Problem, Unavailable
from affiant.common.oidc import Issuer, Trust
from affiant.common.settings import ServiceSettings
from tests.support.issuer import AUDIENCE, ISSUER, FakeIssuer

TRUST = Trust(ISSUER, AUDIENCE)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def there() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(there: FakeIssuer, clock: Clock) -> Issuer:
    return Issuer(TRUST, there, clock)


async def test_a_token_of_the_issuer_is_its_person(issuer: Issuer, there: FakeIssuer) -> None:
    assert await issuer.person(there.token()) == Person("ben", frozenset({"approver"}))


async def test_nothing_is_fetched_before_the_first_token_and_the_keys_only_once(
    issuer: Issuer, there: FakeIssuer
) -> None:
    assert there.requests == []
    await asyncio.gather(*(issuer.person(there.token()) for _ in range(20)))
    assert there.requests == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": int(time.time()) - 3600}, "expired"),
        ({"exp": None}, "exp"),
        ({"aud": "another-program"}, "Audience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil.example.com"}, "issuer"),
        ({"iss": None}, "iss"),
        ({"nbf": int(time.time()) + 3600}, "not yet valid"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "names nobody"),
        ({"sub": 7}, "."),
    ],
)
async def test_a_token_that_is_not_for_us_does_not_count(
    issuer: Issuer, there: FakeIssuer, claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Denied, match=reason):
        await issuer.person(there.token(**claims))


async def test_a_token_signed_by_somebody_else_does_not_count(issuer: Issuer, there: FakeIssuer) -> None:
    forger = FakeIssuer()
    with pytest.raises(Denied):
        await issuer.person(forger.token())
    body, _, _ = there.token().rpartition(".")
    with pytest.raises(Denied):
        await issuer.person(f"{body}.{base64.urlsafe_b64encode(b'x' * 64).decode().rstrip('=')}")


async def test_a_token_cannot_choose_how_it_is_checked(issuer: Issuer, there: FakeIssuer) -> None:
    claims = jwt.decode(there.token(), options={"verify_signature": False})
    none = jwt.encode(claims, None, algorithm="none", headers={"kid": "one"})
    public = there.keys["one"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shared = signed_with_secret(claims, public)
    other = jwt.encode(claims, ec.generate_private_key(ec.SECP384R1()), algorithm="ES384", headers={"kid": "one"})
    for forged in (none, shared, other):
        with pytest.raises(Denied, match="algorithm"):
            await issuer.person(forged)


def signed_with_secret(claims: dict[str, Any], secret: bytes) -> str:
    """By hand: the library refuses to take a public key for a shared secret."""
    said = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "one"}, claims)
    )
    signature = hmac.digest(secret, said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def test_a_shared_secret_among_the_issuers_keys_is_no_key(issuer: Issuer, there: FakeIssuer) -> None:
    secret = b"s" * 32
    there.extra_keys.append({"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(secret).decode()})
    claims = jwt.decode(there.token(), options={"verify_signature": False})
    with pytest.raises(Denied):
        await issuer.person(jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "secret"}))


@pytest.mark.parametrize("token", ["", "a.b.c", "..", "x" * 5000, "é.é.é"])
async def test_what_is_no_token_is_refused_in_words(issuer: Issuer, there: FakeIssuer, token: str) -> None:
    with pytest.raises(Denied):
        await issuer.person(token)
    assert there.requests == []


async def test_a_new_key_is_found_when_its_first_token_comes(issuer: Issuer, there: FakeIssuer, clock: Clock) -> None:
    await issuer.person(there.token())
    there.new_key("two")
    clock.now += oidc.AGAIN_SECONDS + 1
    assert (await issuer.person(there.token("two"))).name == "ben"


async def test_unknown_keys_make_nobody_ask_the_issuer_all_the_time(
    issuer: Issuer, there: FakeIssuer, clock: Clock
) -> None:
    await issuer.person(there.token())
    asked = len(there.requests)
    for _ in range(50):
        with pytest.raises(Denied, match="a key that its issuer does not have"):
            await issuer.person(there.token(headers={"kid": "guessed"}))
    assert len(there.requests) == asked
    clock.now += oidc.AGAIN_SECONDS + 1
    with pytest.raises(Denied):
        await issuer.person(there.token(headers={"kid": "guessed"}))
    assert len(there.requests) == asked + 2


async def test_a_key_that_the_issuer_withdrew_stops_counting(issuer: Issuer, there: FakeIssuer, clock: Clock) -> None:
    old = there.token()
    await issuer.person(old)
    del there.keys["one"]
    there.new_key("two")
    clock.now += oidc.KEYS_SECONDS + 1
    with pytest.raises(Denied, match="a key that its issuer does not have"):
        await issuer.person(old)


async def test_known_keys_go_on_counting_for_a_day_while_the_issuer_is_away(
    issuer: Issuer, there: FakeIssuer, clock: Clock
) -> None:
    await issuer.person(there.token())
    there.away = True
    clock.now += oidc.KEYS_SECONDS + 1
    assert (await issuer.person(there.token())).name == "ben"
    clock.now += oidc.STALE_SECONDS
    with pytest.raises(Unavailable, match=r"login\.example\.com does not answer"):
        await issuer.person(there.token())


async def test_before_its_keys_were_ever_had_nobody_is_let_in_and_the_reason_is_said(
    issuer: Issuer, there: FakeIssuer
) -> None:
    there.away = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="cannot be checked"):
            await issuer.person(there.token())
    assert len(there.requests) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example.com", "jwks_uri": f"{ISSUER}/keys"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
    ],
)
async def test_a_document_that_cannot_be_the_issuers_is_not_believed(
    issuer: Issuer, there: FakeIssuer, document: dict[str, str]
) -> None:
    there.document = document
    with pytest.raises((Unavailable, Problem)):
        await issuer.person(there.token())


def person(claims: dict[str, Any], **trust: Any) -> Person:
    return replace(TRUST, **trust).person({"sub": "ben", **claims})


def test_roles_are_found_where_the_setting_says() -> None:
    keycloak = {"realm_access": {"roles": ["approver", "offline_access"]}}
    assert person(keycloak, roles_claim="realm_access.roles").roles == {"approver"}
    assert person({"https://example.com/roles": ["auditor"]}, roles_claim="https://example.com/roles").roles == {
        "auditor"
    }
    assert person({"scope": "openid author"}, roles_claim="scope").roles == {"author"}
    assert person({"groups": ["risk"]}, roles_claim="groups", roles={"risk": "approver"}).roles == {"approver"}


@pytest.mark.parametrize("found", [None, 5, {"approver": True}, [1, None], ["service"], ["root"], "service"])
def test_nobody_gets_a_role_by_accident(found: Any) -> None:
    assert person({"roles": found}).roles == frozenset()


def test_with_a_mapping_only_what_is_mapped_counts() -> None:
    assert person({"roles": ["approver"]}, roles={"risk": "approver"}).roles == frozenset()


def test_a_person_is_named_by_the_claim_of_the_setting() -> None:
    assert person({"employee": "e-17"}, name_claim="employee").name == "e-17"
    with pytest.raises(Denied, match="employee"):
        person({}, name_claim="employee")


def settings(**given: Any) -> ServiceSettings:
    return ServiceSettings(**{"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, **given})


def test_without_an_issuer_there_is_no_trust() -> None:
    assert Trust.read(ServiceSettings()) is None


def test_settings_are_read_as_they_are_meant() -> None:
    trust = Trust.read(settings(oidc_roles=["CN=Risk,OU=x=approver".replace(",", ";"), "team=author"]))
    assert trust is not None
    assert trust.roles == {"CN=Risk;OU=x": "approver", "team": "author"}
    assert Trust.read(settings(oidc_issuer="http://127.0.0.1:5556/dex")) is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"oidc_audience": ""}, "oidc_audience is not"),
        ({"oidc_issuer": "http://login.example.com"}, "no https address"),
        ({"oidc_issuer": "login.example.com"}, "no https address"),
        ({"oidc_roles": ["risk=service"]}, "no mapping"),
        ({"oidc_roles": ["risk"]}, "no mapping"),
        ({"oidc_roles": ["risk=king"]}, "no mapping"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Problem, match=words):
        Trust.read(settings(**given))


def test_the_tokens_of_this_test_are_as_json_says() -> None:
    claims = FakeIssuer().token().split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"] == ISSUER
