"""What stands in the terminal at the end, and while one waits."""

from io import StringIO

import pytest
from rich.console import Console

from examples.loan import report, words
from examples.loan.outcome import Outcome
from examples.loan.progress import Progress
from tests.unit.examples import fabricated


def _shown(outcome: Outcome, width: int = 100) -> str:
    out = StringIO()
    report.show(outcome, Console(file=out, width=width), "/home/you/report.html")
    return out.getvalue()


def test_the_report_tells_everything_a_person_wants_to_know() -> None:
    text = _shown(fabricated.outcome())
    for part in ("500", "58", "insurance = yes and chist > 2", "97.6", "this application", "−0.229", "0.754", "−0.040",
                 "leaf 212 of 1,043", "/home/you/report.html", "make demo DATA="):  # fmt: skip
        assert part in text


def test_a_broken_promise_stands_in_the_report() -> None:
    assert "✗ 500 sent, but 498 in the record" in _shown(fabricated.broken())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_report_fits_any_terminal(width: int) -> None:
    assert max(map(len, _shown(fabricated.outcome(), width).splitlines())) <= width


def test_a_step_that_fails_is_crossed_out_and_the_reason_goes_on() -> None:
    out = StringIO()
    progress = Progress(Console(file=out, width=100))

    def run() -> None:
        with progress.step("Reading [b]a.csv[/b]") as step:
            step.note("a [red]note[/red]")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run()
    assert "✗ Reading [b]a.csv[/b]" in out.getvalue() and "a [red]note[/red]" in out.getvalue()
    assert progress.steps[0].title == "Reading [b]a.csv[/b]"


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert (words.signed(-0.0), words.signed(-0.0001), words.signed(-0.2)) == ("0.000", "0.000", "−0.200")


def test_the_four_fifths_rule_is_read_both_ways() -> None:
    assert "below" in words.ratio_reading(0.79)
    assert "within" in words.ratio_reading(0.8)
    assert "above" in words.ratio_reading(1.3)
    assert "no ratio" in words.ratio_reading(None)


def test_a_precision_is_never_rounded_up() -> None:
    shown = [words.at_least(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0.9996, 0.29, 1.0)]
    assert shown == ["99.9 %", "29.0 %", "100.0 %"]
