"""Anchors: our search beside alibi 0.9.4 used as its documentation shows, on the same rows with the same seeds.

    python benchmarks/anchors.py [--quick]

For each of three models, on one thread: alibi's AnchorTabular, and our search with alibi's bins, one row after the
other and sixteen side by side. Both are measured in turns on the same rows, in processor time, which a busy machine
distorts least; the figures are medians of a row's time and the median of the rows' ratios. "same" counts the rows for
which anchor, precision and coverage are equal to the last bit. The limit beside it: what onnxruntime alone takes for
the rows that the search asks about. Trees do better, because their clear decisions are taken from the background's
features without onnxruntime.

Then two workers of ours against alibi with everything at its defaults (onnxruntime's own threads, one process).
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import statistics
import sys
import time
import warnings
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from affiant.explainer.methods.anchors import Anchors, Case
from affiant.explainer.methods.grid import Grid, Predicates
from affiant.explainer.methods.mixing import Mixer
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sampling import Draw, Numbers
from affiant.explainer.methods.search import Asking, Choices, Found, Search
from affiant.explainer.methods.table import Matrix, read_table
from benchmarks.explaining.loans import CATEGORIES, KINDS, NAMES, Loans, loans, session

SIDE_BY_SIDE = 16
WORKERS = 2


class Alibi:
    """AnchorTabular as its documentation shows."""

    def __init__(self, made: Loans, threads: int) -> None:
        self._session = session(made.model, threads)
        self._label = made.spec.decision.label_output if made.spec.decision else ""
        self._background = made.background
        self.seconds_in_model = 0.0

    def predict(self, rows: Matrix) -> Any:
        started = time.process_time()
        [labels] = self._session.run([self._label], {"X": rows.astype(np.float32)})
        self.seconds_in_model += time.process_time() - started
        return labels

    def explainer(self, seed: int) -> Any:
        from affiant.explainer.methods.libraries import AnchorTabular

        names = {at: [str(code) for code in range(count)] for at, count in CATEGORIES.items()}
        explainer = AnchorTabular(self.predict, NAMES, categorical_names=names, seed=seed)
        return explainer.fit(self._background)

    def explain(self, row: Matrix, seed: int, explainer: Any) -> tuple[Any, ...]:
        np.random.seed(seed)
        raw = explainer.explain(row, threshold=0.95)
        columns = list(raw.data["raw"]["feature"])
        return columns, float(np.squeeze(raw.precision)), float(raw.coverage), bool(raw.data["raw"]["success"])


class Ours:
    """Our search, with alibi's bins."""

    def __init__(self, made: Loans, edges: dict[int, Matrix]) -> None:
        table = read_table(made.spec.columns, made.background_csv)
        self._predictor = Predictor(made.spec, made.model, table)
        self._mixer = Mixer(self._predictor)
        self._grid = Grid(made.background.astype(np.float64), edges, CATEGORIES)
        self.asked = 0

    def explain(self, rows: Matrix, seeds: list[int]) -> list[tuple[Any, ...]]:
        """Some rows side by side."""
        searches = [self._begin(row, seed) for row, seed in zip(rows, seeds, strict=True)]
        asks: list[list[Draw]] = [next(asking) for _, _, asking in searches]
        denied = 0
        while any(asks):
            draws = [draw for each in asks for draw in each]
            owners = [row for row, each in zip(rows, asks, strict=True) for _ in each]
            self.asked += sum(map(len, draws))
            decided = iter(self._mixer.decisions(draws, owners))
            for at, each in enumerate(asks):
                if not each:
                    continue
                try:
                    asks[at] = searches[at][2].send([next(decided) == denied for _ in each])
                except StopIteration:
                    asks[at] = []
        return [_figures(predicates, search.found) for predicates, search, _ in searches]

    def model_alone(self, rows: int, repeats: int = 5) -> float:
        """Seconds that the model takes for so many rows, in calls of about the size that the search makes."""
        table = self._predictor.table
        feed = table.feed(table.background[:200])
        calls = max(1, rows // 200)
        times = []
        for _ in range(repeats):
            started = time.process_time()
            for _ in range(calls):
                self._predictor.labels_of(feed)
            times.append(time.process_time() - started)
        return min(times) * rows / (200 * calls)

    def _begin(self, row: Matrix, seed: int) -> tuple[Predicates, Search, Asking]:
        predicates = self._grid.predicates(row)
        search = Search(predicates, Numbers(seed), Choices())
        return predicates, search, search.run()


def _figures(predicates: Predicates, found: Found) -> tuple[Any, ...]:
    columns = list(dict.fromkeys(predicates.columns[each] for each in found.order))
    return columns, found.precision, found.coverage, found.success


def one_thread(made: Loans, count: int) -> None:
    """One line of the table."""
    alibi = Alibi(made, threads=1)
    rows = made.rows[made.denied[:count]].astype(np.float64)
    first = alibi.explainer(0)
    edges = {at: first.samplers[0].disc.lambdas[at].keywords["qts"] for at in first.numerical_features}
    ours = Ours(made, edges)
    theirs_ms, ours_ms, same = [], [], 0
    ours.explain(rows[:1], [0])
    alibi.seconds_in_model, ours.asked = 0.0, 0
    for seed, row in enumerate(rows):
        explainer = alibi.explainer(seed)
        started = time.process_time()
        expected = alibi.explain(row, seed, explainer)
        theirs_ms.append((time.process_time() - started) * 1e3)
        started = time.process_time()
        [found] = ours.explain(row.reshape(1, -1), [seed])
        ours_ms.append((time.process_time() - started) * 1e3)
        same += found == expected
    asked = ours.asked
    together = []
    for start in range(0, len(rows), SIDE_BY_SIDE):
        part = rows[start : start + SIDE_BY_SIDE]
        started = time.process_time()
        ours.explain(part, list(range(start, start + len(part))))
        together.append((time.process_time() - started) * 1e3)
    ratio = statistics.median(t / o for t, o in zip(theirs_ms, ours_ms, strict=True))
    alone_ms = ours.model_alone(asked) * 1e3
    limit = sum(theirs_ms) / alone_ms
    print(
        f"{made.kind:9} {statistics.median(theirs_ms):9.1f} {statistics.median(ours_ms):8.1f} {ratio:7.1f}"
        f" {sum(together) / len(rows):12.1f} {sum(theirs_ms) / sum(together):7.1f}"
        f" {alone_ms / len(rows):12.1f} {limit:7.1f} {same:6d} of {len(rows)}",
        flush=True,
    )


def worker(kind: str, positions: list[int], ready: Barrier) -> None:
    """One of two: anchors as the explainer makes them, a batch after the other."""
    made = loans(kind)
    table = read_table(made.spec.columns, made.background_csv)
    anchors = Anchors(Predictor(made.spec, made.model, table))
    cases = [Case(table.encode([float(value) for value in made.rows[at]]), 0, at) for at in positions]
    anchors.find(cases[:2])
    ready.wait()
    for start in range(0, len(cases), SIDE_BY_SIDE):
        assert all(each.anchor for each in anchors.find(cases[start : start + SIDE_BY_SIDE]))
    ready.wait()


def two_workers(made: Loans, count: int, alibis: int) -> None:
    """Two workers of ours against alibi at its defaults."""
    alibi = Alibi(made, threads=0)
    explainer = alibi.explainer(0)
    started = time.perf_counter()
    for at in made.denied[:alibis]:
        alibi.explain(made.rows[at].astype(np.float64), int(at), explainer)
    theirs = alibis / (time.perf_counter() - started)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(WORKERS + 1)
    positions = [int(at) for at in made.denied[:count]]
    processes = [
        context.Process(target=worker, args=(made.kind, positions[number::WORKERS], ready)) for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    ready.wait()
    ours = len(positions) / (time.perf_counter() - started)
    for process in processes:
        process.join()
    print(f"{made.kind:9} {theirs:15.1f} {ours:17.1f} {ours / theirs:7.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows only: is it alive?")
    parser.add_argument("--rows", type=int, default=100, help="for each model")
    options = parser.parse_args()
    quick = options.quick
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    made = [loans(kind) for kind in KINDS]
    print("one thread, milliseconds of processor time for an anchor (medians; side by side: means)")
    print("model         alibi     ours   ratio  side by side   ratio  model alone   limit   same")
    for each in made:
        one_thread(each, 8 if quick else options.rows)
    print("\ntwo workers (our bins, at most 8 conditions) and alibi at its defaults, anchors per second")
    print("model     alibi's defaults   two workers    ratio")
    for each in made:
        two_workers(each, 32 if quick else 400, 4 if quick else 40)


if __name__ == "__main__":
    main()
