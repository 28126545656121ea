"""Tensors between JSON and numpy: what a client may send, what a model gets, what goes out. Pure.

JSON has no NaN: in floating-point data `null` is a missing value, NaN inside; NaN and infinities go out as null.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from affiant.common.errors import Problem
from affiant.common.events import Scalar, TensorSpec
from affiant.modelserver.protocol import RequestTensor

Array = npt.NDArray[Any]

_NUMBERS = frozenset({int, float})
_MISSING = type(None)


@dataclass(frozen=True)
class Datatype:
    """A datatype of the protocol: its numpy type, the JSON types that fit, and the bounds of integers."""

    name: str
    dtype: np.dtype[Any]
    fits: frozenset[type]
    low: int = 0
    high: int = 0


def _integer(name: str, dtype: type[np.integer[Any]]) -> Datatype:
    bounds = np.iinfo(dtype)
    return Datatype(name, np.dtype(dtype), frozenset({int}), int(bounds.min), int(bounds.max))


def _float(name: str, dtype: type[np.floating[Any]]) -> Datatype:
    return Datatype(name, np.dtype(dtype), _NUMBERS | {_MISSING})


DATATYPES: dict[str, Datatype] = {
    kind.name: kind
    for kind in (
        Datatype("BOOL", np.dtype(np.bool_), frozenset({bool})),
        Datatype("BYTES", np.dtype(object), frozenset({str})),
        _integer("INT8", np.int8),
        _integer("INT16", np.int16),
        _integer("INT32", np.int32),
        _integer("INT64", np.int64),
        _integer("UINT8", np.uint8),
        _integer("UINT16", np.uint16),
        _integer("UINT32", np.uint32),
        _integer("UINT64", np.uint64),
        _float("FP16", np.float16),
        _float("FP32", np.float32),
        _float("FP64", np.float64),
    )
}


@dataclass(frozen=True)
class Slot:
    """A place that a request's tensor goes into. `shape` as declared; -1 takes any size from 1."""

    name: str
    kind: Datatype
    shape: tuple[int, ...]

    def read(self, tensor: RequestTensor) -> list[Scalar]:
        """The values, flat and checked; raises `Problem` naming the tensor."""
        if tensor.datatype != self.kind.name:
            self._check_datatype(tensor.datatype)
        if not self.fits(tensor.shape):
            raise Problem(f"input {self.name!r} has shape {tensor.shape}; {self._wanted(tensor.shape)}")
        return values(tensor, self.kind)

    def fits(self, shape: list[int]) -> bool:
        """Whether a tensor of this shape may go in."""
        if len(shape) == 2 and self.shape == (-1, shape[1]) and shape[0] > 0:
            return True  # the usual case of a table, quickly
        return len(shape) == len(self.shape) and all(
            size >= 1 and want in (-1, size) for size, want in zip(shape, self.shape, strict=True)
        )

    def array(self, flat: list[Scalar], shape: list[int]) -> Array:
        """`flat`, as `read` gave it, for the model."""
        array = np.array(flat, dtype=self.kind.dtype)
        array.shape = tuple(shape)  # as `reshape`, at a third of its cost
        return array

    def _wanted(self, shape: list[int]) -> str:
        if any(size < 0 for size in shape):
            return "a shape holds no negative number"
        if len(shape) == len(self.shape) and shape[:1] == [0] and self.shape[0] == -1:
            return "rows must be 1 or more"
        return f"the model takes {list(self.shape)}"

    def _check_datatype(self, given: str) -> None:
        """JSON numbers have no width: any numeric tensor may go into a floating-point input, nothing else may."""
        if not (given in DATATYPES and given not in ("BYTES", "BOOL") and self.kind.name.startswith("FP")):
            raise Problem(f"input {self.name!r} has datatype {given}; the model takes {self.kind.name}")


def slot(spec: TensorSpec) -> Slot:
    """The slot for a declared input; raises `Problem` for a datatype that the protocol does not have."""
    if spec.datatype not in DATATYPES:
        raise Problem(f"input {spec.name!r} is declared as {spec.datatype}, which is no datatype of the protocol")
    return Slot(spec.name, DATATYPES[spec.datatype], tuple(spec.shape))


def values(tensor: RequestTensor, kind: Datatype) -> list[Scalar]:
    """The flat, row-major values of `tensor`, each of which fits `kind`; raises `Problem` naming the tensor."""
    data = tensor.data
    if data is None:
        raise Problem(_no_data(tensor))
    if data and type(data[0]) is list:
        data = _flatten(tensor.name, data, tensor.shape)
    elif len(data) != math.prod(tensor.shape):
        raise Problem(f"input {tensor.name!r} has {len(data)} values; shape {tensor.shape} needs another number")
    found = set(map(type, data))
    if not found <= kind.fits:
        raise Problem(_misfit(tensor.name, kind, found - kind.fits))
    if kind.high and (min(data) < kind.low or max(data) > kind.high):
        raise Problem(f"input {tensor.name!r} has a value outside of {kind.name}")
    return data


def _no_data(tensor: RequestTensor) -> str:
    if tensor.parameters and "binary_data_size" in tensor.parameters:
        return f"input {tensor.name!r} is a binary tensor; this server takes JSON tensors: send `data`"
    return f"input {tensor.name!r} has no data"


def _misfit(name: str, kind: Datatype, found: set[type]) -> str:
    if _MISSING in found:
        missing = 'the empty string "" stands for a missing text' if kind.name == "BYTES" else "null is no value of it"
        return f"input {name!r} holds null; in {kind.name} {missing}"
    names = {bool: "booleans", int: "integers", float: "fractions", str: "texts", list: "lists", dict: "objects"}
    told = ", ".join(sorted(names.get(one, one.__name__) for one in found))
    return f"input {name!r} holds {told}, which do not fit {kind.name}"


def _flatten(name: str, data: list[Any], shape: list[int]) -> list[Any]:
    """Nested lists must have exactly the shape that is claimed: a ragged row would shift all that follow."""
    level = data
    for axis, size in enumerate(shape):
        if axis:
            if not all(type(part) is list for part in level):
                raise Problem(f"input {name!r}: its data is not nested as shape {shape} says")
            if any(len(part) != size for part in level):
                raise Problem(f"input {name!r}: its data does not have shape {shape}")
            level = [value for part in level for value in part]
        elif len(level) != size:
            raise Problem(f"input {name!r}: its data does not have shape {shape}")
    return level


def flat(array: Array) -> list[Scalar]:
    """The values of an output, flat and row-major."""
    listed: list[Scalar] = array.reshape(-1).tolist()
    return listed
