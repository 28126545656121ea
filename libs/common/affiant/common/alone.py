"""One process at a time for a data folder that two would spoil."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from affiant.common.errors import Conflict


def hold(folder: Path, who: str) -> int:
    """A lock on `folder` for as long as this process lives, however it ends; `os.close` gives it back earlier.

    Raises `Conflict` where another `who` has it.
    """
    descriptor = os.open(folder / f"{who}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(f"another {who} runs on {folder}", hint="stop it, or set another data_dir") from error
    return descriptor
