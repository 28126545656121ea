"""Reads the tensors of a request against what the model takes. Pure."""

from __future__ import annotations

from typing import Any

from affiant.common.errors import Problem
from affiant.common.events import ModelSpec, TensorData
from affiant.modelserver.protocol import InferRequest, RequestTensor
from affiant.modelserver.record import Asked
from affiant.modelserver.tensors import DATATYPES, Array, Slot, values

DEEPEST = 16
"""Levels of lists and objects in a request's parameters. The record nests them deeper, and whoever reads it has less
room on its stack than this process may have: what is answered must be readable there."""


class Reader:
    """Knows the inputs of one model, and the protected columns that travel beside them."""

    def __init__(self, spec: ModelSpec, slots: dict[str, Slot]) -> None:
        columns = {column.name for column in spec.columns}
        self._slots = slots
        self._outputs = frozenset(tensor.name for tensor in spec.outputs)
        self._context = frozenset(name for name in spec.protected if name not in columns and name not in slots)
        self._batched = frozenset(name for name, slot in slots.items() if slot.shape[:1] == (-1,))

    def read(self, request: InferRequest, asked: Asked) -> tuple[dict[str, Array], int]:
        """The feed for the model and its number of rows (1 for a model without a first axis of variable size).

        Fills `asked` as far as it gets, so that the record of a malformed request holds what was understood.
        Raises `Problem` naming the tensor.
        """
        asked.request_id = request.id
        if request.parameters and not _is_flat_enough(request.parameters):
            raise Problem(f"the request's parameters are nested deeper than {DEEPEST} levels")
        asked.parameters = request.parameters or {}
        feed: dict[str, Array] = {}
        beside: list[RequestTensor] = []
        for tensor in request.inputs:
            slot = self._slots.get(tensor.name)
            if slot is None:
                beside.append(tensor)
                continue
            if tensor.name in feed:
                raise Problem(f"input {tensor.name!r} was sent twice")
            flat = slot.read(tensor)
            feed[tensor.name] = slot.array(flat, tensor.shape)
            asked.inputs.append(TensorData(name=tensor.name, datatype=slot.kind.name, shape=tensor.shape, data=flat))
        if len(feed) != len(self._slots):
            missing = ", ".join(name for name in self._slots if name not in feed)
            raise Problem(f"the request lacks the model's input {missing}")
        rows = self._rows(feed)
        for tensor in beside:
            asked.context.append(self._beside(tensor, rows, asked))
        if request.outputs:
            self._check_outputs(request)
        return feed, rows

    def _rows(self, feed: dict[str, Array]) -> int:
        found = {feed[name].shape[0] for name in self._batched}
        if len(found) > 1:
            raise Problem(f"the inputs do not have the same number of rows: {sorted(found)}")
        return found.pop() if found else 1

    def _beside(self, tensor: RequestTensor, rows: int, asked: Asked) -> TensorData:
        """A protected column that the model does not see: logged with the prediction, shape (N, 1) or (N)."""
        name = tensor.name
        if name not in self._context:
            known = ", ".join([*self._slots, *sorted(self._context)])
            raise Problem(f"the model has no input {name!r}; it takes {known}")
        if any(one.name == name for one in asked.context):
            raise Problem(f"input {name!r} was sent twice")
        if tensor.datatype not in DATATYPES:
            raise Problem(f"input {name!r} has datatype {tensor.datatype!r}, which the protocol does not have")
        if tensor.shape not in ([rows], [rows, 1]):
            raise Problem(f"input {name!r} has shape {tensor.shape}; {[rows, 1]} fits the other inputs")
        flat = values(tensor, DATATYPES[tensor.datatype])
        return TensorData(name=name, datatype=tensor.datatype, shape=[rows, 1], data=flat)

    def _check_outputs(self, request: InferRequest) -> None:
        for wanted in request.outputs or ():
            if wanted.name not in self._outputs:
                raise Problem(f"the model has no output {wanted.name!r}; it gives {', '.join(sorted(self._outputs))}")


def _is_flat_enough(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST + 1):
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [each for one in inner for each in one]
        if not level:
            return True
    return False
