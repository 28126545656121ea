"""Pictures of explanations: whole, harmless, and true to the numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from affiant.common.events import ColumnImportance, Effect, Scalar, Shap, ShapValue
from affiant.plots import beeswarm, effects, force, importance, waterfall
from affiant.plots.svg import Scale, ticks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert('1')</script> & \x00 \"x\""


def shap(*pairs: tuple[str, Scalar, float], baseline: float = 0.4) -> Shap:
    values = [ShapValue(column=name, value=value, shap=amount) for name, value, amount in pairs]
    output = baseline + sum(amount for _, _, amount in pairs)
    return Shap(baseline=baseline, output=output, values=values, additivity_error=0.0, estimator="exact")


LOAN = shap(("income", 30.5, 0.2), ("job", "none", -0.05), ("debt", None, 0.1))


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own output


def texts(svg: str) -> list[str]:
    return [found.text or "" for found in drawn(svg).iter(f"{SVG}text")]


def bars(svg: str) -> list[tuple[float, float, str]]:
    return [
        (float(found.get("x", "nan")), float(found.get("width", "nan")), found.get("class", ""))
        for found in drawn(svg).iter(f"{SVG}rect")
    ]


def test_a_waterfall_goes_from_the_baseline_to_the_output_largest_step_first() -> None:
    svg = waterfall(LOAN, "probability of denied")
    assert [line for line in texts(svg) if "=" in line] == ["income = 30.5", "debt = missing", "job = none"]
    assert "baseline 0.400" in texts(svg)
    assert "probability of denied 0.650" in texts(svg)
    found = bars(svg)
    assert [kind for _, _, kind in found] == ["up", "up", "down"]
    assert found[1][0] == pytest.approx(found[0][0] + found[0][1], abs=0.02)
    assert found[0][1] / found[2][1] == pytest.approx(4.0, rel=0.01)


def test_a_waterfall_of_many_columns_sums_up_the_small_ones() -> None:
    many = shap(*[(f"c{at}", at, 0.01 * (at + 1)) for at in range(40)])
    svg = waterfall(many, "score", shown=5)
    assert "35 other columns" in texts(svg)
    assert len(bars(svg)) == 6


def test_a_force_plot_names_the_strongest_pushes_of_both_sides() -> None:
    found = texts(force(LOAN, "probability of denied"))
    assert any(line.startswith("income = 30.5") for line in found)
    assert any(line.startswith("job = none") and line.endswith("-0.050") for line in found)


def test_a_beeswarm_has_a_dot_for_each_row_and_column() -> None:
    rows = [shap(("income", float(at), 0.01 * at), ("job", "none", -0.02)) for at in range(30)]
    svg = beeswarm(rows, "score")
    dots = [found for found in drawn(svg).iter(f"{SVG}circle") if found.get("r") == "2.6"]
    assert len(dots) == 60
    assert [line for line in texts(svg) if line in ("income", "job")] == ["income", "job"]


def test_a_beeswarm_colours_numbers_by_rank_and_words_not_at_all() -> None:
    svg = beeswarm([shap(("a", 1.0, 0.1)), shap(("a", 1e9, 0.2)), shap(("a", "x", 0.3))], "score")
    shades = [found.get("style") or "" for found in drawn(svg).iter(f"{SVG}circle") if found.get("r") == "2.6"]
    assert ["0%" in shades[0], "100%" in shades[1], "none" in shades[2]] == [True, True, True]


def test_importance_is_ordered_and_starts_at_zero() -> None:
    found = [ColumnImportance(column=name, importance=size, deviation=0.01) for name, size in (("a", 0.1), ("b", 0.3))]
    svg = importance(found, "mean absolute change of the score")
    assert [line for line in texts(svg) if line in ("a", "b")] == ["b", "a"]
    (first, width, _), (second, shorter, _) = bars(svg)
    assert first == second
    assert width / shorter == pytest.approx(3.0, rel=0.01)


def test_effects_are_curves_for_numbers_and_dots_for_words() -> None:
    found = [
        Effect(column="income", kind="ale", points=[1.0, 2.0, 3.0], values=[0.0, 0.1, 0.2]),
        Effect(column="job", kind="partial_dependence", points=["none", "nurse"], values=[0.1, 0.2]),
    ]
    tree = drawn(effects(found, "score"))
    assert len([path for path in tree.iter(f"{SVG}path") if path.get("class") == "curve"]) == 1
    assert len(list(tree.iter(f"{SVG}circle"))) == 2


def test_what_is_shown_can_neither_break_the_picture_nor_run() -> None:
    hostile = shap((HOSTILE, HOSTILE, 0.1), ("b", 1, -0.1))
    curve = Effect(column=HOSTILE, kind="ale", points=[HOSTILE, "b"], values=[0.0, 1.0])
    weight = ColumnImportance(column=HOSTILE, importance=0.1, deviation=0.0)
    for svg in (
        waterfall(hostile, HOSTILE),
        force(hostile, HOSTILE),
        beeswarm([hostile], HOSTILE),
        effects([curve], HOSTILE),
        importance([weight], HOSTILE),
    ):
        assert not [found for found in drawn(svg).iter() if found.tag.endswith("script")]


@pytest.mark.parametrize("amount", [0.0, 1e-12, -5.0, 1e9])
def test_any_amount_can_be_drawn(amount: float) -> None:
    one = shap(("a", 1, amount), baseline=0.0)
    for svg in (waterfall(one, "y"), force(one, "y"), beeswarm([one], "y")):
        assert "nan" not in svg.lower().replace("finance", "")


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    found = ticks(-3.7, 1234.0)
    assert all(-3.7 <= tick <= 1234.0 for tick in found)
    assert len({round(b - a, 6) for a, b in pairwise(found)}) == 1


def test_a_scale_of_one_value_still_has_a_width() -> None:
    scale = Scale([0.5], 0.0, 100.0)
    assert 0 < scale(0.5) < 100
