"""The columns: sealed segments and what is not sealed yet are one thing, and say what the row store says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from affiant.auditor.actions import measure
from affiant.auditor.actions.columns import Columns
from affiant.auditor.domain.conditions import condition
from affiant.auditor.domain.views import PredictionLine
from affiant.auditor.segments.questions import Wanted
from affiant.auditor.store import restated
from affiant.auditor.store.queries import Filter
from affiant.common.errors import NotFound, Problem
from affiant.common.events import PredictionLogged, TensorData
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.columns.close()
    auditor.writer.close()


def tensor(name: str, *values: Any) -> TensorData:
    return TensorData(name=name, datatype="BYTES", shape=[len(values), 1], data=list(values))


def made(number: int, **fields: Any) -> PredictionLogged:
    """A varied prediction; each third is adverse."""
    races = ["white", "black", "", "other"]
    given = {"race": races[number % 4], "age": 20.0 + number % 50, "adverse": number % 3 == 0} | fields
    return examples.prediction(number, **given)


async def found(auditor: Auditor, *where: str, **wanted: Any) -> list[PredictionLine]:
    page = await auditor.lookup.predictions(Filter(where=tuple(condition(one) for one in where), **wanted), 1_000, None)
    return page.predictions


async def numbers(auditor: Auditor, *where: str, **wanted: Any) -> list[int]:
    return sorted(line.sequence for line in await found(auditor, *where, **wanted))


async def test_input_values_are_found_sealed_or_not(auditor: Auditor) -> None:
    await auditor.keep(examples.registered(), *[made(number) for number in range(1, 31)])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*[made(number) for number in range(31, 41)])
    assert await numbers(auditor, "age>=48", "age<52") == [28, 29, 30, 31]
    assert await numbers(auditor, "race=black", "age<30") == [1, 5, 9]
    assert await numbers(auditor, "race=", "age<25") == [2]
    assert await numbers(auditor, "race!=white", "age<25") == [1, 3]


async def test_a_label_and_a_condition_are_of_one_row(auditor: Auditor) -> None:
    two = msgspec.structs.replace(
        examples.prediction(1),
        inputs=[tensor("age", 30.0, 60.0)],
        context=[tensor("race", "white", "black")],
        labels=["yes", "no"],
        scores=[0.9, 0.1],
        adverse=[False, True],
    )
    await auditor.keep(two)
    assert await numbers(auditor, "age>50", label="no", adverse=True) == [1]
    assert await numbers(auditor, "age>50", label="yes") == []


async def test_pages_over_columns_follow_one_another_without_a_gap_or_a_repetition(auditor: Auditor) -> None:
    await auditor.keep(*[made(number, received_at="2026-11-23T12:00:00Z") for number in range(1, 24)])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*[made(number, received_at="2026-11-23T12:00:00Z") for number in range(24, 30)])
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await auditor.lookup.predictions(Filter(where=(condition("age>0"),)), 5, cursor)
        seen += [line.sequence for line in page.predictions]
        if (cursor := page.next) is None:
            break
    assert seen == list(range(29, 0, -1))


async def test_a_column_that_nothing_has_is_named(auditor: Auditor) -> None:
    await auditor.keep(made(1))
    with pytest.raises(NotFound, match="column 'agee'") as refused:
        await found(auditor, "agee<30")
    assert "age, race" in str(refused.value.hint)


@pytest.mark.parametrize("written", ["age", "<3", "race<white"])
async def test_what_is_no_condition_is_refused(written: str) -> None:
    with pytest.raises(Problem):
        condition(written)


async def test_both_shapes_of_the_record_give_the_same_group_rates(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [
        examples.prediction(number, context=[tensor("race", value)], adverse=number % 2 == 0)
        for number, value in enumerate([True, False, None, 1, 1.0, 30, "30", "", "Ünï\n"], start=100)
    ]
    few = [made(number) for number in range(1, 60)]
    await auditor.keep(examples.registered(), *few[:40], examples.prediction(99, undecided=True))
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*few[40:], *odd)
    for column in ("race", "age"):
        slow = await auditor.measure.fairness(examples.MODEL, column, None, None, None, None)
        monkeypatch.setattr(measure, "MANY_ROWS", 0)
        fast = await auditor.measure.fairness(examples.MODEL, column, None, None, None, None)
        monkeypatch.undo()
        assert fast == slow


async def test_columns_of_every_kind_survive_sealing(auditor: Auditor) -> None:
    kinds: list[Any] = [1, 2.5, "car", True, None, 2**70, "", "7"]
    events = [
        examples.prediction(number, inputs=[tensor("Age", value), tensor("age", number), tensor('o"dd', "x")])
        for number, value in enumerate(kinds, start=1)
    ]
    for event in events:
        await auditor.keep(event)
        auditor.columns.follow()
        if event is events[3]:
            auditor.columns.seal()
    assert await numbers(auditor, "age<=2") == [1, 2]
    assert await numbers(auditor, "Age=car") == [3]
    assert await numbers(auditor, "Age>2") == [2, 6, 8]
    assert await numbers(auditor, "Age=true") == [4]
    assert await numbers(auditor, "Age=") == [5, 7]
    assert await numbers(auditor, 'o"dd=x', "Age=7") == [8]


async def test_a_request_that_came_to_nothing_is_found_by_its_digest(auditor: Auditor) -> None:
    await auditor.keep(examples.prediction(1, undecided=True), examples.prediction(2, digest="sha256:other"))
    assert await numbers(auditor, digest=examples.spec().digest) == [1]


async def test_small_segments_of_a_model_grow_together(auditor: Auditor) -> None:
    for batch in range(8):
        await auditor.keep(*[made(number) for number in range(batch * 5 + 1, batch * 5 + 6)])
        auditor.columns.follow()
        auditor.columns.seal()
    with auditor.columns.snapshot() as snapshot:
        assert [segment.rows for segment in snapshot.segments] == [40]
    assert len(list(auditor.columns.folder.glob("*.parquet"))) == 1
    assert await numbers(auditor, "age>0") == list(range(1, 41))


async def test_an_erased_payload_leaves_segments_and_memory(auditor: Auditor) -> None:
    events = [made(number) for number in range(1, 21)]
    await auditor.keep(*events[:10])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(*events[10:])
    auditor.columns.follow()
    before = {path.name for path in auditor.columns.folder.glob("*.parquet")}
    await erase(auditor, 4, 14)
    await auditor.columns.forget()
    after = list(auditor.columns.folder.glob("*.parquet"))
    assert not before & {path.name for path in after}
    assert not any(events[4].prediction_id.encode() in path.read_bytes() for path in after)
    assert await numbers(auditor, "age>0") == [number for number in range(1, 21) if number not in (5, 15)]


async def test_what_is_erased_is_not_answered_even_before_it_left_the_disk(auditor: Auditor) -> None:
    await auditor.keep(*[made(number) for number in range(1, 4)])
    auditor.columns.follow()
    auditor.columns.seal()
    await erase(auditor, 1)
    assert await numbers(auditor, "age>0") == [1, 3]


async def test_an_erasure_waits_for_the_question_that_still_reads(auditor: Auditor) -> None:
    await auditor.keep(*[made(number) for number in range(1, 4)])
    auditor.columns.follow()
    auditor.columns.seal()
    with auditor.columns.snapshot() as snapshot:
        await erase(auditor, 1)
        assert not auditor.columns.settle(seconds=0)
        assert len(auditor.columns.engine.places(snapshot, Wanted(), None, None, 10)) == 3
    assert auditor.columns.settle(seconds=0)


async def test_values_that_a_late_registration_protects_reach_sealed_segments(auditor: Auditor) -> None:
    await auditor.keep(*[made(number) for number in range(1, 4)])
    auditor.columns.follow()
    auditor.columns.seal()
    await auditor.keep(examples.registered())
    await auditor.measure.fill()
    counted = await auditor.lookup.columnar(lambda engine, at: engine.group_counts(at, Wanted(), "age"))
    assert sorted(counted) == [("21.0", 1, 1), ("22.0", 1, 1), ("23.0", 1, 0)]


async def test_a_process_that_is_killed_while_it_seals_leaves_nothing_behind(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await auditor.keep(*[made(number) for number in range(1, 8)])
    auditor.columns.follow()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("affiant.auditor.actions.columns.manifest.save", killed)
    with pytest.raises(KeyboardInterrupt):
        auditor.columns.seal()
    monkeypatch.undo()
    (auditor.columns.folder / "manifest.json.part").write_bytes(b"{")
    again = Columns(auditor.database, auditor.columns.folder)
    again.open()
    again.follow()
    with again.snapshot() as snapshot:
        assert len(again.engine.places(snapshot, Wanted(), None, None, 100)) == 7
    assert [path.name for path in again.folder.iterdir()] == ["manifest.json"]
    again.close()


@pytest.mark.parametrize("harm", ["segment gone", "segment cut", "manifest torn", "another log"])
async def test_damaged_segments_are_made_again(auditor: Auditor, harm: str) -> None:
    await auditor.keep(*[made(number) for number in range(1, 8)])
    auditor.columns.follow()
    auditor.columns.seal()
    auditor.columns.close()
    segment, torn = next(auditor.columns.folder.glob("*.parquet")), auditor.columns.folder / "manifest.json"
    if harm == "segment gone":
        segment.unlink()
    elif harm == "segment cut":
        os.truncate(segment, 100)
    elif harm == "manifest torn":
        os.truncate(torn, 100)
    else:
        torn.write_text(torn.read_text().replace('"anchor": "', '"anchor": "00'))
    again = Columns(auditor.database, auditor.columns.folder)
    again.open()
    with again.snapshot() as snapshot:
        assert (len(snapshot.segments), snapshot.size) == (0, 7)
        assert len(again.engine.places(snapshot, Wanted(), None, None, 100)) == 7
    again.close()


async def test_duckdb_may_read_nothing_but_the_segments(auditor: Auditor, tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "secret.csv").write_text("a\n1\n")
    database = auditor.columns.engine._database
    assert database is not None
    with pytest.raises(duckdb.PermissionException):
        database.execute(f"SELECT * FROM '{tmp_path / 'secret.csv'}'")


async def erase(auditor: Auditor, *indexes: int) -> None:
    """What an erasure does to the store, as far as the columns go."""

    def work(connection: Any) -> None:
        for idx in indexes:
            connection.execute("UPDATE entries SET body = NULL, salt = NULL WHERE idx = ?", (idx,))
        restated.add(connection, indexes)

    await auditor.writer.write(work)
