"""The witness folder: checkpoints written outside the store's reach.

Whoever rolls the store back, or rewrites it, would have to do the same there. `checkpoint` holds the newest signed
note (the name that C2SP tlog-tiles gives it), `<day>.jsonl` every note of a day: `{"signed_at": …, "note": …}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from affiant.auditor.store.checkpoints import Signed

NEWEST = "checkpoint"


def newest(folder: Path) -> str:
    """The newest note in the folder; empty where there is none yet."""
    path = folder / NEWEST
    return path.read_text(encoding="utf-8") if path.exists() else ""


def append(folder: Path, signed: Sequence[Signed]) -> None:
    """Add checkpoints, oldest first; on the disk when this returns. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in signed:
        line = json.dumps({"signed_at": one.signed_at, "note": one.note}, ensure_ascii=False) + "\n"
        _write(folder / f"{one.signed_at[:10]}.jsonl", line, "a")
    if signed:
        draft = folder / f".{NEWEST}.new"
        _write(draft, signed[-1].note, "w")
        draft.replace(folder / NEWEST)


def _write(path: Path, text: str, mode: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
