"""HTML from nested calls. Text is always escaped; only what these functions made passes unescaped."""

from __future__ import annotations

import re
from html import escape


class Raw(str):
    """Markup that was made here. Never make one of a value that came from outside."""

    __slots__ = ()


Child = str | float | int | None
_VOID = frozenset({"meta", "br", "hr"})
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that HTML does not know, or that turn the direction of writing: a name must not read as another."""


def tag(name: str, /, *children: Child, **attributes: Child) -> Raw:
    """`<name attributes>children</name>`; `cls` is `class`, an underscore a hyphen; None is left out."""
    given = "".join(
        f' {"class" if key == "cls" else key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Raw(f"<{name}{given}/>" if name in _VOID else f"<{name}{given}>{together(*children)}</{name}>")


def together(*children: Child) -> Raw:
    """Children one after the other; None is nothing."""
    return Raw(
        "".join(child if isinstance(child, Raw) else escape(_text(child)) for child in children if child is not None)
    )


def section(title: str, note: Child, *content: Child, cls: str | None = None) -> Raw:
    """A part of the page: its title, a sentence about it, its content."""
    return tag("section", tag("h2", title), tag("p", note, cls="note") if note else None, *content, cls=cls)


def table(heads: tuple[str, ...], rows: list[tuple[Child, ...]], numbers: frozenset[int] = frozenset()) -> Raw:
    """A table; the columns at `numbers` are set to the right."""

    def cells(kind: str, row: tuple[Child, ...]) -> list[Raw]:
        return [tag(kind, cell, cls="right" if place in numbers else None) for place, cell in enumerate(row)]

    head = tag("thead", tag("tr", *cells("th", heads)))
    return tag("table", head, tag("tbody", *(tag("tr", *cells("td", row)) for row in rows)))


def facts(*lines: tuple[str, Child]) -> Raw:
    """Names and values; lines without a value are left out."""
    known = [(name, value) for name, value in lines if value not in (None, "")]
    return tag("table", *(tag("tr", tag("th", name), tag("td", value)) for name, value in known), cls="facts")


def _text(value: Child) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _UNSEEN.sub("�", str(value))
