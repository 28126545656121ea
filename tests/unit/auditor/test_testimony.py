"""Outcomes and overrides: linked to their decision, superseded, counted, compared by group."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.errors import TimeoutError as NatsTimeout

from affiant.auditor.actions.depositions import Depositions, batches
from affiant.auditor.domain import errors
from affiant.common import bus, ids, wire
from affiant.common.errors import NotFound, Problem, Unavailable
from affiant.common.events import DecisionOverridden, OutcomeRecorded
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor, opened

pytestmark = pytest.mark.anyio


class FakeBus:
    """Hands what is published to the auditor's own durable, as the bus does; `away` makes it time out."""

    def __init__(self, auditor: Auditor) -> None:
        self.auditor = auditor
        self.away = False
        self.messages = 0

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        if self.away:
            raise NatsTimeout
        self.messages += 1
        singles = wire.unbatched(body, headers)
        arrivals = [examples.raw(subject, one.body, dict(one.headers or {}), bus.AUDITOR_OWN) for one in singles]
        await self.auditor.writer.record(arrivals)


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


def telling(auditor: Auditor) -> tuple[Depositions, FakeBus]:
    depositions, fake = Depositions(auditor.lookup), FakeBus(auditor)
    depositions.open(fake)  # type: ignore[arg-type]
    return depositions, fake


def outcome(prediction_id: str, label: str | int = "yes", **fields: object) -> OutcomeRecorded:
    given: dict[str, object] = {"observed_at": ids.now(), "by": "ben", "model": ""}
    return OutcomeRecorded(prediction_id=prediction_id, label=label, **{**given, **fields})  # type: ignore[arg-type]


def override(prediction_id: str, decision: str = "yes", **fields: object) -> DecisionOverridden:
    given: dict[str, object] = {"overridden_at": ids.now(), "by": "ben", "model": "", "reason": "payslips"}
    return DecisionOverridden(prediction_id=prediction_id, decision=decision, **{**given, **fields})  # type: ignore[arg-type]


async def test_a_later_outcome_supersedes_an_earlier_one_and_both_stay(auditor: Auditor) -> None:
    event = examples.prediction(1, adverse=True)
    await auditor.keep(examples.registered(), event)
    depositions, _ = telling(auditor)
    for label in ("no", "yes"):
        assert (await depositions.tell([outcome(event.prediction_id, label)])).audited
    view = await auditor.prover.prediction(event.prediction_id)
    assert [line.event["label"] for line in view.outcomes if line.event] == ["no", "yes"]
    assert (await auditor.lookup.summary("loans")).outcomes == 1
    figures = await auditor.measure.accuracy("loans", None, None, None)
    assert figures.rates is not None
    assert (figures.rates.rows, figures.rates.false_negatives) == (1, 1)


async def test_an_override_is_an_entry_of_the_log_with_its_reason(auditor: Auditor) -> None:
    event = examples.prediction(1, adverse=True)
    await auditor.keep(examples.registered(), event)
    depositions, _ = telling(auditor)
    (event_id,) = (await depositions.tell([override(event.prediction_id)])).event_ids
    (line,) = (await auditor.prover.prediction(event.prediction_id)).overrides
    assert line.event is not None
    assert (line.event_id, line.index) == (event_id, 2)
    assert (line.event["decision"], line.event["reason"], line.event["by"]) == ("yes", "payslips", "ben")
    summary = await auditor.lookup.summary("loans")
    assert (summary.overridden, summary.size) == (1, 3)


async def test_nothing_is_said_of_a_decision_that_is_not_on_record(auditor: Auditor) -> None:
    event = examples.prediction(1)
    await auditor.keep(examples.registered(), event)
    depositions, fake = telling(auditor)
    with pytest.raises(NotFound, match="no prediction p9"):
        await depositions.tell([outcome(event.prediction_id), outcome("p9")])
    with pytest.raises(Problem, match="has 1 rows; there is no row 1"):
        await depositions.tell([outcome(event.prediction_id, row=1)])
    with pytest.raises(Problem, match="'maybe' is no class of loans/1"):
        await depositions.tell([outcome(event.prediction_id, "maybe")])
    with pytest.raises(Problem, match="needs a reason"):
        await depositions.tell([override(event.prediction_id, reason=" ")])
    assert fake.messages == 0


async def test_what_the_bus_did_not_take_is_said_and_leaves_no_trace(auditor: Auditor) -> None:
    event = examples.prediction(1)
    await auditor.keep(event)
    depositions, fake = telling(auditor)
    fake.away = True
    with pytest.raises(Unavailable, match="send it again"):
        try:
            await depositions.tell([outcome(event.prediction_id)])
        except Unavailable as error:
            raise Unavailable(error.hint) from error
    assert (await auditor.prover.prediction(event.prediction_id)).outcomes == []


async def test_many_statements_travel_in_few_messages(auditor: Auditor) -> None:
    events = [examples.prediction(number) for number in range(1, 501)]
    await auditor.keep(*events)
    depositions, fake = telling(auditor)
    told = await depositions.tell([outcome(event.prediction_id) for event in events])
    assert (len(told.event_ids), told.audited, fake.messages) == (500, True, 3)
    assert (await auditor.lookup.summary("loans")).outcomes == 500


def test_a_message_of_statements_stays_below_the_bus_limit() -> None:
    events = [outcome(f"p{number}", model="loans", comment="x" * 4_000) for number in range(200)]
    sent = list(batches([wire.encode(event, owner="auditor") for event in events]))
    assert sum(map(len, sent)) == 200
    assert all(len(wire.batched(batch).body) < wire.MAX_EVENT_BYTES for batch in sent)


async def test_an_outside_system_may_tell_outcomes_and_a_malformed_one_is_refused_with_the_reason(
    auditor: Auditor,
) -> None:
    event = examples.prediction(1)
    await auditor.keep(event)
    message = wire.encode(outcome(event.prediction_id, model="loans", by="bank"), owner="outside")
    assert message.subject == "affiant.outside.outcome_recorded.v1.loans"
    good = examples.raw(message.subject, message.body, message.headers)
    negative = json.loads(message.body)
    negative["data"]["row"] = -1
    bad = replace(good, body=json.dumps(negative | {"id": "o2"}).encode())
    unreasoned = wire.encode(override(event.prediction_id, model="loans", reason=""), owner="outside")
    outcome_ = await auditor.writer.record(
        [good, bad, examples.raw(unreasoned.subject, unreasoned.body, unreasoned.headers)]
    )
    assert outcome_.kept == 1
    assert [fault.reason for fault in outcome_.faults] == [
        "row -1 is none: rows count from 0",
        "an override needs a reason",
    ]
    (line,) = (await auditor.prover.prediction(event.prediction_id)).outcomes
    assert line.source == "affiant://outside"


async def test_an_outcome_may_come_before_its_prediction(auditor: Auditor) -> None:
    event = examples.prediction(1)
    message = wire.encode(outcome(event.prediction_id, "no", model="loans"), owner="outside")
    await auditor.writer.record([examples.raw(message.subject, message.body, message.headers)])
    await auditor.keep(examples.registered(), event)
    rates = (await auditor.measure.accuracy("loans", None, None, None)).rates
    assert rates is not None and rates.false_positives == 1


async def test_an_outcome_that_names_another_model_is_not_linked(auditor: Auditor) -> None:
    event = examples.prediction(1)
    await auditor.keep(event)
    message = wire.encode(outcome(event.prediction_id, model="other"), owner="outside")
    await auditor.writer.record([examples.raw(message.subject, message.body, message.headers)])
    assert (await auditor.prover.prediction(event.prediction_id)).outcomes == []


async def test_error_rates_by_group_stand_beside_approval_rates(auditor: Auditor) -> None:
    # white: TP 2, FN 1, TN 1; black: TP 1, FN 2, FP 1
    cases = [("white", False, "yes")] * 2 + [("white", True, "yes"), ("white", True, "no")]
    cases += [("black", False, "yes"), ("black", True, "yes"), ("black", True, "yes"), ("black", False, "no")]
    events = [examples.prediction(n, race=race, adverse=bad) for n, (race, bad, _) in enumerate(cases, start=1)]
    await auditor.keep(examples.registered(), *events, examples.prediction(99, race="white"))
    depositions, _ = telling(auditor)
    await depositions.tell([outcome(one.prediction_id, case[2]) for one, case in zip(events, cases, strict=True)])
    found = await auditor.measure.fairness("loans", "race", None, None, None, None)
    assert found.reference == "white"
    assert {one.value: one.true_positive_rate for one in found.errors.groups} == {"white": 2 / 3, "black": 1 / 3}
    (beside,) = found.errors.comparisons
    assert beside.equal_opportunity_difference == pytest.approx(-1 / 3)
    assert beside.average_odds_difference == pytest.approx((-1 / 3 + 1) / 2)
    assert beside.predictive_parity_difference == pytest.approx(-1 / 2)
    assert (found.errors.coverage.favourable_rows, found.errors.coverage.favourable_known) == (5, 4)
    assert found.errors.caveat == ""


async def test_outcomes_of_favourable_decisions_alone_come_with_a_caveat(auditor: Auditor) -> None:
    events = [examples.prediction(1), examples.prediction(2, adverse=True)]
    await auditor.keep(examples.registered(), *events)
    depositions, _ = telling(auditor)
    await depositions.tell([outcome(events[0].prediction_id)])
    assert "favourable decisions alone" in (await auditor.measure.accuracy("loans", None, None, None)).caveat


def test_a_rate_without_a_denominator_is_none() -> None:
    (only,) = errors.rates([errors.Cell("a", True, True, 3)])
    assert (only.true_positive_rate, only.false_positive_rate, only.accuracy) == (1.0, None, 1.0)
    assert errors.comparisons([only], "missing") == []


async def test_a_number_stands_for_a_text_of_the_same_digits(auditor: Auditor) -> None:
    event = examples.prediction(1)
    registered = examples.registered()
    assert registered.spec.decision is not None
    from msgspec.structs import replace as changed

    decision = changed(registered.spec.decision, classes=["0", "1"], favourable="1")
    await auditor.keep(changed(registered, spec=changed(registered.spec, decision=decision)), event)
    depositions, _ = telling(auditor)
    await depositions.tell([outcome(event.prediction_id, 1)])
    (line,) = (await auditor.prover.prediction(event.prediction_id)).outcomes
    assert line.event is not None and line.event["label"] == "1"
