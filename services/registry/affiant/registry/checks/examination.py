"""The order in which a model is examined: nothing is expanded before it is counted, nothing run before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import onnx

from affiant.common.events import Column, Decision, ReasonTable, TensorSpec
from affiant.registry.checks import graph, smoke, table
from affiant.registry.checks.findings import Finding, Task
from affiant.registry.domain import decision as decisions
from affiant.registry.domain.columns import columns_of
from affiant.registry.domain.manifest import Manifest, Unfit
from affiant.registry.domain.reasons import read_reasons

T = TypeVar("T")


class Checker(Protocol):
    """Runs one named check and reports it; does not return when it fails."""

    def __call__(self, name: str, step: Callable[[], tuple[T, str]]) -> T: ...


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out, as the file declares it."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


@dataclass(frozen=True)
class Run:
    """The outputs of the smoke run; `real` when its rows came from the background data."""

    feeds: dict[str, table.Array]
    outputs: smoke.Outputs
    rows: int
    real: bool


def examine(data: bytes, background: bytes | None, task: Task, check: Checker) -> Finding:
    """Every check in turn; `check` ends the examination at the first that fails."""
    manifest, limits = task.manifest, task.limits
    model = check("format", lambda: _format(data))
    check("node budget", lambda: _budget(model, limits.max_nodes))
    check("external data", lambda: (None, graph.refuse_external_data(model)))
    check("operators", lambda: (None, graph.refuse_foreign_operators(model)))
    signature = check("signature", lambda: _signature(model))
    rows = check("background", lambda: _background(background, manifest))
    columns = check("columns", lambda: _columns(signature, manifest, rows))
    feeds = check("values", lambda: _feeds(rows, signature, columns, limits.smoke_rows))
    runner = check("load", lambda: _load(data, limits.run_seconds))
    run = check("smoke run", lambda: _run(runner, signature, feeds, rows is not None))
    check("repeatability", lambda: (None, smoke.check_repeatable(run.outputs, runner.run(run.feeds))))
    labels = graph.class_labels(model)
    decision = check("decision", lambda: _decision(manifest, signature, labels, run))
    reasons = check("reasons", lambda: _reasons(manifest, columns)) if manifest.reasons else None
    return Finding(
        inputs=signature.inputs, outputs=signature.outputs, columns=columns, decision=decision, reasons=reasons
    )


def _reasons(manifest: Manifest, columns: list[Column]) -> tuple[ReasonTable, str]:
    found = read_reasons(manifest.reasons, columns, manifest.protected)
    without = [column.name for column in columns if column.name not in {each.column for each in found.texts}]
    lacking = f"; no words for {', '.join(without)}" if without else ""
    return found, f"words for {len(found.texts)} of {len(columns)} columns{lacking}"


def _format(data: bytes) -> tuple[onnx.ModelProto, str]:
    model = graph.parse(data)
    versions = {imported.domain or "ai.onnx": imported.version for imported in model.opset_import}
    opsets = ", ".join(f"{domain} {version}" for domain, version in versions.items())
    return model, f"ONNX, IR version {model.ir_version}, operator sets {opsets or 'none'}"


def _budget(model: onnx.ModelProto, limit: int) -> tuple[int, str]:
    count = graph.count_nodes(model, limit)
    return count, f"{count} operators after expansion, at most {limit}"


def _signature(model: onnx.ModelProto) -> tuple[Signature, str]:
    found = Signature(graph.inputs(model), graph.outputs(model))
    return found, f"{len(found.inputs)} inputs, {len(found.outputs)} outputs"


def _background(data: bytes | None, manifest: Manifest) -> tuple[table.Table | None, str]:
    if data is not None:
        rows = table.read(data)
        return rows, f"{rows.rows} rows, {len(rows.cells)} columns"
    if manifest.favourable is not None:
        raise Unfit(
            "a model with a decision needs background data: it is what decisions are explained against; "
            "send a CSV file of some hundred rows of training data as `background`"
        )
    return None, "none sent; the model has no decision and will not be explained"


def _columns(signature: Signature, manifest: Manifest, rows: table.Table | None) -> tuple[list[Column], str]:
    columns = columns_of(signature.inputs, manifest, rows.background() if rows else None)
    if not columns:
        if manifest.favourable is not None or rows is not None:
            shapes = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in signature.inputs[:5])
            raise Unfit(
                f"the inputs are no table ({shapes}): each column needs an input of shape [-1, 1], "
                "or all of them one matrix [-1, C]. Models of texts and images can be registered and audited without "
                "`favourable` and background data; they are not explained"
            )
        return [], "the inputs are no table with known columns; requests are logged as they are"
    categorical = sum(column.kind == "categorical" for column in columns)
    more = _seen(columns, manifest) + _ignored(columns, manifest, rows)
    return columns, f"{len(columns)} columns, {categorical} of them categorical{more}"


def _seen(columns: list[Column], manifest: Manifest) -> str:
    # Allowed, because some must be (age, in a tariff); never without a word, because most must not.
    seen = [column.name for column in columns if column.name in manifest.protected]
    return f"; the model SEES the protected column{'s' * (len(seen) > 1)} {', '.join(seen)}" if seen else ""


def _ignored(columns: list[Column], manifest: Manifest, rows: table.Table | None) -> str:
    used = {column.name for column in columns} | set(manifest.protected)
    unused = [name for name in (rows.cells if rows else {}) if name not in used]
    return f"; the background data also has {', '.join(unused[:8])}, which is not used" if unused else ""


def _feeds(
    rows: table.Table | None, signature: Signature, columns: list[Column], most: int
) -> tuple[dict[str, table.Array], str]:
    if rows is None:
        return table.blank_feeds(signature.inputs, 2), "no background data: zeros and empty strings"
    feeds = table.feeds(rows, signature.inputs, columns)
    # Spread over the table, so that one that is sorted by outcome shows every label.
    chosen = np.linspace(0, rows.rows - 1, min(rows.rows, most)).astype(int)
    return {name: values[chosen] for name, values in feeds.items()}, f"every cell of {rows.rows} rows can be sent"


def _load(data: bytes, run_seconds: float) -> tuple[smoke.Runner, str]:
    runner = smoke.Runner(data, run_seconds)
    return runner, f"loaded from {len(data)} bytes"


def _run(runner: smoke.Runner, signature: Signature, feeds: dict[str, table.Array], real: bool) -> tuple[Run, str]:
    single = runner.run({name: values[:1] for name, values in feeds.items()})
    smoke.check_outputs(signature.outputs, single, 1)
    rows = len(next(iter(feeds.values())))
    outputs = runner.run(feeds)
    shapes = smoke.check_outputs(signature.outputs, outputs, rows)
    if real:
        smoke.check_finite(outputs, feeds)
    return Run(feeds, outputs, rows, real), f"{rows} rows gave {shapes}"


def _decision(
    manifest: Manifest, signature: Signature, in_graph: list[list[str | int]], run: Run
) -> tuple[Decision | None, str]:
    if manifest.favourable is None:
        return None, "none: the manifest names no favourable label, so predictions are logged without a decision"
    if manifest.threshold is not None:
        output = decisions.choose_value_output(signature.outputs, manifest)
        return _regression(output, manifest.threshold, manifest.favourable, run)
    label, probability = decisions.choose_outputs(signature.outputs, manifest)
    labels = smoke.labels_of(run.outputs[label])
    chances = run.outputs[probability]
    sums = smoke.check_probabilities(probability, chances)
    classes = decisions.choose_classes(manifest.classes, in_graph, set(labels), chances.shape[1])
    order = smoke.check_order(classes, labels, chances)
    decision = decisions.decide(label, probability, classes, manifest.favourable)
    share = sum(each == decision.favourable for each in labels) / run.rows
    return decision, f"{order}; {sums}; {share:.0%} of the background rows get {decision.favourable!r}"


def _regression(output: str, threshold: float, favourable: str | int, run: Run) -> tuple[Decision, str]:
    values = run.outputs[output].astype(np.float64)
    decision = decisions.decide_by_threshold(output, threshold, favourable)
    share = sum(decision.side(value) == decision.favourable for value in values.reshape(-1)) / run.rows
    span = f"values from {values.min():.6g} to {values.max():.6g}"
    return decision, f"{span}; {share:.0%} of the background rows lie {decision.favourable} {decision.threshold:g}"
