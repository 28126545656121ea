"""Facts about the tree itself."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_part_of_the_namespace_hides_the_others() -> None:
    parts = [*ROOT.glob("libs/*/affiant"), *ROOT.glob("services/*/affiant")]
    assert parts
    assert [part for part in parts if (part / "__init__.py").exists()] == []


def test_every_package_says_what_belongs_there() -> None:
    packages = [*ROOT.glob("libs/*/affiant/**/__init__.py"), *ROOT.glob("services/*/affiant/**/__init__.py")]
    assert [str(path.relative_to(ROOT)) for path in packages if not path.read_text().startswith('"""')] == []
