"""Conditions on what went into a model, as a person writes them: `income<3.5`, `purpose=car`, `income=` (missing)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from affiant.common.errors import Problem

Comparison = Literal["<", "<=", ">", ">=", "=", "!="]

_WRITTEN = re.compile(r"(.+?)\s*(<=|>=|!=|=|<|>)\s*(.*)", re.DOTALL)
_EXAMPLE = "such as income<3.5, purpose=car, or income= for a missing value"


@dataclass(frozen=True, slots=True)
class Condition:
    """`column` compared with `text`, which is `number` where it is one; empty text stands for a missing value."""

    column: str
    comparison: Comparison
    text: str
    number: float | None


def condition(written: str) -> Condition:
    """What was written. Raises `Problem` in words where it is no condition."""
    found = _WRITTEN.fullmatch(written.strip())
    if found is None:
        raise Problem(f"{written!r} is no condition", hint=_EXAMPLE)
    column, comparison, text = found[1], cast(Comparison, found[2]), found[3].strip().strip("\"'")
    number = _number(text)
    if number is None and comparison not in ("=", "!="):
        raise Problem(f"{text!r} is no number: words are compared with = and != only", hint=_EXAMPLE)
    return Condition(column, comparison, text, number)


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
