"""Which raw column each feature of a graph's tensor comes from.

Exact SHAP values need features that each depend on one raw column alone: then a feature of a mixed row is either that
of the one row or that of the other. Followed are the operators that exporters write in front of a model; anything else
is refused. What is found here is held against the model itself before it is used (`additive`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from affiant.explainer.methods.errors import NotAdditive

Columns = npt.NDArray[np.int64]
"""The raw column of each feature, in the tensor's shape without its first axis; `CONSTANT` where there is none."""

CONSTANT = -1

ELEMENTWISE = {
    *(
        "Identity",
        "Cast",
        "Scaler",
        "Imputer",
        "LabelEncoder",
        "Binarizer",
        "CategoryMapper",
        "Abs",
        "Neg",
        "Exp",
        "Log",
    ),
    *(
        "Sqrt",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Not",
        "IsNaN",
        "IsInf",
        "Clip",
        "Relu",
        "Sigmoid",
        "Tanh",
    ),
    *("Erf", "Sin", "Cos", "Tan", "Atan", "Softplus", "Add", "Sub", "Mul", "Div", "Mod", "Pow", "Max", "Min", "Sum"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Where", "StringConcat"),
}


class Provenance:
    """Follows the columns through a graph, from its inputs on."""

    def __init__(self, graph: onnx.GraphProto, columns: Mapping[str, Columns]) -> None:
        """`columns`: for each input tensor the raw columns along its second axis."""
        self._known: dict[str, Columns] = dict(columns)
        self._constants = constants(graph)
        self._makers = {output: node for node in graph.node for output in node.output}

    def of(self, tensor: str) -> Columns:
        """The raw columns of a tensor (N, F…). Raises `NotAdditive` where a feature mixes columns or nobody knows."""
        pending = [tensor]
        while pending:
            name = pending[-1]
            missing = [] if name in self._known or name in self._constants else self._unknown_inputs(name)
            pending.extend(missing)
            if len(pending) > 10_000:
                raise NotAdditive("what precedes the model is too deep")
            if not missing:
                self._learn(pending.pop())
        return self._known[tensor]

    def _unknown_inputs(self, tensor: str) -> list[str]:
        node = self._makers.get(tensor)
        if node is None:
            raise NotAdditive(f"nothing makes the tensor {tensor!r}")
        return [name for name in node.input if name and name not in self._known and name not in self._constants]

    def _learn(self, tensor: str) -> None:
        if tensor in self._known or tensor in self._constants:
            return
        node = self._makers[tensor]
        rule = RULES.get(node.op_type) or (_elementwise if node.op_type in ELEMENTWISE else None)
        if rule is None:
            raise NotAdditive(f"the operator {node.op_type} precedes the model")
        given = [self._known.get(name) for name in node.input]
        fixed = [self._constants.get(name) for name in node.input]
        for name, columns in zip(node.output, rule(Step(node, given, fixed)), strict=False):
            self._known[name] = columns


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; tensors as arrays."""
    found = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    tensors = {name: value for name, value in found.items() if isinstance(value, onnx.TensorProto)}
    return found | {name: numpy_helper.to_array(value) for name, value in tensors.items()}


def constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a graph that are the same for every row."""
    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = next(iter(attributes(node).values()), None)
            if value is not None:
                found[node.output[0]] = np.asarray(value)
    return found


@dataclass(frozen=True)
class Step:
    """One node, and for each of its inputs the columns, or the value where it is a constant."""

    node: onnx.NodeProto
    given: Sequence[Columns | None]
    fixed: Sequence[npt.NDArray[Any] | None]


Rule = Callable[[Step], list[Columns]]


def _elementwise(step: Step) -> list[Columns]:
    """Each feature from the features at its own place; all of those must come from one column."""
    shapes = [columns for columns in step.given if columns is not None]
    if not shapes:
        raise NotAdditive(f"the operator {step.node.op_type} works on constants alone")
    # A constant's first axis is that of the rows; one with fewer axes is stretched over them.
    fills = [
        np.full(np.shape(each)[1:] if np.ndim(each) > max(c.ndim for c in shapes) else np.shape(each), CONSTANT)
        for each in step.fixed
        if each is not None and np.size(each) > 1
    ]
    try:
        stacked = np.broadcast_arrays(*shapes, *fills)
    except ValueError as error:
        raise NotAdditive(f"the operator {step.node.op_type} gets shapes that are not understood") from error
    joined = stacked[0].copy()
    for columns in stacked[1:]:
        free = joined == CONSTANT
        joined[free] = columns[free]
        if np.any((columns != joined) & (columns != CONSTANT)):
            raise NotAdditive(f"the operator {step.node.op_type} mixes columns")
    return [joined]


def _concat(step: Step) -> list[Columns]:
    axis = int(attributes(step.node).get("axis", 1))
    if any(columns is None for columns in step.given):
        raise NotAdditive("a constant is joined to the columns")
    parts = [columns for columns in step.given if columns is not None]
    if axis < 0:
        axis += parts[0].ndim + 1
    if axis == 0:
        raise NotAdditive("rows are joined to rows")
    return [np.concatenate(parts, axis=axis - 1)]


def _vectorize(step: Step) -> list[Columns]:
    return [np.concatenate([columns.reshape(-1) for columns in step.given if columns is not None])]


def _one_hot(step: Step) -> list[Columns]:
    found = attributes(step.node)
    count = len(found.get("cats_int64s") or found.get("cats_strings") or ())
    return [np.repeat(_only(step)[..., None], count, axis=-1)]


def _extract(step: Step) -> list[Columns]:
    chosen = _constant(step, 1).reshape(-1).astype(np.int64)
    return [_only(step)[..., chosen]]


def _gather(step: Step) -> list[Columns]:
    axis = int(attributes(step.node).get("axis", 0))
    columns = _only(step)
    if axis in (0, -columns.ndim - 1):
        raise NotAdditive("rows are chosen by their number")
    return [np.take(columns, _constant(step, 1).astype(np.int64), axis=axis - 1 if axis > 0 else axis)]


def _reshape(step: Step) -> list[Columns]:
    wanted = [int(size) for size in _constant(step, 1).reshape(-1)]
    columns = _only(step)
    if wanted and wanted[0] in (0, -1):
        sizes = [columns.shape[at - 1] if size == 0 and at > 0 else size for at, size in enumerate(wanted)][1:]
        try:
            return [columns.reshape(sizes)]
        except ValueError:
            pass
    raise NotAdditive("the columns are reshaped together with the rows")


def _flatten(step: Step) -> list[Columns]:
    if attributes(step.node).get("axis", 1) != 1:
        raise NotAdditive("the columns are reshaped together with the rows")
    return [_only(step).reshape(-1)]


def _slice(step: Step) -> list[Columns]:
    starts, ends = (_constant(step, at).reshape(-1) for at in (1, 2))
    axes = _constant(step, 3).reshape(-1) if len(step.node.input) > 3 else np.arange(len(starts))
    steps = _constant(step, 4).reshape(-1) if len(step.node.input) > 4 else np.ones(len(starts), dtype=np.int64)
    columns = _only(step)
    cut = [slice(None)] * columns.ndim
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        if axis in (0, -columns.ndim - 1):
            raise NotAdditive("rows are chosen by their number")
        cut[int(axis) - 1 if axis > 0 else int(axis)] = slice(int(start), int(end), int(stride))
    return [columns[tuple(cut)]]


def _split(step: Step) -> list[Columns]:
    found = attributes(step.node)
    columns = _only(step)
    axis = int(found.get("axis", 0))
    if axis in (0, -columns.ndim - 1):
        raise NotAdditive("rows are chosen by their number")
    axis = axis - 1 if axis > 0 else axis
    sizes = found.get("split") or (_constant(step, 1).tolist() if len(step.node.input) > 1 else None)
    if sizes is None:
        return list(np.array_split(columns, len(step.node.output), axis=axis))
    return list(np.split(columns, np.cumsum(sizes)[:-1].astype(int), axis=axis))


def _squeeze(step: Step) -> list[Columns]:
    return [np.squeeze(_only(step), axis=_axes(step))]


def _unsqueeze(step: Step) -> list[Columns]:
    return [np.expand_dims(_only(step), axis=_axes(step))]


def _axes(step: Step) -> tuple[int, ...]:
    axes = attributes(step.node).get("axes") or _constant(step, 1).reshape(-1).tolist()
    if 0 in axes:
        raise NotAdditive("the axis of the rows is moved")
    return tuple(int(axis) - 1 if axis > 0 else int(axis) for axis in axes)


def _only(step: Step) -> Columns:
    if not step.given or step.given[0] is None:
        raise NotAdditive(f"the operator {step.node.op_type} works on a constant")
    return step.given[0]


def _constant(step: Step, at: int) -> npt.NDArray[Any]:
    value = step.fixed[at] if at < len(step.fixed) else None
    if value is None:
        raise NotAdditive(f"the operator {step.node.op_type} is told by the data what to do")
    return value


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "FeatureVectorizer": _vectorize,
    "OneHotEncoder": _one_hot,
    "ArrayFeatureExtractor": _extract,
    "Gather": _gather,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
