"""The lines of requirements.lock, hashes included, for the packages of a list: `pins.py names.txt requirements.lock`.

What a part needs is a part of what everything needs: versions and hashes come from the lock alone.
"""

import re
import sys
from pathlib import Path

NAME = re.compile(r"^([A-Za-z0-9._-]+)==")


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(names: str, lock: str) -> str:
    """The blocks of `lock` for `names`; raises `SystemExit` for one that the lock does not have."""
    blocks: dict[str, str] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        if found := NAME.match(block):
            blocks[normal(found[1])] = block.rstrip()
    wanted = [normal(found[1]) for line in names.splitlines() if (found := NAME.match(line))]
    if lost := [name for name in wanted if name not in blocks]:
        sys.exit(f"requirements.lock does not have {', '.join(lost)}: make lock")
    return "\n".join(blocks[name] for name in wanted) + "\n"


if __name__ == "__main__":
    sys.stdout.write(pins(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text()))
