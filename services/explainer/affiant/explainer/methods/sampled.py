"""KernelSHAP on the model as a black box, many rows at once, with shap's own coalitions.

What is saved against one row after the other is what repeats: coalitions and their regression are shared between rows;
a mixture of a row and a background row is computed once, however many coalitions make it (where the two agree in a
column, or where background rows agree in what is left of them); and the model is asked in few large calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from affiant.explainer.methods.coalitions import Coalitions, draw
from affiant.explainer.methods.compiled import compiled
from affiant.explainer.methods.errors import Unexplainable
from affiant.explainer.methods.table import Matrix
from affiant.explainer.methods.trees import Flags, Ints

ROWS_AT_ONCE = 20_000
"""Rows collected before the model is asked: those of several explanations where the tables are small."""

Model = Callable[[Matrix], Matrix]
"""All outputs (N, C) for coded rows (N, columns)."""


@dataclass(frozen=True)
class Question:
    """The mixtures of one row with the background: coalition c with background row b is `rows[places[c, b]]`."""

    varying: Ints
    coalitions: Coalitions
    rows: Matrix
    places: Ints


def kernel_shap(
    model: Model,
    background: Matrix,
    rows: Matrix,
    explained: Ints,
    seeds: Sequence[int],
    budget: int,
) -> list[tuple[float, float, Matrix] | Unexplainable]:
    """Baseline, output and values (columns,) of output `explained[n]` for each of the coded rows (N, columns).

    A row on which the model fails gets the `Unexplainable` that it raised, alone.
    """
    baselines = model(background).mean(axis=0)
    answers: list[tuple[float, float, Matrix] | Unexplainable] = []
    for group in _groups(background, rows, seeds, budget):
        start = len(answers)
        chosen = explained[start : start + len(group)]
        try:
            answers.extend(_answer(model, baselines, rows[start : start + len(group)], chosen, group))
        except Unexplainable as error:
            if len(group) == 1:
                answers.append(error)
                continue
            for at, question in enumerate(group):
                row = rows[start + at : start + at + 1]
                try:
                    answers.extend(_answer(model, baselines, row, chosen[at : at + 1], [question]))
                except Unexplainable as alone:
                    answers.append(alone)
    return answers


def _groups(background: Matrix, rows: Matrix, seeds: Sequence[int], budget: int) -> Iterator[list[Question]]:
    group: list[Question] = []
    size = 0
    for row, seed in zip(rows, seeds, strict=True):
        question = _question(background, row, seed, budget)
        if group and size + len(question.rows) > ROWS_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(question)
        size += len(question.rows) + 1
    if group:
        yield group


def _answer(
    model: Model, baselines: Matrix, rows: Matrix, explained: Ints, questions: list[Question]
) -> list[tuple[float, float, Matrix] | Unexplainable]:
    said = model(np.vstack([rows, *(question.rows for question in questions)]))
    answers: list[tuple[float, float, Matrix] | Unexplainable] = []
    at = len(rows)
    for own, output, question in zip(said, explained, questions, strict=False):
        mixtures = said[at : at + len(question.rows), output]
        at += len(question.rows)
        baseline, result = float(baselines[output]), float(own[output])
        values = np.zeros(rows.shape[1])
        if len(question.varying) == 1:
            values[question.varying[0]] = result - baseline
        elif len(question.varying):
            worth = mixtures[question.places].mean(axis=1) - baseline
            values[question.varying] = question.coalitions.values(worth, result - baseline)
        answers.append((baseline, result, values))
    return answers


def _question(background: Matrix, row: Matrix, seed: int, budget: int) -> Question:
    varying = np.flatnonzero(np.any(background != row, axis=0))
    if len(varying) < 2:
        nothing = Coalitions(np.zeros((0, len(varying)), dtype=np.bool_), np.zeros((0, 0)))
        return Question(varying, nothing, np.zeros((0, len(row))), np.zeros((0, len(background)), dtype=np.int64))
    return mixtures_of(background, row, varying, draw(len(varying), budget, seed))


def mixtures_of(background: Matrix, row: Matrix, varying: Ints, coalitions: Coalitions) -> Question:
    """The different mixtures that `coalitions` of the columns `varying` make of a row and the background rows."""
    ranks = _ranks(background[:, varying], row[varying])
    places, first = _distinct(coalitions.masks, ranks)
    return Question(varying, coalitions, _mixed(background, row, varying, coalitions.masks, first), places)


def _ranks(background: Matrix, row: Matrix) -> Ints:
    """Each background value by its number in its column, 0 being the row's own value."""
    ranks = np.empty(background.shape, dtype=np.int64)
    for column in range(background.shape[1]):
        ranks[:, column] = np.unique(background[:, column], return_inverse=True)[1] + 1
        ranks[background[:, column] == row[column], column] = 0
    return ranks


def _distinct(masks: Flags, ranks: Ints) -> tuple[Ints, Ints]:
    """The place of each mixture (coalitions, background rows), and of each place the (coalition, background row)."""
    bases = ranks.max(axis=0) + 1
    if np.log2(bases).sum() < 63:
        # Every mixture has a number of its own, whatever background row it comes from.
        factors = np.concatenate([[1], np.cumprod(bases)[:-1]]).astype(np.int64)
        return _number(masks, ranks * factors)
    # More columns than fit into a number: the same mixture is recognised within a background row only.
    return _number_within(masks, ranks != 0)


@compiled
def _mixed(background: Matrix, row: Matrix, varying: Ints, masks: Flags, first: Ints) -> Matrix:
    """The rows (N, columns) that `first`, (coalition, background row) each, stands for."""
    mixed = np.empty((first.shape[0], row.shape[0]))
    for at in range(first.shape[0]):
        coalition, other = first[at, 0], first[at, 1]
        for column in range(row.shape[0]):
            mixed[at, column] = background[other, column]
        for k in range(varying.shape[0]):
            if masks[coalition, k]:
                mixed[at, varying[k]] = row[varying[k]]
    return mixed


@compiled
def _number(masks: Flags, parts: Ints) -> tuple[Ints, Ints]:
    coalitions, columns = masks.shape
    backgrounds = parts.shape[0]
    room = 1
    while room < 2 * coalitions * backgrounds:
        room *= 2
    keys = np.full(room, -1, dtype=np.int64)
    slots = np.empty(room, dtype=np.int64)
    places = np.empty((coalitions, backgrounds), dtype=np.int64)
    first = np.empty((coalitions * backgrounds, 2), dtype=np.int64)
    filled = 0
    for other in range(backgrounds):
        for coalition in range(coalitions):
            key = 0
            for column in range(columns):
                if not masks[coalition, column]:
                    key += parts[other, column]
            at = (key ^ (key >> 17) ^ (key >> 41)) * 0x9E3779B1 & (room - 1)
            while keys[at] >= 0 and keys[at] != key:
                at = (at + 1) & (room - 1)
            if keys[at] < 0:
                keys[at] = key
                slots[at] = filled
                first[filled, 0], first[filled, 1] = coalition, other
                filled += 1
            places[coalition, other] = slots[at]
    return places, first[:filled].copy()


def _number_within(masks: Flags, differs: Flags) -> tuple[Ints, Ints]:
    places = np.empty((len(masks), len(differs)), dtype=np.int64)
    first: list[Ints] = []
    filled = 0
    for other, own in enumerate(differs):
        packed = np.packbits(masks[:, own], axis=1)
        words = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").reshape(-1)
        _, chosen, back = np.unique(words, return_index=True, return_inverse=True)
        places[:, other] = filled + back.reshape(-1)
        first.append(np.column_stack([chosen, np.full(len(chosen), other)]))
        filled += len(chosen)
    return places, np.concatenate(first)
