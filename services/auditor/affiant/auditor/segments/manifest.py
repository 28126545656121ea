"""Which segments there are: one small JSON file, replaced as a whole, so that it always names files that are whole."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

VERSION = 1
FILE = "manifest.json"


class Segment(Struct, frozen=True):
    """One Parquet file: predictions of one model from entry `low` to below `high`, sorted by time.

    `columns` names its input and protected columns (`in.income`, `protected.race`), each with what the file calls it
    and what it holds: DuckDB takes `Age` and `age` for one name.
    """

    file: str
    model: str
    low: int
    high: int
    rows: int
    size_bytes: int
    first_received: str
    last_received: str
    columns: dict[str, tuple[str, str]]


class Manifest(Struct, frozen=True):
    """Everything below entry `high` is in `segments`. `anchor` is the salted payload hash (hex) of entry `high` - 1,
    by which a store that was exchanged for another is noticed; `restated` the last correction that was applied.
    """

    version: int = VERSION
    high: int = 0
    anchor: str = ""
    restated: int = 0
    segments: tuple[Segment, ...] = ()


def load(folder: Path) -> Manifest | None:
    """What was sealed; None where there is nothing that can be used, and everything must be made again."""
    try:
        found = msgspec.json.decode((folder / FILE).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    usable = found.version == VERSION and all(_is_whole(folder, segment) for segment in found.segments)
    return found if usable else None


def save(folder: Path, manifest: Manifest) -> None:
    """Put `manifest` in the place of the one before: durable when this returns, or not there at all."""
    replace(folder / FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def replace(path: Path, content: bytes) -> None:
    """Write a file under its final name only when its bytes are on the disk."""
    waiting = path.with_name(path.name + ".part")
    with open(waiting, "wb", opener=_private) as file:  # Path.open takes no opener
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    waiting.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    # What people applied for is in here: for its owner's eyes, as the store is.
    return os.open(path, flags, 0o600)


def _is_whole(folder: Path, segment: Segment) -> bool:
    try:
        return (folder / segment.file).stat().st_size == segment.size_bytes
    except OSError:
        return False
