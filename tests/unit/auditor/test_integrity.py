"""What somebody changed in the store by hand is found: where it is read, and when the whole store is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from affiant.auditor.actions.integrity import Inspector
from affiant.auditor.store import entries
from affiant.common.errors import NotFound, Problem
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio

Change = Callable[[entries.Entry], dict[str, object]]
ALTERED: dict[str, tuple[Change, str]] = {
    "one byte of the payload": (lambda one: {"body": body(one)[:40] + b"!" + body(one)[41:]}, "payload is not"),
    "a word of the payload": (lambda one: {"body": body(one).replace(b"white", b"black")}, "payload is not"),
    "the salt": (lambda one: {"salt": bytes(16)}, "payload is not the one"),
    "no payload": (lambda one: {"body": None, "salt": None}, "payload was removed"),
    "the payload's hash": (lambda one: {"payload_hash": bytes(32)}, "payload is not the one"),
    "the time": (lambda one: {"time": "2020-01-01T00:00:00Z"}, "leaf is not the one"),
    "the type": (lambda one: {"type": "x"}, "leaf is not the one"),
}
REMOVED = {"entries": "was removed", "predictions": "its row in the table of predictions was removed"}


def body(entry: entries.Entry) -> bytes:
    assert entry.body is not None
    return entry.body


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


async def filled(auditor: Auditor, count: int = 12) -> list[str]:
    events = [examples.prediction(number) for number in range(1, count + 1)]
    await auditor.keep(*events)
    await auditor.signing.sign()
    return [event.prediction_id for event in events]


async def alter(auditor: Auditor, statement: str, *values: object) -> None:
    await auditor.writer.write(lambda connection: connection.execute(statement, values))


async def change(auditor: Auditor, index: int, change: Change) -> None:
    [entry] = await auditor.lookup.ask(lambda connection: entries.of(connection, [index]))
    for column, value in change(entry).items():
        await alter(auditor, f"UPDATE entries SET {column} = ? WHERE idx = ?", value, index)


async def another_tree(auditor: Auditor) -> None:
    tile = await auditor.lookup.ask(lambda connection: entries.tile(connection, 0, 0))
    await alter(auditor, "UPDATE tiles SET hashes = ? WHERE level = 0 AND position = 0", bytes(32) + tile[32:])


async def test_a_store_that_nobody_touched_is_intact(auditor: Auditor) -> None:
    await filled(auditor, 300)
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert (found.intact, found.size, found.checked, found.checkpoint_size) == (True, 300, 300, 300)
    assert found.damage == []


async def test_an_empty_store_is_intact(auditor: Auditor) -> None:
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert (found.intact, found.size, found.checked, found.checkpoint_size) == (True, 0, 0, 0)


@pytest.mark.parametrize("what", ALTERED)
async def test_an_altered_entry_is_never_shown_and_is_named(auditor: Auditor, what: str) -> None:
    logged = await filled(auditor)
    altered, words = ALTERED[what]
    await change(auditor, 4, altered)
    await check_that_4_is_named(auditor, logged, words)


@pytest.mark.parametrize("table", REMOVED)
async def test_a_removed_row_is_named(auditor: Auditor, table: str) -> None:
    logged = await filled(auditor)
    await alter(auditor, f"DELETE FROM {table} WHERE idx = 4")
    await check_that_4_is_named(auditor, logged, REMOVED[table])


async def check_that_4_is_named(auditor: Auditor, logged: list[str], words: str) -> None:
    for ask in (auditor.prover.prediction, auditor.prover.proof):
        with pytest.raises(Problem, match="entry 4 of the log was altered") as problem:
            await ask(logged[4])
        assert words in problem.value.message
        assert problem.value.status == 500
        assert "evidence" in problem.value.hint
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert not found.intact
    assert found.damage[0].index == 4
    assert words in found.damage[0].said
    assert (await auditor.prover.prediction(logged[5])).index == 5


async def test_an_altered_explanation_is_not_shown_with_its_prediction(auditor: Auditor) -> None:
    event = examples.prediction(1, adverse=True)
    await auditor.keep(event, examples.explained(event.prediction_id))
    await change(auditor, 1, lambda one: {"body": b"{}"})
    with pytest.raises(Problem, match="entry 1 of the log was altered"):
        await auditor.prover.prediction(event.prediction_id)


async def test_a_tree_that_was_made_to_fit_does_not_lead_to_the_signed_root(auditor: Auditor) -> None:
    logged = await filled(auditor)
    await another_tree(auditor)
    with pytest.raises(Problem, match="entry 7 of the log was altered: the tree does not lead"):
        await auditor.prover.prediction(logged[7])
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert "the log was rewritten" in found.damage[0].said
    assert any("do not lead to the root" in one.said for one in found.damage)


async def test_nothing_is_signed_over_a_tree_that_changed_while_the_auditor_runs(auditor: Auditor) -> None:
    await filled(auditor)
    await another_tree(auditor)
    await auditor.keep(examples.prediction(13))
    signed = await auditor.signing.sign()
    assert signed is not None
    assert signed.size == 12
    assert "rewritten" in auditor.signing.fault


async def test_a_checkpoint_that_the_key_did_not_sign_is_found(auditor: Auditor) -> None:
    logged = await filled(auditor)
    await auditor.writer.write(lambda c: c.execute("UPDATE checkpoints SET note = replace(note, '12', '13')"))
    with pytest.raises(Problem, match="checkpoint over 12 entries was altered"):
        await auditor.prover.proof(logged[0])
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert any("not the one that was signed" in one.said for one in found.damage)


async def test_an_entry_that_was_put_in_is_found(auditor: Auditor) -> None:
    await filled(auditor)
    columns = "type, source, subject, time, audited_at, payload_hash, salt, body"
    copied = f"INSERT INTO entries (idx, event_id, {columns}) SELECT 99, 'forged', {columns} FROM entries WHERE idx = 4"
    await auditor.writer.write(lambda c: c.execute(copied))
    with pytest.raises(Problem, match="entry 99 of the log was altered"):
        await auditor.prover.prediction("forged")
    found = await Inspector(auditor.lookup, auditor.signing).look()
    assert [one.index for one in found.damage] == [99]


async def test_a_large_log_is_sampled_and_the_answer_says_so(auditor: Auditor) -> None:
    await filled(auditor, 1_500)
    found = await Inspector(auditor.lookup, auditor.signing, most=512).look()
    assert (found.intact, found.size) == (True, 1_500)
    assert found.checked == 256 + 1_500 % 256


async def test_an_unknown_id_stays_unknown_in_a_whole_log(auditor: Auditor) -> None:
    await filled(auditor)
    with pytest.raises(NotFound):
        await auditor.prover.prediction("nobody")
