"""What the columns of an unknown table probably mean. Every guess comes with its reason, for a person to read.

Pure: names and values in, a choice and a sentence out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""Cells that say "no value", in lower case. "none" is not among them: many tables use it as a category."""

_TARGETS = (
    "deny", "denied", "default", "defaulted", "status", "loan_status", "class", "approved", "approval", "granted",
    "accepted", "credit_risk", "risk", "decision", "outcome", "bad", "good", "target", "label", "result", "y",
)  # fmt: skip
_ADVERSE_NAMES = re.compile(
    r"den(y|ied)|default|reject|declin|delinq|bad|fraud|bankrupt|risk_flag|churn", re.IGNORECASE
)
_ADVERSE_VALUES = re.compile(
    r"^(bad|den(y|ied)|reject(ed)?|declined?|refused?|default(ed)?|charged.?off|late)$", re.IGNORECASE
)
_GOOD_VALUES = re.compile(
    r"^(good|approved?|accept(ed)?|granted|paid|fully.?paid|repaid|current|pass(ed)?|yes|y|true|1|\+)$", re.IGNORECASE
)
_NO_VALUES = re.compile(r"^(no|n|false|0|-)$", re.IGNORECASE)
_PROTECTED = (
    "race", "racial", "ethnicity", "ethnic", "afam", "black", "hispanic", "minority", "sex", "gender", "female", "male",
    "age", "marital", "married", "single", "personal_status", "civil_status", "nationality", "national_origin",
    "foreign", "foreigner", "immigrant", "citizen", "citizenship", "religion", "disability", "disabled", "pregnant",
)  # fmt: skip
_ROW_NUMBERS = ("", "id", "rownames", "row_names", "rowname", "index", "row", "unnamed: 0", "x1")


@dataclass(frozen=True)
class Guess:
    """A choice and the reason for it."""

    value: str
    reason: str


def is_missing(cell: str) -> bool:
    """Whether a cell of the file says that there is no value."""
    return cell.strip().lower() in MISSING


def words(name: str) -> list[str]:
    """The words of a column's name: `personalStatus`, `personal_status` and `personal status` have the same."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def is_row_number(name: str, values: Sequence[str], *, first: bool) -> bool:
    """Whether a column only numbers the rows: integers, all different, under such a name or in the first place."""
    named = name.strip().lower() in _ROW_NUMBERS or words(name)[-1:] == ["id"]
    if not (named or first) or len(set(values)) != len(values):
        return False
    return named or all(re.fullmatch(r"\d+", value.strip()) for value in values)


def is_protected(name: str) -> bool:
    """Whether a column's name says that the law may forbid to decide by it."""
    known = words(name)
    return any(term in known or term == "_".join(known) for term in _PROTECTED)


def target(values: dict[str, set[str]]) -> Guess | None:
    """The column that holds the decision. `values`: the distinct present values of each column, in file order."""
    binary = [name for name, distinct in values.items() if len(distinct) == 2]
    by_name = {"_".join(words(name)): name for name in reversed(binary)}
    for candidate in _TARGETS:
        if candidate in by_name:
            return Guess(by_name[candidate], "a column of two values with the name of a decision")
    if binary and binary[-1] == list(values)[-1]:
        return Guess(binary[-1], "the last column, with two values")
    if len(binary) == 1:
        return Guess(binary[0], "the only column with two values")
    return None


def favourable(target_name: str, counts: dict[str, int]) -> Guess:
    """The outcome that an applicant hopes for, among the two values of the target (`counts`: rows of each)."""
    first, second = sorted(counts)
    for good, other in ((first, second), (second, first)):
        if _ADVERSE_VALUES.match(other) and not _ADVERSE_VALUES.match(good):
            return Guess(good, f"“{other}” reads as the bad outcome")
        if _ADVERSE_NAMES.search(target_name) and _NO_VALUES.match(good):
            return Guess(good, f"a “{target_name}” of “{good}” is what an applicant hopes for")
    for good, other in ((first, second), (second, first)):
        if _GOOD_VALUES.match(good) and not _GOOD_VALUES.match(other) and not _ADVERSE_NAMES.search(target_name):
            return Guess(good, f"“{good}” reads as the good outcome")
    if {first, second} == {"1", "2"}:
        return Guess("1", "1 and 2: credit tables of that form mean good and bad")
    common = max(counts, key=lambda value: (counts[value], value))
    return Guess(common, "nothing in the names tells, so the more frequent value: check it, or give --favourable")


def identifier(name: str, taken: Iterable[str]) -> str:
    """`name` as an ONNX value name (letters, digits, underscores; not yet in `taken`)."""
    plain = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_") or "column"
    plain = f"c_{plain}" if plain[0].isdigit() else plain
    used = set(taken)
    return next(c for n in range(len(used) + 1) if (c := plain if n == 0 else f"{plain}_{n + 1}") not in used)
