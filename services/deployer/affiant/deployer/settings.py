"""Settings of the deployer: `AFFIANT_DEPLOYER_*`."""

from __future__ import annotations

from typing import Literal

from affiant.common.settings import ServiceSettings


class DeployerSettings(ServiceSettings, frozen=True, kw_only=True):
    """Where models come from, how they are served, and how patient the deployer is.

    `modelserver_*` is how the model servers reach the bus: they have a user of their own (no user: like the
    deployer itself, without a password). `models_host` is the address that models answer on; with
    `models_token_file` they answer only who shows one of the tokens in it. A model server
    that is not ready `ready_timeout_seconds` after its start has failed. `drain_seconds` is how long a model
    server may take to finish what is under way. With `stop_models_on_exit` the models end with the deployer;
    without it they go on answering, and the next deployer takes them over.
    """

    http_port: int = 8402
    registry_url: str = "http://127.0.0.1:8401"
    backend: Literal["local"] = "local"
    modelserver_nats_url: str = ""
    modelserver_nats_user: str = ""
    modelserver_nats_password_file: str = ""
    modelserver_nats_nkey_file: str = ""
    models_token_file: str = ""
    models_host: str = "127.0.0.1"
    ready_timeout_seconds: float = 30.0
    reconcile_seconds: float = 5.0
    drain_seconds: float = 10.0
    stop_models_on_exit: bool = False
