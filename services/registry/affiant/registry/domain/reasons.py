"""The words for reasons of adverse decisions: a YAML table of column → text, checked against the version's columns.

columns:
  income: The income is low for the credit that was applied for
  debt:
    text: The existing debt
    above: The existing debt is high
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from affiant.common.events import Column, ReasonTable, ReasonText
from affiant.registry.domain.manifest import Unfit

MAX_BYTES = 64 * 1024
MAX_TEXT = 300


class _Words(Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    above: str = ""
    below: str = ""


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    columns: dict[str, str | _Words]


def read_reasons(text: str, columns: Sequence[Column], protected: Sequence[str]) -> ReasonTable:
    """The table in `text` (YAML). Raises `Unfit` saying which entry cannot be accepted, and why."""
    if len(text.encode()) > MAX_BYTES:
        raise Unfit(f"the reasons have more than {MAX_BYTES} bytes; one short text for each column is enough")
    try:
        table = msgspec.convert(_yaml(text), _Table)
    except msgspec.ValidationError as error:
        raise Unfit(f"the reasons are no table of column: text, below `columns:` ({error})") from error
    texts = [_reason(name, words) for name, words in table.columns.items()]
    if not texts:
        raise Unfit("the reasons name no column; leave them out, or give each column its words")
    known = {column.name: column for column in columns}
    for each in texts:
        _check(each, known, protected)
    return ReasonTable(digest=f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", texts=texts)


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise Unfit(f"the reasons are not YAML: {error}") from error


def _reason(name: str, words: str | _Words) -> ReasonText:
    if isinstance(words, str):
        return ReasonText(column=name, text=words.strip())
    return ReasonText(column=name, text=words.text.strip(), above=words.above.strip(), below=words.below.strip())


def _check(reason: ReasonText, known: dict[str, Column], protected: Sequence[str]) -> None:
    name = reason.column
    if name in protected:
        raise Unfit(f"the reasons name {name!r}, a protected column: it must be no reason; take it out of the table")
    if name not in known:
        raise Unfit(f"the reasons name {name!r}, which is no column of the model; it has {', '.join(known)}")
    if not reason.text or any(len(each) > MAX_TEXT for each in (reason.text, reason.above, reason.below)):
        raise Unfit(f"the reason for {name!r} is empty or longer than {MAX_TEXT} characters")
    if known[name].kind == "categorical" and (reason.above or reason.below):
        raise Unfit(f"the reason for {name!r} tells above from below, but the column is categorical")
