"""Figures as people read them."""

from __future__ import annotations

from math import floor

from examples.loan.outcome import Outcome, Value

MINUS = "\N{MINUS SIGN}"


def percent(share: float, digits: int = 0) -> str:
    """0.123 → "12 %", with a space that does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", MINUS)


def at_least(share: float) -> str:
    """0.9996 → "99.9 %": rounded down, so that nothing sounds surer than it is."""
    # The small addition keeps 0.29 * 1000 = 289.99999999999994 from becoming 28.9.
    return percent(floor(share * 1000 + 1e-9) / 1000, 1)


def signed(number: float, digits: int = 3) -> str:
    """With its sign, and a true minus; what rounds to zero has no sign."""
    text = f"{number:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def points(share: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{100 * share:+.1f}".replace("-", MINUS) + "\N{NO-BREAK SPACE}pp"


def plural(count: int, one: str, many: str = "") -> str:
    """ "1 denial", "2 denials"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def value(found: Value) -> str:
    """One value of an application."""
    if found is None or found == "":
        return "missing"
    return f"{found:.4g}" if isinstance(found, float) else str(found)


def clipped(text: str, length: int) -> str:
    """At most `length` characters of `text`, with an ellipsis where more were."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def short(digest: str, keep: int = 12) -> str:
    """The beginning of a digest."""
    return f"{digest.removeprefix('sha256:')[:keep]}…"


def headline(outcome: Outcome) -> tuple[str, str]:
    """The result in two short sentences."""
    t = outcome.totals
    if outcome.kept_every_promise:
        return f"{t.sent:,} decisions, each one sworn.", "None missing, none doubled."
    return f"{t.sent:,} decisions sent, {t.audited:,} in the record.", "Not every promise was kept."


def ratio_reading(ratio: float | None) -> str:
    """What the four-fifths rule says to a disparate impact ratio."""
    if ratio is None:
        return "no ratio: the reference group was never approved"
    if ratio < 0.8:
        return "below four fifths: the usual threshold for adverse impact"
    if ratio > 1.25:
        return "above five fourths: the reference group fares worse by the same rule"
    return "within four fifths"
