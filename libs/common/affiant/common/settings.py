"""Settings: few, typed, read once from the environment.

A field `ack_wait_seconds` of the registry's settings is read from `AFFIANT_REGISTRY_ACK_WAIT_SECONDS`.
Every field has a default that works on a laptop; secrets are named by file, never by value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from affiant.common.errors import Problem

T = TypeVar("T", bound=Struct)


class ServiceSettings(Struct, frozen=True, kw_only=True):
    """What every service needs. A service's own settings are a subclass.

    `nats_nkey_file` holds the seed of the user's NKey; `nats_user` and `nats_password_file` are for a bus that knows
    names and passwords. `nats_api` is what JetStream's API is called in the user's account: `AFFIANT.API` where
    `affiant bootstrap` wrote the configuration of the bus. Without `people_file` nobody is known, and every protected
    route answers 401. `service_token_file` holds the bearer token that this service shows to other services.
    With `oidc_issuer`, tokens of that OpenID Connect issuer count beside those of the people file:
    `affiant.common.oidc.Trust` says what the other `oidc_` settings mean (`oidc_roles`: `their-group=approver,…`).
    """

    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str = ""
    nats_password_file: str = ""
    nats_nkey_file: str = ""
    nats_ca_file: str = ""
    nats_api: str = "$JS.API"
    http_host: str = "127.0.0.1"
    http_port: int = 8400
    data_dir: str = "./affiant-data"
    people_file: str = ""
    service_token_file: str = ""
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_name_claim: str = "sub"
    oidc_roles_claim: str = "roles"
    oidc_roles: list[str] = []
    oidc_ca_file: str = ""
    log_format: Literal["json", "console"] = "json"


def load(cls: type[T], prefix: str, environ: Mapping[str, str] = os.environ) -> T:
    """`cls` from the variables that start with `prefix` and an underscore.

    Raises `Problem` naming the variable whose value does not fit, and any variable with the prefix that no field
    reads: a misspelt setting must not be silently without effect.
    """
    start = f"{prefix}_"
    given = {key[len(start) :].lower(): value for key, value in environ.items() if key.startswith(start)}
    known = {field.name: field for field in msgspec.structs.fields(cls)}
    for name in given:
        if name not in known:
            raise Problem(f"{start}{name.upper()} is not a setting", hint=f"known: {', '.join(sorted(known))}")
    values = {}
    for name, text in given.items():
        try:
            values[name] = msgspec.convert(_shaped(text, known[name].type), known[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(f"{start}{name.upper()}={text!r} does not fit: {error}") from error
    return cls(**values)


def _shaped(text: str, kind: object) -> object:
    """Lists are written with commas; everything else msgspec reads from the text itself."""
    if getattr(kind, "__origin__", None) in (list, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def read_secret(path: str) -> str:
    """The secret in the file at `path`, without the newline at its end; empty where no path is given."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Problem(f"cannot read the secret file {path}: {error.strerror}") from error
