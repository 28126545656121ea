"""The connection to the bus that every part of Affiant uses: nats-py's client, with two things more.

Users prove who they are by an NKey (nats-py would need a package for it that has no wheel). And where a user has an
account of its own, as in every configuration that `affiant bootstrap` writes, JetStream's API has another name.
"""

from __future__ import annotations

import base64
import ssl
from typing import Any

from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext

from affiant.common import bus, nkeys
from affiant.common.errors import Problem
from affiant.common.serving import BusAccess
from affiant.common.settings import read_secret


class Client(NatsClient):
    """`api` is the name of JetStream's API in the account of the user that connects."""

    def __init__(self, api: str = bus.API) -> None:
        super().__init__()
        self.api = api

    def jetstream(self, **options: Any) -> JetStreamContext:
        """As nats-py's, with the right prefix."""
        return super().jetstream(**{"prefix": self.api} | options)

    def _setup_nkeys_seed_connect(self) -> None:
        """What nats-py does with the package `nkeys`; called by `connect(nkeys_seed=<path>)`."""
        path = str(self._nkeys_seed)

        def sign(nonce: str) -> bytes:
            # Read for each connection: a key that was replaced counts from the next one on. nats-py asks for the
            # public key after the signature.
            key = nkeys.read(path)
            self._public_nkey = key.public
            return base64.b64encode(key.sign(nonce.encode()))

        self._public_nkey = nkeys.read(path).public  # a bad file is named here, before anything is tried again
        self._signature_cb = sign


def servers(url: str) -> list[str]:
    """The servers of a bus: one address, or several with commas between them."""
    return [part.strip() for part in url.split(",") if part.strip()]


def credentials(access: BusAccess) -> dict[str, Any]:
    """What `connect` takes of nats-py to prove who one is, and to hold the server to its certificate."""
    found: dict[str, Any] = {}
    if access.nkey_file:
        found["nkeys_seed"] = access.nkey_file
    elif access.user:
        found |= {"user": access.user, "password": read_secret(access.password_file)}
    if "tls://" in access.url or access.ca_file:
        found["tls"] = _tls(access.ca_file)
    return found


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise Problem(f"cannot read the certificates in {ca_file}: {error}") from error
