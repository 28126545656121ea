"""From a model's inputs to the columns of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from affiant.common.events import Column, TensorSpec
from affiant.registry.domain.manifest import Manifest, Unfit

Kind = Literal["numeric", "categorical"]

FEW_DISTINCT = 12
"""An integer column with at most this many distinct values in the background counts as categorical."""


@dataclass(frozen=True)
class Background:
    """What the guesses need of the background data: its header, its length, how varied each column is."""

    header: Sequence[str]
    rows: int
    distinct: Mapping[str, int]


def columns_of(inputs: Sequence[TensorSpec], manifest: Manifest, background: Background | None) -> list[Column]:
    """The columns of the table that `inputs` take, in order; empty for a model that takes no table.

    A table is either one tensor of shape (N, 1) for each column or one matrix (N, C). Raises `Unfit` when the
    names do not fit the inputs, or a kind, a protected column or the background's header names none of them.
    """
    named = _named(inputs, manifest, background)
    header = list(background.header) if background else []
    for column in named:
        if background and column.name not in header:
            raise Unfit(
                f"the background data has no column {column.name!r} (it has {_list(header)}); "
                "its header must hold every column of the model"
            )
    _check_names(manifest, [column.name for column in named], header, background is not None)
    return [_with_kind(column, manifest, background) for column in named]


def _named(inputs: Sequence[TensorSpec], manifest: Manifest, background: Background | None) -> list[Column]:
    if len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].shape[1] != 1:
        return _matrix(inputs[0], manifest, background)
    if manifest.columns and len(inputs) != 1 and sorted(manifest.columns) != sorted(i.name for i in inputs):
        raise Unfit(
            f"columns names {_list(manifest.columns)}, but the model takes {_list([i.name for i in inputs])}; "
            "leave columns out when each column has an input of its own"
        )
    if any(len(tensor.shape) != 2 or tensor.shape[1] != 1 for tensor in inputs):
        return []
    if len(inputs) == 1 and manifest.columns:
        return _matrix(inputs[0], manifest, background)
    return [Column(name=t.name, kind="numeric", datatype=t.datatype, input=t.name) for t in inputs]


def _matrix(tensor: TensorSpec, manifest: Manifest, background: Background | None) -> list[Column]:
    names = manifest.columns
    if names is None:
        if background is None:
            return []
        names = _names_from_header(tensor, manifest, background)
    if tensor.shape[1] not in (-1, len(names)):
        raise Unfit(
            f"columns names {len(names)} positions, but the input {tensor.name!r} has {tensor.shape[1]}; "
            "name each position once, in the order in which the model was trained"
        )
    return [
        Column(name=name, kind="numeric", datatype=tensor.datatype, input=tensor.name, index=index)
        for index, name in enumerate(names)
    ]


def _names_from_header(tensor: TensorSpec, manifest: Manifest, background: Background) -> list[str]:
    """The header, without the protected columns that the model does not see; `columns` decides where unclear."""
    width = tensor.shape[1]
    header = list(background.header)
    seen_by_model = [name for name in header if name not in manifest.protected]
    for names in (seen_by_model, header):
        if width == len(names):
            return names
    if width == -1:
        return seen_by_model
    raise Unfit(
        f"the input {tensor.name!r} has {width} positions, but the background data has {len(header)} columns "
        f"({_list(header)}); state `columns` in the manifest: their names in the order of the matrix"
    )


def _check_names(manifest: Manifest, columns: list[str], header: list[str], has_background: bool) -> None:
    known = [*columns, *(name for name in header if name not in columns)]
    for name in manifest.kinds:
        if name not in columns:
            raise Unfit(f"kinds names {name!r}, which is no column of the model; it has {_list(columns)}")
    explain = manifest.policy.explain
    for role, stated in (("immutable", explain.immutable), ("one_way", explain.one_way)):
        for name in stated:
            if name not in columns:
                raise Unfit(f"policy.explain.{role} names {name!r}, no column of the model; it has {_list(columns)}")
    for name in manifest.protected:
        if name not in known:
            extra = "" if has_background else " (there is no background data to hold it)"
            raise Unfit(
                f"the protected column {name!r} is neither an input of the model nor a column of the background "
                f"data{extra}; correct its name or add it to the background data as an extra column"
            )


def _with_kind(column: Column, manifest: Manifest, background: Background | None) -> Column:
    kind = manifest.kinds.get(column.name) or _guess(column, background)
    if kind == "numeric" and column.datatype == "BYTES":
        raise Unfit(f"kinds says that {column.name!r} is numeric, but the model takes strings there")
    return Column(name=column.name, kind=kind, datatype=column.datatype, input=column.input, index=column.index)


def _guess(column: Column, background: Background | None) -> Kind:
    if column.datatype in ("BYTES", "BOOL"):
        return "categorical"
    if column.datatype.startswith("FP") or background is None:
        return "numeric"
    distinct = background.distinct.get(column.name, 0)
    # In a handful of rows every column has few distinct values; that says nothing about its kind.
    few = distinct <= FEW_DISTINCT and (distinct <= 2 or distinct * 4 <= background.rows)
    return "categorical" if few else "numeric"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "none"
