"""Packages from npm for tests, installed once into a cache folder beside the tree's other caches."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("AFFIANT_TEST_CACHE", Path(__file__).parents[2] / ".cache"))


def installed(folder: Path) -> Path:
    """A copy of `folder` with its locked packages installed; skips by name where Node.js is absent."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("Node.js is not installed: npm is needed for this test")
    lock = (folder / "package-lock.json").read_bytes()
    copy = CACHE / "node" / f"{folder.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not (copy / ".installed").exists():
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        subprocess.run([npm, "ci", "--no-fund", "--no-audit"], cwd=copy, check=True, capture_output=True, timeout=240)
        (copy / ".installed").touch()
    for source in [*folder.glob("*.mjs"), *folder.glob("*.js")]:
        shutil.copy(source, copy)
    return copy
