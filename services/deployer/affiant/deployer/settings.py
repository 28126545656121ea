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
    without it they go on answering, and the next deployer takes them over (in a cluster they always do).

    `database_url` (SQLAlchemy's words, PostgreSQL) keeps what the deployer knows where several deployers can read it;
    without it a SQLite file in `data_dir` does, which one deployer has for itself.

    In a cluster (`backend` is `kubernetes`): `kubeconfig` for a deployer outside of it; `namespace` for the models
    (empty: the deployer's own); `installation` tells one Affiant's objects from another's. `modelserver_image` is named
    by its digest. A model with an image gets into its pods by `model_delivery` (auto: an image volume where Kubernetes
    is 1.36 or later, else a copy by an init container); one without is downloaded from the registry, with
    `registry_secret` (key `token`). `modelserver_secret` is mounted at /etc/affiant/bus: `modelserver_nats_*_file`,
    `nats_ca_file` and `models_token_file` have to lie there. With `gateway` ("namespace/name") and `gateway_domain`
    each address is a host name with an HTTPRoute, which can give a challenger its share by weight. `runtime: kserve`
    makes InferenceServices, whose payload logger reports to `audit_sink_url`. A challenger that has had no share for
    `idle_challenger_seconds` is scaled to zero
    (0: never). Of several deployers the one that holds a Lease of `lease_seconds` acts.
    """

    http_port: int = 8402
    registry_url: str = "http://127.0.0.1:8401"
    backend: Literal["local", "kubernetes"] = "local"
    database_url: str = ""
    modelserver_nats_url: str = ""
    modelserver_nats_user: str = ""
    modelserver_nats_password_file: str = ""
    modelserver_nats_nkey_file: str = ""
    models_token_file: str = ""
    models_host: str = "127.0.0.1"
    ready_timeout_seconds: float = 30.0
    kubeconfig: str = ""
    namespace: str = ""
    installation: str = "affiant"
    runtime: Literal["modelserver", "kserve"] = "modelserver"
    modelserver_image: str = ""
    modelserver_secret: str = ""
    registry_secret: str = ""
    pull_secret: str = ""
    model_delivery: Literal["auto", "image-volume", "image-copy", "download"] = "auto"
    min_replicas: int = 2
    max_replicas: int = 10
    cpu_percent: int = 70
    cpu_request: str = "250m"
    memory_request: str = "256Mi"
    memory_limit: str = "1Gi"
    gateway: str = ""
    gateway_domain: str = ""
    gateway_scheme: Literal["http", "https"] = "https"
    audit_sink_url: str = ""
    rollout_timeout_seconds: float = 300.0
    idle_challenger_seconds: float = 0.0
    lease_seconds: float = 15.0
    reconcile_seconds: float = 5.0
    drain_seconds: float = 10.0
    stop_models_on_exit: bool = False
