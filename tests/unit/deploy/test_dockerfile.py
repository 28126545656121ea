"""The image's build, as far as it can be looked at without running it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def sources() -> set[str]:
    """What is copied from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()[:-1]}


def test_everything_that_is_copied_exists_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "**"
    for name in sources():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def test_the_image_runs_as_nobody() -> None:
    assert "\nUSER 65532:65532\n" in DOCKERFILE.rpartition("FROM")[2]


def pins(names: str, lock: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "names").write_text(names)
    (folder / "lock").write_text(lock)
    command = [sys.executable, str(ROOT / "deploy" / "pins.py"), str(folder / "names"), str(folder / "lock")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


LOCK = """# comment
a==1 \\
    --hash=sha256:11 \\
    --hash=sha256:12
b-c==2 ; python_version < '3.12' \\
    --hash=sha256:2
d==3 \\
    --hash=sha256:3
"""


def test_a_part_is_pinned_by_the_lines_of_the_lock_and_nothing_else(tmp_path: Path) -> None:
    done = pins("B_c==9\na==1\n", LOCK, tmp_path)
    assert done.stdout == (
        "b-c==2 ; python_version < '3.12' \\\n    --hash=sha256:2\n"
        "a==1 \\\n    --hash=sha256:11 \\\n    --hash=sha256:12\n"
    )


def test_what_the_lock_does_not_have_is_not_installed(tmp_path: Path) -> None:
    done = pins("a==1\ne==1\n", LOCK, tmp_path)
    assert done.returncode != 0
    assert "does not have e" in done.stderr
