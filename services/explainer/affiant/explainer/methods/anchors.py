"""Anchors: which of a row's values hold the decision while all others change (Ribeiro, Singh, Guestrin 2018).

The search is alibi's. What is ours is where alibi would answer wrongly without a word: the bins of the numeric
columns (missing values have one of their own, none is empty), values that the background does not hold, and the text
of the clauses, which is read off the bins instead of out of alibi's strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from affiant.common.events import Anchor
from affiant.explainer.methods.libraries import AnchorTabular, TabularSampler
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.sentences import anchor_sentence, clause
from affiant.explainer.methods.table import Matrix

THRESHOLD = 0.95
MAX_PREDICATES = 8
"""Nobody reads more conditions, they cover next to no case, and the search for them is what takes longest: without
this bound one denial in ten took 0.97 s of processor time on a 13-column boosting model, with it 0.53 s."""

CACHE_BATCHES = 500
"""Room for sampled rows, in batches of 100. alibi's default reserves a million rows for each explanation."""


@dataclass(frozen=True)
class Bins:
    """The edges of each numeric column, in the form in which alibi's sampler asks for them."""

    edges: Mapping[int, Matrix]

    def discretize(self, rows: Matrix) -> Matrix:
        """Rows (N, columns) with each numeric value replaced by its bin; categories stay as they are."""
        binned = rows.copy()
        for index, edges in self.edges.items():
            binned[..., index] = np.searchsorted(edges, rows[..., index])
        return binned


class _Sampler(TabularSampler):  # type: ignore[misc]  # alibi has no types
    """alibi's sampler, honest about values that no background row has.

    alibi forgets them when the rest of an anchor has rows enough, and otherwise draws a number from the column's
    range and prints a warning. Here a clause about such a value holds the row's own value.
    """

    bins: Bins
    row: Matrix

    def _set_discretizer(self, _: object) -> None:
        self.disc = self.bins

    def _set_numerical_feats_stats(self) -> None:
        """Not needed: no value is ever drawn from a column's range."""

    def get_features_index(self, anchor: tuple[int, ...]) -> Any:
        """As alibi's, but every column without rows is named as unknown (alibi's loop skips every other one)."""
        bins, rows, _ = super().get_features_index(anchor)
        return bins, rows, [(index, "", None) for index, found in rows.items() if found.size == 0]

    def handle_unk_features(self, *_: object) -> None:
        """Left to `perturbation`, which alibi does not always leave through here."""

    def perturbation(self, anchor: tuple[int, ...], num_samples: int) -> tuple[Matrix, Matrix, float]:
        """As alibi's, but the values that the anchor names and the background lacks are the row's own."""
        samples, _, coverage = super().perturbation(anchor, num_samples)
        for index, _, _ in self.get_features_index(anchor)[2] if anchor else ():
            samples[:, index] = self.row[index]
            coverage = 0.0
        return samples, self.bins.discretize(samples), coverage


class _Search(AnchorTabular):  # type: ignore[misc]
    """alibi's search with our bins, and with what was found as columns and bins instead of text."""

    found: list[tuple[int, set[int] | None]]

    def fit_bins(self, background: Matrix, bins: Bins, row: Matrix) -> None:
        """In place of `fit`: alibi would take its own quartiles, empty bins and missing values included."""
        self.feature_values.update({index: [""] * (len(edges) + 1) for index, edges in bins.edges.items()})
        sampler = _Sampler(
            self._predictor,
            (),
            self.numerical_features,
            self.categorical_features,
            self.feature_names,
            self.feature_values,
            seed=self.seed,
        )
        sampler.bins, sampler.row = bins, row
        self.samplers = [sampler.deferred_init(background, bins.discretize(background))]
        self._fitted = True

    def add_names_to_exp(self, explanation: dict[str, Any]) -> None:
        """Called by alibi with the anchor's predicates: several may speak of one numeric column."""
        allowed: dict[int, set[int] | None] = {}
        for predicate in explanation["feature"]:
            index = self.enc2feat_idx[predicate]
            if predicate in self.cat_lookup:
                allowed[index] = None
            else:
                allowed[index] = (allowed.get(index) or self.ord_lookup[predicate]) & self.ord_lookup[predicate]
        self.found = list(allowed.items())
        explanation["names"] = []


def find_anchor(predictor: Predictor, row: Matrix, label: str | int, seed: int) -> tuple[Anchor, list[str]]:
    """The anchor of the decision for one coded row (columns,), and warnings. The same seed gives the same anchor.

    An explainer is made for each row: making one is cheap, and a used one keeps traces of the row before.
    """
    table = predictor.table
    search = _search(predictor, seed)
    bins = Bins({index: table.edges(index, row) for index in search.numerical_features})
    search.fit_bins(table.background, bins, row)
    np.random.seed(seed)  # alibi draws from numpy's global generator
    raw = search.explain(
        row,
        threshold=THRESHOLD,
        max_anchor_size=MAX_PREDICATES,
        binary_cache_size=CACHE_BATCHES,
        cache_margin=CACHE_BATCHES // 10,
    )
    clauses = [
        clause(table.codings[index], row[index], bins.edges.get(index), allowed) for index, allowed in search.found
    ]
    success = bool(raw.data["raw"]["success"])
    precision, coverage = float(np.squeeze(raw.precision)), float(np.squeeze(raw.coverage))
    anchor = Anchor(
        clauses=clauses,
        precision=precision,
        coverage=coverage,
        threshold=THRESHOLD,
        success=success,
        sentence=anchor_sentence(clauses, precision, coverage, THRESHOLD, success, label),
    )
    return anchor, _warnings(anchor)


def _search(predictor: Predictor, seed: int) -> _Search:
    codings = predictor.table.codings
    categories = {
        index: [str(value) for value in coding.categories] for index, coding in enumerate(codings) if coding.categorical
    }
    return _Search(predictor.labels, predictor.table.names, categorical_names=categories, seed=seed)


def _warnings(anchor: Anchor) -> list[str]:
    found = []
    if not anchor.success:
        found.append(f"no anchor reached the precision {anchor.threshold:g}; the best one found is given")
    elif not anchor.clauses:
        found.append("the anchor is empty: nearly every case gets this decision")
    if anchor.clauses and anchor.coverage == 0.0:
        found.append("the anchor covers no background row: its precision rests on rows put together for it")
    return found
