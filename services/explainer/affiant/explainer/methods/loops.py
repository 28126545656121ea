"""The compiled loops, made ready before the first version is loaded.

Compiling takes some ten seconds where numba finds nothing in its cache: that belongs to the start of a process, which
has two minutes, and not to the first row, which has thirty seconds.
"""

from __future__ import annotations

import numpy as np

from affiant.explainer.methods.coalitions import draw
from affiant.explainer.methods.leaves import Leaves
from affiant.explainer.methods.mixtures import LOGISTIC, Mixtures
from affiant.explainer.methods.sampled import mixtures_of
from affiant.explainer.methods.trees import LEQ, Trees


def compile_loops() -> None:
    """Use each loop once, with arrays of the kinds that it will be given."""
    stump = Trees(
        feature=np.array([0], dtype=np.int64),
        threshold=np.array([0.5]),
        mode=np.array([LEQ], dtype=np.uint8),
        missing=np.array([False]),
        yes=np.array([-1], dtype=np.int64),
        no=np.array([-2], dtype=np.int64),
        roots=np.array([0], dtype=np.int64),
        first_leaves=np.array([0, 2], dtype=np.int64),
        weights=np.array([[1.0], [0.0]]),
        base=np.zeros(1),
    )
    columns = np.array([0], dtype=np.int64)
    row, background, explained = np.ones((1, 1)), np.zeros((1, 1)), np.array([0], dtype=np.int64)
    stump.scores(row)
    Leaves(stump, columns, background).values(row, explained, 1)
    mixtures = Mixtures(1, LOGISTIC)
    mixtures.of_trees(stump, columns, stump.decisions(row), stump.decisions(background), explained, 1)
    mixtures.of_linear(row.reshape(1, 1, 1), background.reshape(1, 1, 1), np.zeros(1), explained)
    mixtures_of(np.zeros((1, 2)), np.ones(2), np.arange(2), draw(2, 2, 0))
