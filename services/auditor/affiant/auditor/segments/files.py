"""Writing and reading single segments."""

from __future__ import annotations

import io
from collections.abc import Collection
from hashlib import sha256
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from affiant.auditor.segments import columns, manifest
from affiant.auditor.segments.manifest import Segment
from affiant.common.ids import MODEL_NAME

ROW_GROUP = 32_768
"""Rows that DuckDB skips together where their times are outside of what was asked for."""


def write(folder: Path, table: pa.Table, low: int, high: int) -> Segment:
    """Seal `table` (rows of one model) in a file of its own: on the disk when this returns."""
    table = table.sort_by([("received_at", "ascending"), ("idx", "ascending"), ("row", "ascending")])
    kinds = columns.kinds(table)
    names = _file_names(table.column_names)
    sink = io.BytesIO()
    # Few distinct texts repeat in millions of rows; ids and times do not.
    plain = {"idx", "prediction_id", "received_at", "score"}
    dictionary = [names[name] for name in table.column_names if name not in plain]
    pq.write_table(
        table.rename_columns([names[name] for name in table.column_names]),
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP,
        use_dictionary=dictionary,
    )
    model = table.column("model")[0].as_py()
    file = _unused(folder, f"{_in_path(model)}-{low:012d}-{high:012d}")
    manifest.replace(folder / file, sink.getvalue())
    times = pc.min_max(table.column("received_at"))
    return Segment(
        file=file,
        model=model,
        low=low,
        high=high,
        rows=len(table),
        size_bytes=len(sink.getbuffer()),
        first_received=times["min"].as_py(),
        last_received=times["max"].as_py(),
        columns={name: (names[name], kind) for name, kind in kinds.items()},
    )


def read(folder: Path, segment: Segment) -> pa.Table:
    """Its rows, with the columns' own names."""
    # pyarrow 22 leaves threads behind that prefetch, and the process then aborts at its end as often as not.
    with pq.ParquetFile(folder / segment.file, pre_buffer=False) as file:
        table = file.read(use_threads=False)
    own = {name: logical for logical, (name, _) in segment.columns.items()}
    return table.rename_columns([own.get(name, name) for name in table.column_names])


def without(table: pa.Table, indexes: Collection[int]) -> pa.Table:
    """The rows that are not of these entries."""
    return table.filter(pc.invert(pc.is_in(table.column("idx"), pa.array(indexes, pa.int64()))))


def remove(folder: Path, names: Collection[str]) -> None:
    """Remove files, durably."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    manifest.sync_folder(folder)


def orphans(folder: Path, known: Collection[str]) -> list[str]:
    """What a crash left behind: files that no manifest names."""
    return [
        path.name for path in folder.iterdir() if (path.name.endswith((".parquet", ".part"))) and path.name not in known
    ]


def _in_path(model: str) -> str:
    """A model's name as part of a file's: what outside systems call theirs may hold slashes and stars."""
    return model if MODEL_NAME.fullmatch(model) else f"~{sha256(model.encode()).hexdigest()[:16]}"


def _unused(folder: Path, name: str) -> str:
    """A segment that is written anew over the same entries must not touch the file that is being read."""
    names = (f"{name}.parquet" if number == 0 else f"{name}.{number}.parquet" for number in count())
    return next(file for file in names if not (folder / file).exists())


def _file_names(names: list[str]) -> dict[str, str]:
    """A name for each column that differs from every other one by more than the case of its letters."""
    taken: set[str] = set()
    found = {}
    for name in names:
        wanted = name
        for number in count(2):
            if wanted.lower() not in taken:
                break
            wanted = f"{name}~{number}"
        taken.add(wanted.lower())
        found[name] = wanted
    return found
