"""alibi's own search for an anchor: what our search is held against, and what serves a row where ours fails.

What is ours here is where alibi would answer wrongly without a word: the bins of the numeric columns (missing values
have one of their own, none is empty), and values that the background does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from affiant.explainer.methods.grid import Grid, Predicates
from affiant.explainer.methods.libraries import AnchorTabular, TabularSampler
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.search import Choices, Found
from affiant.explainer.methods.table import Matrix

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

    found: tuple[int, ...]

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
        """Called by alibi with the anchor's predicates, in the order in which they were found."""
        self.found = tuple(explanation["feature"])
        explanation["names"] = []

    def samples(self, batch: int) -> float:
        """On how many samples the anchor's precision rests at least: after it was measured, alibi may have drawn a
        last batch only to have examples, and does not say so."""
        drawn = float(self.mab.state["t_nsamples"][tuple(sorted(self.found))])
        return drawn - batch if drawn > batch else drawn


def find_stock(predictor: Predictor, row: Matrix, seed: int, choices: Choices) -> tuple[Found, Predicates]:
    """What alibi finds for one coded row (columns,), in the terms of our own search. The same seed gives the same.

    An explainer is made for each row: making one is cheap, and a used one keeps traces of the row before.
    """
    table = predictor.table
    search = _search(predictor, seed)
    bins = Bins({index: table.edges(index, row) for index in search.numerical_features})
    search.fit_bins(table.background, bins, row)
    np.random.seed(seed)  # alibi draws from numpy's global generator
    raw = search.explain(
        row,
        threshold=choices.threshold,
        delta=choices.delta,
        tau=choices.tolerance,
        batch_size=choices.batch,
        coverage_samples=choices.coverage_samples,
        beam_size=choices.beam,
        max_anchor_size=choices.most_predicates,
        min_samples_start=choices.first_samples,
        binary_cache_size=CACHE_BATCHES,
        cache_margin=CACHE_BATCHES // 10,
    )
    sizes = {index: len(coding.categories) for index, coding in enumerate(table.codings) if coding.categorical}
    precision, coverage = float(np.squeeze(raw.precision)), float(np.squeeze(raw.coverage))
    found = Found(search.found, bool(raw.data["raw"]["success"]), precision, search.samples(choices.batch), coverage)
    return found, Grid(table.background, bins.edges, sizes).predicates(row)


def _search(predictor: Predictor, seed: int) -> _Search:
    codings = predictor.table.codings
    categories = {
        index: [str(value) for value in coding.categories] for index, coding in enumerate(codings) if coding.categorical
    }
    return _Search(predictor.labels, predictor.table.names, categorical_names=categories, seed=seed)
