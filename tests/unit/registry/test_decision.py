"""From outputs to a decision."""

from __future__ import annotations

import pytest

from affiant.common.events import TensorSpec
from affiant.registry.domain.decision import choose_classes, choose_outputs, decide
from affiant.registry.domain.manifest import Manifest, Unfit

LABEL = TensorSpec(name="label", datatype="BYTES", shape=[-1])
CHANCES = TensorSpec(name="chances", datatype="FP32", shape=[-1, 2])
LATENT = TensorSpec(name="latent", datatype="FP32", shape=[-1, 8])


def test_label_and_probabilities_are_told_by_type_and_shape() -> None:
    assert choose_outputs([CHANCES, LABEL], Manifest(favourable="yes")) == ("label", "chances")


def test_a_label_may_have_one_column() -> None:
    label = TensorSpec(name="label", datatype="INT64", shape=[-1, 1])
    assert choose_outputs([label, CHANCES], Manifest()) == ("label", "chances")


def test_a_single_score_is_no_probability_output() -> None:
    score = TensorSpec(name="score", datatype="FP32", shape=[-1, 1])
    with pytest.raises(Unfit, match=r"no output can be the probability_output.*zipmap=False"):
        choose_outputs([LABEL, score], Manifest())


def test_two_candidates_ask_which() -> None:
    with pytest.raises(Unfit, match=r"several outputs could be the probability_output"):
        choose_outputs([LABEL, CHANCES, LATENT], Manifest())
    stated = Manifest(favourable=1, probability_output="chances")
    assert choose_outputs([LABEL, CHANCES, LATENT], stated) == ("label", "chances")


def test_a_stated_output_must_fit() -> None:
    with pytest.raises(Unfit, match=r"label_output is 'chances'"):
        choose_outputs([LABEL, CHANCES], Manifest(favourable=1, label_output="chances"))


def test_stated_classes_win_over_the_graph() -> None:
    assert choose_classes(["b", "a"], [["a", "b"]], {"a"}, 2) == ["b", "a"]


def test_stated_classes_must_be_as_many_as_the_probabilities_and_hold_what_was_seen() -> None:
    with pytest.raises(Unfit, match=r"2 labels for 3 probabilities"):
        choose_classes(["a", "b"], [], set(), 3)
    with pytest.raises(Unfit, match=r"also answers \['c'\]"):
        choose_classes(["a", "b"], [], {"c"}, 2)


def test_classes_come_from_the_graph_when_they_fit_the_labels_seen() -> None:
    # skl2onnx may put integers into the ensemble and map them to strings behind it.
    assert choose_classes(None, [[0, 1], ["no", "yes"]], {"yes"}, 2) == ["no", "yes"]


def test_classes_seen_are_sorted_as_scikit_learn_does() -> None:
    assert choose_classes(None, [], {"yes", "no"}, 2) == ["no", "yes"]
    assert choose_classes(None, [], {10, 9}, 2) == [9, 10]


def test_integers_from_zero_are_assumed_when_too_few_labels_were_seen() -> None:
    assert choose_classes(None, [], {1}, 3) == [0, 1, 2]


def test_too_few_labels_ask_for_classes() -> None:
    with pytest.raises(Unfit, match=r"state `classes`"):
        choose_classes(None, [], {"yes"}, 2)


def test_the_favourable_label_may_be_written_as_text() -> None:
    assert decide("label", "chances", [0, 1], "1").favourable == 1


def test_a_favourable_label_that_is_never_answered_is_refused() -> None:
    with pytest.raises(Unfit, match=r"one of no, yes"):
        decide("label", "chances", ["no", "yes"], "approved")
