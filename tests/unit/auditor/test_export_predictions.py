"""Exporting predictions: every one of them, in each form, and nothing that a spreadsheet carries out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from affiant.auditor.actions import export as exports
from affiant.auditor.actions.export import Export, Form
from affiant.auditor.domain.conditions import condition
from affiant.auditor.domain.sheet import harmless
from affiant.auditor.store.queries import Filter
from affiant.common.errors import Problem
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened
from tests.unit.auditor.test_columns import made, tensor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.columns.close()
    auditor.writer.close()


async def exported(auditor: Auditor, form: Form, wanted: Filter | None = None) -> bytes:
    number, chunks = await Export(auditor.lookup).stream(wanted or Filter(), form, lambda first, last: None)
    data = b"".join([chunk async for chunk in chunks])
    if form == "jsonl":
        assert data.count(b"\n") == number
    return data


def parquet(data: bytes) -> pa.Table:
    # read_table leaves threads behind that abort the process at its end.
    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


async def test_json_lines_are_the_full_events_oldest_first(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    times = ["2026-11-23T12:00:00.000000Z"] * 5 + ["2026-11-22T12:00:00.000000Z"] * 5
    events = [made(number, received_at=at) for number, at in enumerate(times, start=1)]
    await auditor.keep(examples.registered(), *events)
    lines = [json.loads(line) for line in (await exported(auditor, "jsonl")).splitlines()]
    assert [line["event"] for line in lines] == [msgspec.to_builtins(event) for event in [*events[5:], *events[:5]]]
    assert [line["index"] for line in lines] == [6, 7, 8, 9, 10, 1, 2, 3, 4, 5]


async def test_csv_and_parquet_hold_one_row_for_each_row_with_its_inputs(auditor: Auditor) -> None:
    two = msgspec.structs.replace(
        made(1),
        inputs=[tensor("age", 30.0, 60.5)],
        context=[tensor("race", "white", None)],
        labels=["yes", "no"],
        scores=[0.9, 0.1],
        adverse=[False, True],
    )
    await auditor.keep(two, examples.prediction(2, undecided=True, error="too few"))
    rows = rows_of(await exported(auditor, "csv"))
    wanted = ("row", "label", "adverse", "in.age", "protected.race", "status", "error")
    assert [[row[name] for name in wanted] for row in rows] == [
        ["0", "yes", "False", "30.0", "white", "answered", ""],
        ["1", "no", "True", "60.5", "", "answered", ""],
        ["", "", "", "", "", "failed", "too few"],
    ]
    table = parquet(await exported(auditor, "parquet"))
    assert table.column("in.age").to_pylist() == [30.0, 60.5, None]
    assert table.column("label").to_pylist() == ["yes", "no", None]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
async def test_every_form_holds_what_the_filter_lets_through(
    auditor: Auditor, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 4)
    monkeypatch.setattr(exports, "ROW_GROUP_PAGES", 2)
    await auditor.keep(*[made(number) for number in range(1, 31)])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*[made(number) for number in range(31, 41)])
    for wanted, sequences in (
        (Filter(), range(1, 41)),
        (Filter(where=(condition("age<40"),)), range(1, 20)),
        (Filter(adverse=True), range(3, 40, 3)),
    ):
        data = await exported(auditor, form, wanted)
        if form == "parquet":
            found = parquet(data).column("idx").to_pylist()
        else:
            found = (
                [json.loads(line)["index"] for line in data.splitlines()]
                if form == "jsonl"
                else [int(row["idx"]) for row in rows_of(data)]
            )
        assert found == [number - 1 for number in sequences]


async def test_an_altered_entry_breaks_the_export_off(auditor: Auditor) -> None:
    await auditor.keep(*[made(number) for number in range(1, 4)])
    await auditor.writer.write(lambda c: c.execute("UPDATE entries SET body = ? WHERE idx = 1", (b"{}",)))
    with pytest.raises(Problem, match="entry 1 of the log was altered"):
        await exported(auditor, "jsonl")


async def test_what_is_recorded_while_it_runs_is_not_in_it(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    await auditor.keep(*[made(number) for number in range(1, 6)])
    number, chunks = await Export(auditor.lookup).stream(Filter(), "jsonl", lambda first, last: None)
    first = await anext(chunks)
    await auditor.keep(made(6))
    rest = b"".join([chunk async for chunk in chunks])
    assert (first + rest).count(b"\n") == number == 5


async def test_what_leaves_is_noted_before_it_does(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    await auditor.keep(made(1), examples.registered(), *[made(number) for number in range(2, 5)])
    noted: list[tuple[int, int]] = []
    _, chunks = await Export(auditor.lookup).stream(Filter(), "jsonl", lambda *read: noted.append(read))
    await anext(chunks)
    assert noted == [(0, 1), (2, 3)]
    async for _ in chunks:
        pass
    assert noted == [(0, 1), (2, 3), (3, 5)]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-5", "'-5"),
        ("\t=1", "'\t=1"),
        (-5, -5),
        ("car", "car"),
        (None, None),
    ],
)
async def test_no_text_is_a_formula_to_a_spreadsheet(cell: Any, written: Any) -> None:
    assert harmless(cell) == written


async def test_a_formula_among_the_inputs_is_harmless_in_csv_and_itself_elsewhere(auditor: Auditor) -> None:
    await auditor.keep(made(1, inputs=[tensor("=name", "=1+1")]))
    (row,) = rows_of(await exported(auditor, "csv"))
    assert row["in.=name"] == "'=1+1"
    assert parquet(await exported(auditor, "parquet")).column("in.=name").to_pylist() == ["=1+1"]
