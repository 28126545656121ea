"""What to try next, as commands to copy."""

from __future__ import annotations

from shlex import quote

from examples.loan.outcome import Outcome


def commands(outcome: Outcome) -> list[tuple[str, str]]:
    """Commands against the system of this run, each with its reason."""
    affiant = quote(outcome.program)
    found = [
        (f"export AFFIANT_HOME={quote(outcome.home)}", "the home of this run"),
        (f"{affiant} up --detach", "start this system again; it stays"),
        (f"{affiant} history {outcome.model}", "who changed what, when and why"),
        (f"{affiant} tail", "watch the record grow"),
        (f"{affiant} down", "end it"),
        ("make demo DATA=your-table.csv", "the same on decisions of your own"),
    ]
    if outcome.case:
        lookup = f"{affiant} prediction {outcome.case.prediction_id}"
        found.insert(2, (lookup, "one decision: its explanation, its lineage, its proof"))
    return found
