"""How fast are logged requests replayed, and do they all come out the same to the last bit?

`python benchmarks/replay.py` logs 10,000 requests (5,000 to a linear model, 5,000 to a tree ensemble; one in five holds
2 to 32 rows) through the model server's own inference, then replays them: through the replay program, a process of its
own as `affiant replay` starts it, beside bare `session.run` over arrays that are ready. Verification of the records'
proofs and the way over HTTP are not in it. `--quick` takes 500.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from affiant.common import wire
from affiant.common.events import ModelSpec, PredictionLogged
from affiant.common.replaying import Replayed, ReplayTask
from affiant.modelserver.inference import Call, Inference
from affiant.modelserver.model import RUNTIME, Model, load
from affiant.modelserver.record import Identity

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.model import loan_model, loan_spec
from tests.support.trees import tree_model
from tests.unit.modelserver.fakes import FakeAudit

RUNS = 3


def models(folder: Path) -> list[tuple[str, Path, Model]]:
    """A linear model and 300 trees of depth 6."""
    trees, fields = tree_model(trees=300, depth=6)
    found = []
    for name, data, changes in (("linear", loan_model(), {}), ("trees", trees, fields)):
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        spec = replace(loan_spec(data), digest=f"sha256:{hashlib.sha256(data).hexdigest()}", protected=[], **changes)
        found.append((name, path, load(spec, path)))
    return found


async def logged(model: Model, many: int) -> list[bytes]:
    """The records of `many` requests, as they lie in the log: JSON, once over the wire."""
    audit, random = FakeAudit(), np.random.default_rng(5)
    inference = Inference(model, Identity(model.spec, "champion", "bench", 1, RUNTIME), audit)
    for number in range(many):
        rows = int(random.integers(2, 33)) if number % 5 == 0 else 1
        inputs = [
            {"name": name, "datatype": "FP32", "shape": [rows, 1], "data": random.normal(0, 3, rows).tolist()}
            for name in model.slots
        ]
        answer = await inference.answer(Call(json.dumps({"inputs": inputs}).encode()))
        assert answer.status == 200, answer.body
    envelopes = [wire.decode(one.subject, one.body, one.headers) for one in audit.kept]
    return [msgspec.json.encode(one.event) for one in envelopes]


def replayed(spec: ModelSpec, path: Path, records: Sequence[bytes]) -> tuple[Counter[str], float]:
    """What the replay program says of them, and the seconds that it took, its start and the model's load included."""
    task = ReplayTask(spec=spec, model_path=str(path))
    given = b"\n".join([msgspec.json.encode(task), *records]) + b"\n"
    begun = time.perf_counter()
    command = [sys.executable, "-I", "-m", "affiant.modelserver.replay"]
    done = subprocess.run(command, input=given, capture_output=True, check=True)
    seconds = time.perf_counter() - begun
    answers = [msgspec.json.decode(line, type=Replayed) for line in done.stdout.splitlines()]
    assert len(answers) == len(records)
    return Counter(one.state for one in answers), seconds


def bare(model: Model, records: Sequence[bytes]) -> float:
    """Seconds of `session.run` alone over the same requests."""
    feeds = []
    for record in records:
        inputs = msgspec.json.decode(record, type=PredictionLogged).inputs
        feeds.append({one.name: model.slots[one.name].array(one.data, one.shape) for one in inputs})
    begun = time.perf_counter()
    for feed in feeds:
        model.run(feed)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 requests, one run")
    quick = parser.parse_args().quick
    many, runs = (250, 1) if quick else (5_000, RUNS)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, path, model in models(Path(folder)):
            records = asyncio.run(logged(model, many))
            rows = sum(len(msgspec.json.decode(one, type=PredictionLogged).labels) for one in records)
            results = [(replayed(model.spec, path, records), bare(model, records)) for _ in range(runs)]
            ours = statistics.median(seconds for (_, seconds), _ in results)
            limit = statistics.median(seconds for _, seconds in results)
            total += results[0][0][0]
            said = ", ".join(f"{count:,} {state}" for state, count in results[0][0][0].items())
            print(f"{name:<7} {len(records):,} requests, {rows:,} rows: {said}")
            print(
                f"        replayed {len(records) / ours:,.0f}/s · bare session.run {len(records) / limit:,.0f}/s · "
                f"ratio {limit / ours:.2f} (medians of {runs})"
            )
    print(f"all     {sum(total.values()):,} requests: {total['bit_exact']:,} bit-exact, {RUNTIME}")
    if total["bit_exact"] != sum(total.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
