"""A real control plane for tests: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes.

The programs come from `KUBEBUILDER_ASSETS`, as controller-runtime's envtest uses it, or from what
`tests/kubernetes/build.sh` built. Everything listens on 127.0.0.1 and lives in one folder.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.support.nats_server import free_port

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
READY_SECONDS = 120.0
DEPLOYER = "affiant-deployer"
"""The user of the kubeconfig: it may do nothing but what a namespace's Role allows."""


class ControlPlane:
    """Started when made; `close` ends it. The API server alone can be stopped and started in between."""

    def __init__(self, assets: Path, folder: Path) -> None:
        self.assets = assets
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._administrators = folder / "administrators-kubeconfig"
        self.certificate = folder / "kubelet.pem"
        self._token, self._deployers_token = secrets.token_hex(16), secrets.token_hex(16)
        self._etcd_port, self._etcd_peer_port, self.port = free_port(), free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._write_files()
        self._start("etcd", *self._etcd())
        self.start()
        common = (f"--kubeconfig={self._administrators}", "--leader-elect=false")
        self._start(
            "kube-controller-manager",
            *common,
            f"--secure-port={free_port()}",
            f"--service-account-private-key-file={folder / 'service-accounts.key'}",
            # The autoscaler's loop, so that its minimum does not take a quarter of a minute.
            "--horizontal-pod-autoscaler-sync-period=1s",
        )
        self._start("kube-scheduler", *common, f"--secure-port={free_port()}")

    def client(self) -> httpx.Client:
        """HTTP as the administrator."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self._token}"},
            verify=False,  # noqa: S501 # the server has just made its certificate itself
            timeout=30,
            trust_env=False,
        )

    def start(self) -> None:
        """Start the API server and wait until it answers."""
        self._start("kube-apiserver", *self._apiserver())
        deadline = time.monotonic() + READY_SECONDS
        with self.client() as http:
            while time.monotonic() < deadline:
                if self._processes["kube-apiserver"].poll() is not None:
                    break
                try:
                    if http.get("/readyz").status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
        raise AssertionError(f"kube-apiserver is not ready\n{self.log('kube-apiserver')[-4000:]}")

    def stop(self) -> None:
        """Kill the API server; the others go on and wait for it."""
        self._end("kube-apiserver", signal.SIGKILL)

    def close(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name, signal.SIGKILL)

    def log(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text(errors="replace")

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            command = [str(self.assets / program), *arguments]
            self._processes[program] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def _end(self, program: str, how: signal.Signals) -> None:
        process = self._processes[program]
        if process.poll() is None:
            process.send_signal(how)
        process.wait(30)

    def _etcd(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer_port}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def _apiserver(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'service-accounts.key'}",
            "--allow-privileged=false",
        ]

    def _config(self, user: str, token: str) -> str:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True},
                }
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        return yaml.safe_dump(config)

    def _write_files(self) -> None:
        (self.folder / "tokens.csv").write_text(
            f"{self._token},admin,admin,system:masters\n{self._deployers_token},{DEPLOYER},{DEPLOYER}\n"
        )
        self.kubeconfig.write_text(self._config(DEPLOYER, self._deployers_token))
        self._administrators.write_text(self._config("admin", self._token))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.folder / "service-accounts.key").write_bytes(pem)
        (self.folder / "service-accounts.pub").write_bytes(public)
        self.certificate.write_bytes(pem + _certificate(key))


def assets() -> Path | None:
    """Where the programs are; none where they were neither given nor built."""
    here = Path(__file__).parent
    given = os.environ.get("KUBEBUILDER_ASSETS", "")
    folders = [Path(given)] if given else _built(here)
    return next((folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)), None)


def _built(here: Path) -> list[Path]:
    # Only asks: without a build the script would begin one, which is the business of whoever runs the tests.
    where = subprocess.run([here / "build.sh", "--where"], capture_output=True, text=True, check=True)
    folder = Path(where.stdout.strip())
    return [folder] if (folder / ".complete").exists() else []


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
