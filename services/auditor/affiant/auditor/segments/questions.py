"""Questions over segments and what is not sealed yet, answered by DuckDB inside this process.

DuckDB keeps no database here: it reads the Parquet files of one folder, and tables in memory, and may do nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from affiant.auditor.domain.conditions import Condition
from affiant.auditor.segments.columns import INPUT, PROTECTED, kinds
from affiant.auditor.segments.manifest import Segment
from affiant.common.errors import Unavailable

_encode = msgspec.json.Encoder().encode
_ROW = '"row"'
THREADS = 2
MEMORY_MIB = 512


@dataclass(frozen=True)
class Wanted:
    """Which rows; None asks for any. Times in UTC as stored, `since` inclusive; `labels` are JSON texts."""

    model: str | None = None
    version: int | None = None
    digest: str | None = None
    status: str | None = None
    labels: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment: sealed segments, and for each model the rows that are not sealed yet."""

    segments: tuple[Segment, ...]
    tails: Mapping[str, pa.Table]
    size: int

    def column_kinds(self, model: str | None) -> dict[str, str]:
        """The same columns by their full names (`in.income`), each with what it holds; `text` where that differs."""
        found: dict[str, str] = {}
        held = [(name, kind) for one in self.segments if model in (None, one.model)
                for name, (_, kind) in one.columns.items()]  # fmt: skip
        for one, table in self.tails.items():
            held += kinds(table).items() if model in (None, one) else ()
        for name, kind in held:
            before = found.get(name, "nothing")
            found[name] = kind if before in ("nothing", kind) else before if kind == "nothing" else "text"
        return dict(sorted(found.items()))

    def column_names(self, model: str | None) -> set[str]:
        """The input and protected columns that predictions of a model, or of any, have values of."""
        held = [name for one in self.segments if model in (None, one.model) for name in one.columns]
        held += [name for one, table in self.tails.items() if model in (None, one) for name in kinds(table)]
        return {name.removeprefix(INPUT) if name.startswith(INPUT) else name.removeprefix(PROTECTED) for name in held}


@dataclass(frozen=True)
class _Source:
    """Something that can stand after FROM, and what its input and protected columns are called and hold."""

    relation: str
    columns: Mapping[str, tuple[str, str]]


class Engine:
    """DuckDB over the files of one folder. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database: duckdb.DuckDBPyConnection | None = None

    def open(self) -> None:
        """Start DuckDB: no file but the segments' can be read, none written, no extension loaded."""
        database = duckdb.connect(":memory:", config={"threads": THREADS, "memory_limit": f"{MEMORY_MIB}MiB"})
        database.execute(f"SET allowed_directories = [{_quoted(str(self._folder))}]")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        self._database = database

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def group_counts(self, snapshot: Snapshot, wanted: Wanted, column: str) -> list[tuple[str, int, int]]:
        """(JSON text, decided rows, favourable ones) by value of a protected column, where it was told at all."""
        name = PROTECTED + column

        def select(source: _Source, where: str) -> str | None:
            if name not in source.columns:
                return None
            held = _name(source.columns[name][0])
            return f"SELECT {held} AS value, adverse FROM {source.relation} WHERE {held} IS NOT NULL AND {where}"

        summed = "SELECT value, count(adverse), count(*) FILTER (NOT adverse) FROM ({rows}) WHERE adverse IS NOT NULL"
        return self._ask(snapshot, wanted, select, summed + " GROUP BY value")

    def places(
        self, snapshot: Snapshot, wanted: Wanted, before: tuple[str, int] | None, adverse: bool | None, limit: int
    ) -> list[tuple[str, int]]:
        """(received_at, entry) of the newest predictions that have a row like that, newest first."""

        def select(source: _Source, where: str) -> str:
            return f"SELECT received_at, idx FROM {source.relation} WHERE {where}{_adverse(adverse)}"

        end, values = ("WHERE (received_at, idx) < (?, ?)", list(before)) if before else ("", [])
        last = "ORDER BY received_at DESC, idx DESC LIMIT ?"
        asked = f"SELECT DISTINCT received_at, idx FROM ({{rows}}) {end} {last}"
        return self._ask(snapshot, wanted, select, asked, [*values, limit])

    def all_places(
        self, snapshot: Snapshot, wanted: Wanted, adverse: bool | None, size: int
    ) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The entries below `size` of all predictions that have a row like that, oldest first: 8 bytes for each."""

        def select(source: _Source, where: str) -> str:
            return f"SELECT received_at, idx FROM {source.relation} WHERE {where}{_adverse(adverse)}"

        asked = "SELECT DISTINCT received_at, idx FROM ({rows}) WHERE idx < ? ORDER BY received_at, idx"
        with self._answer(snapshot, wanted, select, asked, [size]) as answer:
            found: Any = [] if answer is None else answer.fetchnumpy()["idx"]
        return np.asarray(found, np.int64)

    def counts(self, snapshot: Snapshot, wanted: Wanted, by: Sequence[str]) -> list[tuple[Any, ...]]:
        """(…by, predictions, decided rows, adverse rows, mean score) for each combination of `by`:
        `version`, `label`, `day`, `status`."""
        known = {"version": "version", "label": "label", "status": "status", "day": "left(received_at, 10)"}
        keys = ", ".join(f"{known[name]} AS {name}" for name in by)

        def select(source: _Source, where: str) -> str:
            return f"SELECT {keys}, idx, adverse, score FROM {source.relation} WHERE {where}"

        names = ", ".join(by)
        asked = (
            f"SELECT {names}, count(DISTINCT idx), count(adverse), count(*) FILTER (adverse), avg(score) "
            f"FROM ({{rows}}) GROUP BY {names} ORDER BY {names}"
        )
        return self._ask(snapshot, wanted, select, asked)

    def values(self, snapshot: Snapshot, wanted: Wanted, name: str) -> tuple[np.ndarray[Any, Any], int]:
        """The values of `score` or of an input by its full name (`in.income`), and how many rows miss theirs: as
        numbers where every segment that has the column holds numbers, otherwise as text."""
        found = [source for source, _ in self._sources(snapshot, wanted) if name in source.columns]
        numeric = name == "score" or all(source.columns[name][1] in ("number", "nothing") for source in found)
        type_ = "DOUBLE" if numeric else "VARCHAR"

        def select(source: _Source, where: str) -> str:
            held = _name(source.columns[name][0]) if name in source.columns else "score" if name == "score" else "NULL"
            rows = f"{source.relation} WHERE {_ROW} IS NOT NULL AND {where}"
            return f"SELECT CAST({held} AS {type_}) AS value FROM {rows}"

        with self._answer(snapshot, wanted, select, "SELECT value FROM ({rows})") as answer:
            held: Any = np.array([]) if answer is None else answer.fetchnumpy()["value"]
        absent: Any = np.ma.getmaskarray(held)  # type: ignore[no-untyped-call]
        return np.asarray(held[~absent]), int(absent.sum())

    def _ask(
        self,
        snapshot: Snapshot,
        wanted: Wanted,
        select: Callable[[_Source, str], str | None],
        question: str,
        values: Sequence[Any] = (),
    ) -> list[tuple[Any, ...]]:
        """The answer to `question` over the rows that `select` takes from each source."""
        with self._answer(snapshot, wanted, select, question, values) as answer:
            return answer.fetchall() if answer else []

    @contextmanager
    def _answer(
        self,
        snapshot: Snapshot,
        wanted: Wanted,
        select: Callable[[_Source, str], str | None],
        question: str,
        values: Sequence[Any] = (),
    ) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """What `question` can be fetched from; None where no source has such rows."""
        if self._database is None:
            raise Unavailable("the columns are not open", hint="try again in a moment")
        parts: list[str] = []
        bound: list[Any] = []
        with self._database.cursor() as cursor:
            for source, table in self._sources(snapshot, wanted):
                where, more = _where(source, wanted)
                part = select(source, where)
                if part is not None:
                    parts.append(part)
                    bound += more
                    if table is not None:
                        cursor.register(source.relation, table)
            rows = " UNION ALL ".join(parts)
            yield cursor.execute(question.format(rows=rows), [*bound, *values]) if parts else None

    def _sources(self, snapshot: Snapshot, wanted: Wanted) -> list[tuple[_Source, pa.Table | None]]:
        """The files that may hold such rows, those with the same columns together, and the tails."""
        alike: dict[tuple[tuple[str, tuple[str, str]], ...], list[str]] = defaultdict(list)
        for segment in snapshot.segments:
            if _may_hold(segment, wanted):
                alike[tuple(sorted(segment.columns.items()))].append(str(self._folder / segment.file))
        found: list[tuple[_Source, pa.Table | None]] = [
            (_Source(f"read_parquet([{', '.join(map(_quoted, files))}])", dict(columns)), None)
            for columns, files in alike.items()
        ]
        for number, (model, table) in enumerate(snapshot.tails.items()):
            if wanted.model in (None, model):
                # DuckDB itself tells names in a table apart that differ by case only: as `Age` and `Age_1`.
                own = {name: (f"c{place}", kind) for place, (name, kind) in enumerate(kinds(table).items())}
                renamed = table.rename_columns([own.get(name, (name, ""))[0] for name in table.column_names])
                found.append((_Source(f"tail{number}", own), renamed))
        return found


def _may_hold(segment: Segment, wanted: Wanted) -> bool:
    if wanted.model not in (None, segment.model):
        return False
    if wanted.since is not None and segment.last_received < wanted.since:
        return False
    return wanted.until is None or segment.first_received < wanted.until


def _where(source: _Source, wanted: Wanted) -> tuple[str, list[Any]]:
    clauses, values = ["true"], list[Any]()
    for clause, value in (
        ("model = ?", wanted.model),
        ("version = ?", wanted.version),
        ("digest = ?", wanted.digest),
        ("status = ?", wanted.status),
        ("received_at >= ?", wanted.since),
        ("received_at < ?", wanted.until),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if wanted.labels:
        clauses.append(f"label IN ({', '.join('?' * len(wanted.labels))})")
        values += wanted.labels
    for condition in wanted.where:
        clause, more = _compared(source, condition)
        clauses.append(clause)
        values += more
    return " AND ".join(clauses), values


def _adverse(wanted: bool | None) -> str:
    return "" if wanted is None else " AND adverse" if wanted else " AND NOT adverse"


def _compared(source: _Source, condition: Condition) -> tuple[str, list[Any]]:
    """The condition on this source's column. A missing value fulfils nothing but `column=`."""
    own = source.columns.get(INPUT + condition.column) or source.columns.get(PROTECTED + condition.column)
    is_missing = condition.text == ""
    if own is None or own[1] == "nothing":
        return (f"{_ROW} IS NOT NULL" if is_missing and condition.comparison == "=" else "false"), []
    name, kind = _name(own[0]), own[1]
    if is_missing:
        absent = {"json": f"({name} IS NULL OR {name} IN ('null', '\"\"'))", "text": f"({name} IS NULL OR {name} = '')"}
        told = absent.get(kind, f"{name} IS NULL")
        return (f"{told} AND {_ROW} IS NOT NULL" if condition.comparison == "=" else f"NOT {told}"), []
    if condition.comparison in ("=", "!="):
        return _equal(name, kind, condition)
    return f"TRY_CAST({name} AS DOUBLE) {condition.comparison} ?", [condition.number]


def _equal(name: str, kind: str, condition: Condition) -> tuple[str, list[Any]]:
    text = _encode(condition.text).decode() if kind == "json" else condition.text
    values: list[Any]
    if condition.number is None:
        # A boolean reads as true or false; in JSON it stands without quotes.
        bare = f" OR {name} = ?" if kind == "json" and condition.text in ("true", "false") else ""
        clause, values = f"(CAST({name} AS VARCHAR) = ?{bare})", [text, *([condition.text] if bare else [])]
    else:
        clause = f"(CAST({name} AS VARCHAR) = ? OR coalesce(TRY_CAST({name} AS DOUBLE) = ?, false))"
        values = [text, condition.number]
    if condition.comparison == "=":
        return clause, values
    absent = f" AND {name} NOT IN ('null', '\"\"')" if kind == "json" else ""
    return f"({name} IS NOT NULL{absent} AND NOT {clause})", values


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
