"""Events on the wire: what is written, what is read, what is refused."""

from __future__ import annotations

import json

import pytest

from affiant.common import ids, wire
from affiant.common.errors import Refused
from affiant.common.events import ModelArchived, PredictionLogged

ARCHIVED = ModelArchived(model="loan", version=3, digest="sha256:00", by="ben", archived_at="2026-01-01T00:00:00Z")
LOGGED = PredictionLogged(
    prediction_id="p", model="loan", version=1, digest="", received_at="2026-01-01T00:00:00Z", status="answered"
)


def test_an_event_comes_back_as_it_was_sent() -> None:
    message = wire.encode(ARCHIVED, owner="registry", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    envelope = wire.decode(message.subject, message.body, message.headers)
    assert envelope.event == ARCHIVED
    assert envelope.id == message.id == message.headers["Nats-Msg-Id"]
    assert envelope.traceparent.startswith("00-1111")


def test_an_event_about_data_names_its_model_in_the_subject() -> None:
    assert wire.encode(LOGGED, owner="modelserver").subject == "affiant.modelserver.prediction_logged.v1.loan"


def test_only_the_owner_may_publish_an_event() -> None:
    with pytest.raises(Refused, match="deployer may not publish model_archived: it belongs to registry"):
        wire.encode(ARCHIVED, owner="deployer")


def test_outside_systems_may_publish_predictions_and_nothing_else() -> None:
    assert wire.encode(LOGGED, owner="outside").subject == "affiant.outside.prediction_logged.v1.loan"
    with pytest.raises(Refused):
        wire.encode(ARCHIVED, owner="outside")


def test_binary_mode_is_read() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    data = json.dumps(json.loads(message.body)["data"]).encode()
    headers = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/x", "ce-type": message.subject}
    assert wire.decode(message.subject, data, headers).event == ARCHIVED


def test_plain_json_is_read_when_it_has_an_id() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    data = json.dumps(json.loads(message.body)["data"]).encode()
    assert wire.decode(message.subject, data, {"Nats-Msg-Id": "7"}).event == ARCHIVED
    with pytest.raises(Refused, match="Nats-Msg-Id"):
        wire.decode(message.subject, data, None)


def test_header_names_are_read_in_any_case() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    assert wire.decode(message.subject, message.body, {"Content-Type": wire.CONTENT_TYPE}).event == ARCHIVED


def test_an_unknown_type_is_no_error_and_keeps_its_bytes() -> None:
    body = b'{"specversion":"1.0","id":"1","source":"/x","type":"affiant.registry.new.v9","data":{"a":1}}'
    envelope = wire.decode("affiant.registry.new.v9", body, {})
    assert envelope.event is None
    assert envelope.body == body


def test_an_unknown_field_is_no_error() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    document = json.loads(message.body)
    document["data"]["added_later"] = True
    assert wire.decode(message.subject, json.dumps(document).encode(), message.headers).event == ARCHIVED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Nats-Msg-Id"),
        (b"{ rubbish \xff", "Nats-Msg-Id"),
        (b'{"specversion":"1.0","id":"","source":"/x","type":"t","data":1}', "no id"),
        (b'{"specversion":"0.3","id":"1","source":"/x","type":"t","data":1}', "0.3"),
        (b'{"specversion":"1.0","id":"1","source":"/x"}', "type"),
    ],
)
def test_a_malformed_message_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        wire.decode("t", body, {})


def test_a_malformed_event_is_refused_naming_the_field() -> None:
    message = wire.encode(LOGGED, owner="modelserver")
    body = message.body.replace(b'"status":"answered"', b'"status":"maybe"')
    with pytest.raises(Refused, match="status"):
        wire.decode(message.subject, body, message.headers)


def test_an_event_on_a_subject_of_another_type_is_refused() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    with pytest.raises(Refused, match="arrived on"):
        wire.decode("affiant.outside.prediction_logged.v1.loan", message.body, message.headers)


def test_an_outside_system_cannot_name_one_of_us_as_its_source() -> None:
    message = wire.encode(LOGGED, owner="outside")
    for source in ("affiant://modelserver", "Affiant://modelserver"):
        with pytest.raises(Refused, match="comes from"):
            wire.decode(message.subject, message.body.replace(b"affiant://outside", source.encode()), message.headers)


def test_an_event_on_the_subject_of_another_model_is_refused() -> None:
    message = wire.encode(LOGGED, owner="modelserver")
    with pytest.raises(Refused, match="about model 'loan'"):
        wire.decode("affiant.modelserver.prediction_logged.v1.card", message.body, message.headers)


def test_an_event_that_no_message_can_hold_is_refused() -> None:
    large = PredictionLogged(
        prediction_id="p", model="loan", version=1, digest="", received_at="", status="failed", error="x" * 2_000_000
    )
    with pytest.raises(Refused, match="at most"):
        wire.encode(large, owner="modelserver")


def test_events_that_travel_together_are_taken_apart_as_they_were() -> None:
    messages = [wire.encode(ARCHIVED, owner="registry", id=f"e{number}") for number in range(3)]
    together = wire.batched(messages)
    assert together.headers["content-type"] == wire.BATCH_CONTENT_TYPE
    singles = wire.unbatched(together.body, together.headers)
    assert [single.body for single in singles] == [message.body for message in messages]
    assert [wire.decode(together.subject, one.body, one.headers).id for one in singles] == ["e0", "e1", "e2"]


def test_one_event_alone_is_no_batch() -> None:
    message = wire.encode(ARCHIVED, owner="registry")
    assert wire.batched([message]) is message
    assert wire.unbatched(message.body, message.headers)[0].body == message.body


def test_the_same_events_together_have_the_same_message_id() -> None:
    messages = [wire.encode(ARCHIVED, owner="registry", id=f"e{number}") for number in range(3)]
    assert wire.batched(messages).id == wire.batched(messages).id
    assert wire.batched(messages).id != wire.batched(messages[:2]).id


@pytest.mark.parametrize("body", [b"{}", b"[", b"[" * 100_000, b"[" + b"0," * 1_000 + b"0]"])
def test_what_is_no_batch_is_one_message_that_is_refused(body: bytes) -> None:
    headers = {"Content-Type": wire.BATCH_CONTENT_TYPE}
    [single] = wire.unbatched(body, headers)
    with pytest.raises(Refused, match="at most 1000 events"):
        wire.decode("affiant.registry.model_archived.v1", single.body, single.headers)


def test_rubbish_in_a_batch_is_refused_alone() -> None:
    good = wire.encode(ARCHIVED, owner="registry")
    body = b'[{"specversion":"1.0"},' + good.body + b"]"
    first, second = wire.unbatched(body, {"content-type": wire.BATCH_CONTENT_TYPE})
    with pytest.raises(Refused):
        wire.decode(good.subject, first.body, first.headers)
    assert wire.decode(good.subject, second.body, second.headers).event == ARCHIVED


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [ids.uuid7() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert made[0][14] == "7"
