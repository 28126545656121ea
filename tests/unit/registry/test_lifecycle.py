"""The rules of a version's life."""

from __future__ import annotations

import dataclasses

import pytest

from affiant.common.errors import Conflict, Forbidden, Problem
from affiant.registry.domain import lifecycle as rules
from affiant.registry.domain.lifecycle import Deployment, Promotion, Version
from tests.support.model import loan_spec

VERSION = Version("loan", 1, "sha256:0", "registered", "ana", "2026-01-01T00:00:00.000000Z", loan_spec(b""), ())


def move(id: int, version: int | None, before: int | None) -> Promotion:
    at = f"2026-01-0{id}T00:00:00.000000Z"
    return Promotion(id, "loan", "champion", version, at, "ben", "ben", "", rollback=False, before=before)


def target(*moves: Promotion, archived: tuple[int, ...] = ()) -> int | None:
    by_id = {each.id: each for each in moves}
    return rules.rollback_target(moves[-1], by_id, lambda version: version not in archived).version


def test_the_author_may_not_promote_an_own_version() -> None:
    with pytest.raises(Forbidden, match=r"ana registered loan version 1") as caught:
        rules.check_promotable(VERSION, "ana")
    assert "another person" in caught.value.hint


@pytest.mark.parametrize("state", ["deprecated", "archived"])
def test_a_version_that_is_out_of_use_cannot_be_promoted(state: str) -> None:
    with pytest.raises(Conflict, match=state):
        rules.check_promotable(dataclasses.replace(VERSION, state=state), "ben")  # type: ignore[arg-type]


def test_the_champion_is_archived_by_force_alone() -> None:
    champion = dataclasses.replace(VERSION, aliases=("champion",))
    with pytest.raises(Conflict, match=r"is the champion"):
        rules.check_archivable(champion, force=False)
    rules.check_archivable(champion, force=True)
    rules.check_archivable(dataclasses.replace(VERSION, aliases=("challenger",)), force=False)


def test_a_rollback_returns_to_the_version_before() -> None:
    assert target(move(1, 1, None), move(2, 2, 1)) == 1


def test_a_second_rollback_goes_further_back() -> None:
    # 1, 2, 3, then rolled back to 2 (whose own way back is kept): the next one leads to 1, not to 3.
    assert target(move(1, 1, None), move(2, 2, 1), move(3, 3, 2), move(4, 2, 1)) == 1


def test_a_rollback_passes_over_archived_versions() -> None:
    assert target(move(1, 1, None), move(2, 2, 1), move(3, 3, 2), archived=(2,)) == 1


def test_a_rollback_after_the_alias_was_taken_away_finds_the_version_before() -> None:
    assert target(move(1, 1, None), move(2, 2, 1), move(3, None, 2), archived=(2,)) == 1


def test_there_may_be_nothing_to_roll_back_to() -> None:
    with pytest.raises(Conflict):
        target(move(1, 1, None))
    with pytest.raises(Conflict):
        rules.rollback_target(None, {}, lambda _: True)


def test_the_holder_of_an_alias_at_a_time_is_the_last_move_until_then() -> None:
    moves = [move(1, 1, None), move(2, 2, 1)]
    assert rules.version_at(moves, "2025-12-31T00:00:00.000000Z") is None
    assert rules.version_at(moves, "2026-01-01T12:00:00.000000Z") == moves[0]
    assert rules.version_at(moves, moves[1].at) == moves[1]


@pytest.mark.parametrize("name", ["", "Loan", "a_b", "a.b", "-a", "a" * 64, "a b", "ä", "loan\n"])
def test_a_name_that_is_no_dns_label_is_refused(name: str) -> None:
    with pytest.raises(Problem, match=r"cannot be a model's name"):
        rules.check_model_name(name)


def test_a_view_shows_where_a_version_is_served() -> None:
    gone = Deployment("champion", "undeployed", "", "replaced", "2026-01-03T00:00:00.000000Z")
    served = Deployment("challenger", "serving", "http://x", "", "2026-01-02T00:00:00.000000Z")
    assert rules.shown_deployment([gone, served]) == served
    assert rules.shown_deployment([]) is None


IMAGE = f"registry.example.com:5000/models/loan@sha256:{'c3' * 32}"


def test_an_image_is_named_by_its_digest() -> None:
    rules.check_image(VERSION, IMAGE)
    rules.check_image(VERSION, IMAGE.replace("registry.example.com:5000", "localhost"))


@pytest.mark.parametrize(
    "image",
    ["", "models/loan:3", IMAGE.removeprefix("registry.example.com:5000/models/"), IMAGE + "0", IMAGE + "\n", "a b"],
)
def test_a_tag_names_no_image(image: str) -> None:
    with pytest.raises(Problem, match="by its digest"):
        rules.check_image(VERSION, image)


def test_an_archived_version_gets_no_image() -> None:
    with pytest.raises(Conflict, match="archived"):
        rules.check_image(dataclasses.replace(VERSION, state="archived"), IMAGE)
