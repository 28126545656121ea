"""What does auditing cost, and how far is the model server from MLServer and from bare `session.run`?

One ONNX model (gradient boosting, 100 trees, behind the usual scaling and one-hot pipeline; 8 numeric and 4
categorical columns, each an input of its own), one row for each request, 1 and 32 clients, several rounds in which
every server is measured once, medians over the rounds. All on one machine: the load generator (`modelserver/load.py`)
and nats-server take their share of the same cores, so the ratios are what counts.

    acked      audit: acked. nats-server with file storage and `sync_interval: always`; no answer before the ack
    acked-ram  the same, but nats-server stores in memory (/dev/shm), where a sync costs nothing: what remains of the
               cost is processor time; the difference to `acked` is the disk's
    buffered   audit: buffered. An answer waits for the server's own write-ahead file; the bus gets it afterwards
    encoded    the same server; records are encoded, and acknowledged at once without being sent anywhere
    unaudited  the same server without any record
    MLServer   1.7, in an environment of its own below .cache/, a small custom runtime, parallel_workers 0
    bare       `session.run` in a loop, arrays ready made, no server: what the model itself costs
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import numpy as np
import onnxruntime
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from affiant.common import bus
from affiant.common.events import Column, Decision, ModelSpec, Policy, TensorSpec
from affiant.common.serving import BusAccess, ServerConfig

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.nats_server import NatsServer, free_port  # noqa: E402 # found only with the line above

HERE = Path(__file__).parent / "modelserver"
MLSERVER = ROOT / ".cache" / "mlserver"
NUMERIC = [f"amount_{i}" for i in range(8)]
CATEGORICAL = [f"kind_{i}" for i in range(4)]
CLIENTS = (1, 32)
OURS = ("acked", "buffered", "encoded", "unaudited")
MEMORY = Path("/dev/shm")  # noqa: S108 # a benchmark's own subfolder, removed at its end


# --- the model ------------------------------------------------------------------------------------------------


def table(rows: int) -> pd.DataFrame:
    """A seeded table whose target depends on some of the columns."""
    random_ = np.random.default_rng(7)
    columns: dict[str, Any] = {name: random_.normal(50, 20, rows).astype(np.float32) for name in NUMERIC}
    columns |= {name: random_.choice(["red", "green", "blue", "other"], rows) for name in CATEGORICAL}
    return pd.DataFrame(columns)


def train() -> bytes:
    frame = table(2_000)
    target = (frame["amount_0"] - frame["amount_1"] + 20 * (frame["kind_0"] == "red") > 0).astype(int)
    columns = ColumnTransformer([("n", StandardScaler(), NUMERIC), ("c", OneHotEncoder(), CATEGORICAL)])
    pipeline = make_pipeline(columns, GradientBoostingClassifier(random_state=7)).fit(frame, target)
    types = [(name, FloatTensorType([None, 1])) for name in NUMERIC]
    types += [(name, StringTensorType([None, 1])) for name in CATEGORICAL]
    data: bytes = to_onnx(pipeline, initial_types=types, options={"zipmap": False}).SerializeToString()
    return data


def spec_of(data: bytes, policy: Policy | None = None) -> ModelSpec:
    kinds = dict.fromkeys(NUMERIC, "FP32") | dict.fromkeys(CATEGORICAL, "BYTES")
    return ModelSpec(
        model="loan",
        version=1,
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        size_bytes=len(data),
        author="ana",
        inputs=[TensorSpec(name=name, datatype=kind, shape=[-1, 1]) for name, kind in kinds.items()],
        outputs=[
            TensorSpec(name="label", datatype="INT64", shape=[-1]),
            TensorSpec(name="probabilities", datatype="FP32", shape=[-1, 2]),
        ],
        columns=[
            Column(name=name, kind="numeric" if kind == "FP32" else "categorical", datatype=kind, input=name)
            for name, kind in kinds.items()
        ],
        decision=Decision(label_output="label", probability_output="probabilities", classes=[0, 1], favourable=1),
        policy=policy or Policy(),
    )


def bodies(spec: ModelSpec) -> list[str]:
    frame = table(200)
    return [
        json.dumps(
            {
                "inputs": [
                    {"name": one.name, "shape": [1, 1], "datatype": one.datatype, "data": [_plain(row[one.name])]}
                    for one in spec.inputs
                ]
            }
        )
        for _, row in frame.iterrows()
    ]


def _plain(value: object) -> object:
    return value if isinstance(value, str) else round(float(value), 2)  # type: ignore[arg-type]


def bare(data: bytes, seconds: float) -> float:
    """Runs for each second, in this process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options)
    frame = table(200)
    feeds = [
        {name: np.array([[row[name]]], dtype=np.float32 if name in NUMERIC else object) for name in frame}
        for _, row in frame.iterrows()
    ]
    runs, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for feed in feeds:
            session.run(["label", "probabilities"], feed)
        runs += len(feeds)
    return runs / (time.perf_counter() - started)


def syncs(folder: Path, rounds: int = 100) -> float:
    """How many milliseconds it takes this disk to make 1.7 kB durable at the end of a file (median)."""
    times = []
    with (folder / "syncs").open("wb", buffering=0) as file:
        for _ in range(rounds):
            started = time.perf_counter()
            file.write(b"x" * 1_700)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


# --- the servers ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(command: list[str], log: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, **more)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    server = NatsServer(folder, sync="always")
    server.start()
    asyncio.run(declare(server.url))
    yield server.url
    server.stop()


def until_ready(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/loan/ready", timeout=2)
            return
        time.sleep(0.05)
    raise RuntimeError(f"a server did not become ready:\n{log.read_text()[-2000:]}")


@contextlib.contextmanager
def ours(name: str, folder: Path, model: Path, url: str) -> Iterator[int]:
    port = free_port()
    spec = spec_of(model.read_bytes(), Policy(audit="buffered") if name == "buffered" else None)
    config = ServerConfig(
        spec=spec,
        alias="champion",
        model_path=str(model),
        replica=name,
        bus=BusAccess(url=url),
        data_dir=str(folder / name),
        port=port,
        drain_seconds=0.5,
    )
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    file.write_bytes(msgspec.json.encode(config))
    command = {
        "encoded": [str(HERE / "unaudited.py"), str(file), "encoded"],
        "unaudited": [str(HERE / "unaudited.py"), str(file), "nothing"],
    }.get(name, ["-m", "affiant.modelserver", str(file)])
    with process([sys.executable, *command], log) as child:
        until_ready(port, child, log)
        yield port


def install_mlserver() -> str:
    """Why MLServer cannot be measured; empty when it can."""
    if (MLSERVER / "bin" / "mlserver").exists():
        return ""
    print("installing MLServer 1.7.1 into .cache/mlserver …", flush=True)
    wanted = ["mlserver==1.7.1", f"onnxruntime=={onnxruntime.__version__}"]
    for command in (
        [sys.executable, "-m", "venv", str(MLSERVER)],
        [str(MLSERVER / "bin" / "pip"), "install", "-q", *wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"MLServer cannot be installed: {done.stderr.strip().splitlines()[-1:]}"
    return ""


@contextlib.contextmanager
def mlserver(folder: Path, model: Path) -> Iterator[int]:
    port = free_port()
    home = folder / "mlserver"
    home.mkdir()
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    quiet = {"parallel_workers": 0, "debug": False, "access_logger": None}
    (home / "settings.json").write_text(json.dumps(settings | quiet))
    (home / "model-settings.json").write_text(
        json.dumps({"name": "loan", "implementation": "runtime.OnnxModel", "parameters": {"uri": str(model)}})
    )
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    log = folder / "mlserver.log"
    command = [str(MLSERVER / "bin" / "mlserver"), "start", str(home)]
    with process(command, log, env=environment) as child:
        until_ready(port, child, log)
        yield port


# --- the runs -------------------------------------------------------------------------------------------------


def load(port: int, requests: Path, clients: int, seconds: float) -> dict[str, float]:
    command = [str(HERE / "load.py"), str(port), "/v2/models/loan/infer", str(requests), str(clients), str(seconds)]
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["failures"]:
        raise RuntimeError(f"{figures['failures']} requests failed")
    return figures | {"rate": figures["requests"] / figures["seconds"]}


def until_published(port: int) -> None:
    """Else the next server would share its stream with what the buffered one still publishes."""
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
            if b"affiant_modelserver_unpublished 0.0" in page.read():
                return
        time.sleep(0.1)


async def declare(url: str) -> None:
    client = await nats.connect(url)
    await bus.declare(client.jetstream())
    await client.close()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[tuple[str, int], list[dict[str, float]]]:
    data = train()
    model, requests = folder / "model.onnx", folder / "requests.json"
    model.write_bytes(data)
    requests.write_text(json.dumps(bodies(spec_of(data))))
    results: dict[tuple[str, int], list[dict[str, float]]] = {}
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(nats_server(folder / "nats"))
        ports = {name: stack.enter_context(ours(name, folder, model, url)) for name in OURS}
        if MEMORY.is_dir():
            memory = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))
            url = stack.enter_context(nats_server(Path(memory)))
            ports["acked-ram"] = stack.enter_context(ours("acked-ram", folder, model, url))
        reason = "not asked for" if arguments.without_mlserver else install_mlserver()
        if reason:
            print(f"MLServer is left out: {reason}")
        else:
            ports["MLServer"] = stack.enter_context(mlserver(folder, model))
        for number in range(arguments.rounds):
            results.setdefault(("bare", 1), []).append({"rate": bare(data, arguments.seconds / 2)})
            results.setdefault(("sync", 1), []).append({"ms": syncs(folder), "load": os.getloadavg()[0]})
            for clients in CLIENTS:
                # Another order in each round: whoever comes first would always find the quieter machine.
                for name in random.Random(number).sample(sorted(ports), len(ports)):
                    figures = load(ports[name], requests, clients, arguments.seconds)
                    if name == "buffered":
                        until_published(ports[name])
                    results.setdefault((name, clients), []).append(figures)
            print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
    return results


# --- the words ------------------------------------------------------------------------------------------------


def median(results: dict[tuple[str, int], list[dict[str, float]]], name: str, clients: int, figure: str) -> float:
    return statistics.median(one[figure] for one in results[name, clients])


def report(results: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    disk = results.pop(("sync", 1))
    print(f"\n{'server':<12}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}   rounds")
    for (name, clients), rounds in sorted(results.items(), key=lambda item: (item[0][1], -item[1][0]["rate"])):
        each = " ".join(f"{one['rate']:.0f}" for one in rounds)
        times = "        -        -"
        if name != "bare":
            p50, p99 = (median(results, name, clients, figure) / 1000 for figure in ("p50_us", "p99_us"))
            times = f"{p50:>9.2f}{p99:>9.2f}"
        print(f"{name:<12}{clients:>8}{median(results, name, clients, 'rate'):>12.0f}{times}   {each}")
    print()
    for clients in CLIENTS:
        cost(results, clients)
    if ("MLServer", 32) in results:
        times_faster(results)
    each = ", ".join(f"{one['ms']:.2f} ms at load {one['load']:.1f}" for one in disk)
    print(f"one sync of this disk, in each round: {each}")
    print("(`acked` takes one for each message, which holds all records that came while the last one was on its way)")
    print(f"bare session.run / acked at 32 clients: {_ratio(results, 'bare', 1, 'acked', 32):.1f} times")


def cost(results: dict[tuple[str, int], list[dict[str, float]]], clients: int) -> None:
    """What share of the unaudited server's throughput each way of auditing takes."""
    names = [name for name in ("acked", "acked-ram", "buffered", "encoded") if (name, clients) in results]
    shares = {name: 1 - _ratio(results, name, clients, "unaudited", clients) for name in names}
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    aim = "" if clients != 32 else f"; aim for acked at most 15 %: {_met(shares['acked'] <= 0.15)}"
    print(f"auditing costs, of the unaudited throughput at {clients} clients: {told}{aim}")


def times_faster(results: dict[tuple[str, int], list[dict[str, float]]]) -> None:
    for clients in CLIENTS:
        ratio = _ratio(results, "acked", clients, "MLServer", clients)
        print(f"acked / MLServer at {clients} clients: {ratio:.1f} times; aim at least 3: {_met(ratio >= 3)}")


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


def _ratio(
    results: dict[tuple[str, int], list[dict[str, float]]], name: str, clients: int, other: str, others: int
) -> float:
    return median(results, name, clients, "rate") / median(results, other, others, "rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--without-mlserver", action="store_true")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, {platform.machine()}, onnxruntime {onnxruntime.__version__}; own load generator")
    with tempfile.TemporaryDirectory() as folder:
        report(measure(arguments, Path(folder)))


if __name__ == "__main__":
    main()
