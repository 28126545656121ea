"""From `register` to the first answered prediction, with the whole system running.

Beside it, in the same run: the least that any model server needs, a process that imports onnxruntime, loads the same
model from memory and answers once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from affiant.cli.system import System

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.e2e.people import People, application
from tests.support.model import loan_model

BARE = """
import sys
import numpy as np
import onnxruntime as ort
session = ort.InferenceSession(open(sys.argv[1], "rb").read(), providers=["CPUExecutionProvider"])
one = np.ones((1, 1), np.float32)
session.run(None, {"income": one, "debt": one})
"""

STEPS = ("register", "promote", "first answer", "whole")


async def one_run(people: People, number: int) -> dict[str, float]:
    model = f"loan-{number}"
    begun = time.perf_counter()
    version = await people.register(1.0 + number / 10, model=model)
    registered = time.perf_counter()
    answer = await people.promote(version, model=model)
    assert answer.status_code == 200, answer.text
    promoted = time.perf_counter()
    await first_answer(people, model, version)
    ended = time.perf_counter()
    spans = (registered - begun, promoted - registered, ended - promoted, ended - begun)
    return dict(zip(STEPS, spans, strict=True))


async def first_answer(people: People, model: str, version: int) -> None:
    url = await people.until_served(version, model=model)
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{url}/v2/models/{model}/infer", json=application(random.Random(1)))
    assert answer.status_code == 200, answer.text


def bare() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(loan_model())
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", BARE, str(path)], check=True)
        return time.perf_counter() - begun


async def measure(home: Path, runs: int) -> tuple[list[dict[str, float]], list[float]]:
    system = System(home)
    await asyncio.to_thread(system.start)
    try:
        people = People(system)
        await one_run(people, 99)  # the first one warms the file cache for both sides
        ours, limit = [], []
        for number in range(runs):
            limit.append(await asyncio.to_thread(bare))
            ours.append(await one_run(people, number))
        await people.http.aclose()
        return ours, limit
    finally:
        await asyncio.to_thread(system.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, limit = asyncio.run(measure(Path(folder) / "home", options.runs))
    medians = {step: statistics.median(run[step] for run in ours) for step in STEPS}
    floor = statistics.median(limit)
    if options.json:
        print(json.dumps({"seconds": medians, "bare_process": floor, "runs": options.runs}))
        return
    print(f"from register to the first answered prediction, median of {options.runs} runs")
    for step in STEPS:
        print(f"  {step:<14}{medians[step]:7.3f} s   (worst {max(run[step] for run in ours):.3f})")
    print(f"  limit: a bare process that imports onnxruntime, loads and answers   {floor:.3f} s")
    print(f"  ratio to the limit: {medians['whole'] / floor:.2f}; the aim is under 3 s: ", end="")
    print("met" if medians["whole"] < 3 else "MISSED")


if __name__ == "__main__":
    main()
