"""Exporting the log: a folder in the layout of C2SP tlog-tiles, with the payloads beside it.

Streamed in bundles of 256 entries, a few at once. Every file is written whole or not at all, so that an export that
broke off goes on where it was, and one of a log that has grown fetches only what is new. `checkpoint` comes last: a
folder that has it is finished.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from affiant.cli.services import Services
from affiant.common.errors import Conflict, Problem, Unavailable
from affiant.verify.program import WIDTH, Note, Unreadable, read_note, tile_path

FORMAT = "affiant-log/1"
AT_ONCE = 4
SECONDS = 60.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Range:
    """Entries `first` to below `last`; all there are from `first` on where `last` is None."""

    first: int = 0
    last: int | None = None

    def within(self, size: int) -> tuple[int, int]:
        """First and last as numbers. Raises `Problem` where the log of `size` entries does not have them."""
        last = size if self.last is None else self.last
        if not 0 <= self.first < last <= size:
            raise Problem(
                f"the log has no entries {self.first} to {last - 1}",
                hint=f"it has {size}; --from is the first, --to the one after the last, counted from 0",
            )
        return self.first, last


@dataclass(frozen=True)
class Exported:
    """What lies in the folder now."""

    origin: str
    size: int
    first: int
    last: int
    fetched: int


class LogExport:
    """One export into `folder`, which is made, or continued where it is one of the same entries."""

    def __init__(
        self, services: Services, folder: Path, wanted: Range, progress: Progress, *, cosigned: bool = False
    ) -> None:
        self._services = services
        self._folder = folder
        self._wanted = wanted
        self._progress = progress
        self._fetched = 0
        self._asked = {"cosigned": "true"} if cosigned else {}

    def run(self, key: str) -> Exported:
        """Fetch what is missing up to the newest checkpoint. Raises `Problem`; what was fetched stays."""
        signed, note, first, last = self._up_to_now()
        self._prepare(signed)
        self._fetch_all(signed.size, first, last)
        # What was erased while the payloads were fetched is told by entries that came after this checkpoint.
        while max(statements := self._erasures(first, last), default=0) >= signed.size:
            before = signed.size
            signed, note, first, last = self._up_to_now()
            if signed.size == before:
                raise Unavailable(
                    f"payloads were erased since the checkpoint over {before} entries, and there is no newer one yet",
                    hint="call it again in a moment: it goes on where it is",
                )
            self._fetch_all(signed.size, first, last)
        self._write_entries([one for one in statements if not first <= one < last], signed.size)
        self._write("export.json", self._manifest(signed, first, last))
        self._write("log.vkey", f"{key}\n".encode())
        self._write("checkpoint", note.encode())
        return Exported(signed.origin, signed.size, first, last, self._fetched)

    def _up_to_now(self) -> tuple[Note, str, int, int]:
        note = self._services.ask("auditor", "GET", "/checkpoint", params=self._asked).text
        signed = _read(note)
        return signed, note, *self._wanted.within(signed.size)

    def _erasures(self, first: int, last: int) -> list[int]:
        found = self._services.get("auditor", "/v1/erasures/entries", low=first, high=last)
        return [int(one) for one in found["entries"]]

    def _write_entries(self, indexes: list[int], size: int) -> None:
        """The erasures that this part of the log does not hold itself, each with its proof."""
        (self._folder / "entries.jsonl").unlink(missing_ok=True)
        if indexes:
            lines = [self._services.get("auditor", f"/entries/{index}", size=size) for index in indexes]
            self._write("entries.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())

    def _prepare(self, signed: Note) -> None:
        """The folder is new, or holds an export of the same log and range."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        begun = self._folder / "export.json"
        if not begun.exists():
            if any(self._folder.iterdir()):
                raise Conflict(f"{self._folder} is not empty", hint="choose a new folder: --out")
        else:
            before = json.loads(begun.read_text(encoding="utf-8"))
            ours = {"origin": signed.origin, "wanted": [self._wanted.first, self._wanted.last]}
            if {name: before.get(name) for name in ours} != ours:
                raise Conflict(
                    f"{self._folder} holds another export: {before.get('origin')}, entries {before.get('wanted')}",
                    hint="choose a new folder: --out",
                )
        # While files of two checkpoints lie beside each other the folder is not finished.
        (self._folder / "checkpoint").unlink(missing_ok=True)
        self._write("export.json", self._manifest(signed, *self._wanted.within(signed.size)))

    def _manifest(self, signed: Note, first: int, last: int) -> bytes:
        found = {"format": FORMAT, "origin": signed.origin, "size": signed.size, "first": first, "last": last}
        return json.dumps(found | {"wanted": [self._wanted.first, self._wanted.last]}, indent=1).encode() + b"\n"

    def _fetch_all(self, size: int, first: int, last: int) -> None:
        low, high = first // WIDTH, -(-last // WIDTH)
        with ThreadPoolExecutor(AT_ONCE, "export") as pool:
            # Before the bundles, which want the last of these too: no file is written by two threads at once.
            list(pool.map(self._fetch, _tree(size)))
            running: deque[Future[None]] = deque()
            try:
                for position in range(low, high):
                    # A few bundles at once, whatever the log's size.
                    while len(running) >= 2 * AT_ONCE:
                        running.popleft().result()
                    running.append(pool.submit(self._bundle, position, size))
                    self._progress(min(position * WIDTH, last) - first, last - first)
                while running:
                    running.popleft().result()
            finally:
                for one in running:
                    one.cancel()
        self._progress(last - first, last - first)

    def _bundle(self, position: int, size: int) -> None:
        name = tile_path(position, min(WIDTH, size - position * WIDTH))
        self._fetch(f"tile/0/{name}")
        self._fetch(f"tile/entries/{name}")
        narrow = {"low": self._wanted.first} if self._wanted.first else {}
        narrow |= {} if self._wanted.last is None else {"high": self._wanted.last}
        self._fetch(f"payload/{name}", **narrow)

    def _fetch(self, name: str, **parameters: int) -> None:
        if (self._folder / name).is_file():
            return
        answer = self._services.ask("auditor", "GET", f"/{name}", timeout=SECONDS, params=parameters)
        self._write(name, answer.content)
        self._fetched += 1
        _forget_narrower(self._folder / name)

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(data)
        draft.replace(path)


def _read(note: str) -> Note:
    try:
        return read_note(note)
    except Unreadable as error:
        raise Problem(f"the auditor's checkpoint cannot be read: {error}", status=500) from error


def _tree(size: int) -> Iterator[str]:
    """The tiles that lead from any part of a log to its root: all above the entries' own, and the last of those."""
    if size % WIDTH:
        yield f"tile/0/{tile_path(size // WIDTH, size % WIDTH)}"
    level, hashes = 1, size // WIDTH
    while hashes:
        for position in range(-(-hashes // WIDTH)):
            yield f"tile/{level}/{tile_path(position, min(WIDTH, hashes - position * WIDTH))}"
        level, hashes = level + 1, hashes // WIDTH


_PARTIAL = re.compile(r"(.*)\.p/[0-9]+")


def _forget_narrower(path: Path) -> None:
    """Partial files of a smaller log, which this one replaces."""
    partial = _PARTIAL.fullmatch(str(path))
    folder = Path(f"{partial[1] if partial else path}.p")
    if not partial:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for other in folder.iterdir():
        if other != path and other.name.isdigit() and int(other.name) < int(path.name):
            with suppress(FileNotFoundError):
                other.unlink()
