"""Help texts."""

from __future__ import annotations

from affiant.cli.teach import help_text


def test_prose_flows_and_examples_stay_as_they_are_written() -> None:
    text = help_text("""Do it.

    Long prose
    on two lines.

    affiant do it \\
      --well
    """)
    first, prose, example = text.split("\n\n")
    assert (first, prose) == ("Do it.", "Long prose on two lines.")
    assert example == "[cyan]  affiant do it \\\\[/cyan]\n[cyan]    --well[/cyan]"


def test_brackets_in_a_text_are_no_markup() -> None:
    assert help_text("Values [bold] stay.") == r"Values \[bold] stay."
