"""HTML and SVG from nested calls. Text is always escaped; only what these functions made passes unescaped."""

from __future__ import annotations

from html import escape


class Raw(str):
    """Markup that was made here. Never make one of a value that came from outside."""

    __slots__ = ()


Child = str | float | int | None
VOID = frozenset({"meta", "line", "rect", "path", "circle", "br", "hr"})


def tag(name: str, /, *children: Child, **attributes: Child) -> Raw:
    """`<name attributes>children</name>`; `cls` is `class`, an underscore a hyphen; None is left out."""
    given = "".join(
        f' {"class" if key == "cls" else key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Raw(f"<{name}{given}/>")
    return Raw(f"<{name}{given}>{together(*children)}</{name}>")


def together(*children: Child) -> Raw:
    """Children one after the other; None is nothing."""
    return Raw(
        "".join(child if isinstance(child, Raw) else escape(_text(child)) for child in children if child is not None)
    )


def _text(value: Child) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def section(title: str, note: Child, *content: Child, long: bool = False) -> Raw:
    """A part of a page: its title, a sentence about it, its content. A `long` one may be cut when printed."""
    return tag("section", tag("h2", title), tag("p", note, cls="note"), *content, cls="long" if long else None)
