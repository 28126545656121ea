"""What a model server is told when it is started, and what it answers when it is asked how it is.

The deployer writes a `ServerConfig` as JSON and starts `python -m affiant.modelserver <file>`; neither knows the
other's code.

**Control socket.** Each local model server listens on the Unix socket `control_socket`. A request is one word and
a newline; the answer is one line of JSON (`ServerStatus`) and the server closes the connection:
`status` asks; `drain` stops accepting, finishes what is under way, answers, and exits (as SIGTERM does);
`listener` answers and passes the listening socket's descriptor along (SCM_RIGHTS), so that a restarted deployer
can go on handing the same address to the next version.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from affiant.common.events import ModelSpec


class BusAccess(Struct, frozen=True, kw_only=True):
    """How to reach the bus: by an NKey, whose seed is in `nkey_file`, or by a name and the password in `password_file`
    (secrets are named by file, so that no config or process list shows one). `ca_file` holds the certificates that the
    server's is held against; without it those of the system count, and TLS is used where the URL says `tls://`."""

    url: str
    user: str = ""
    password_file: str = ""
    nkey_file: str = ""
    ca_file: str = ""


class ServerConfig(Struct, frozen=True, kw_only=True):
    """Everything a model server needs. `replica` is unique per process for all time (the deployer makes it).
    Where one configuration serves several pods it is empty, and the pod's name in `AFFIANT_REPLICA` takes its place
    (which only a process of a later epoch may have, too).

    `listen_fd` is an inherited listening socket (shared by the old and the new version of one model);
    without it the server binds `host`:`port` itself. `data_dir` may be shared by servers of one model: what a dead
    one left unpublished there, another publishes. Of records that are not on the bus yet at most
    `unpublished_max_bytes` are held; then requests are refused with 503. With `token_file`, requests must show one of
    the bearer tokens in it (one a line); without it, whoever reaches the port may ask.
    """

    spec: ModelSpec
    alias: str
    model_path: str
    replica: str
    bus: BusAccess
    data_dir: str
    control_socket: str = ""
    listen_fd: int | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    drain_seconds: float = 20.0
    audit_timeout_seconds: float = 5.0
    unpublished_max_bytes: int = 268_435_456
    token_file: str = ""


class ServerStatus(Struct, frozen=True, kw_only=True):
    """How a model server is. `detail` says why it is not ready or why it failed."""

    state: Literal["starting", "ready", "draining", "failed"]
    replica: str
    epoch: int
    pid: int
    model: str
    version: int
    digest: str
    alias: str
    requests: int = 0
    unpublished: int = 0
    detail: str = ""


def read_config(data: bytes) -> ServerConfig:
    """The configuration in `data`; raises `msgspec.ValidationError` naming the field that is wrong."""
    return msgspec.json.decode(data, type=ServerConfig)
