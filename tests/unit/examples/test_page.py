"""The page: whole, without anything from elsewhere, and safe whatever a table's cells hold."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest

from examples.loan import page, waterfall
from examples.loan.markup import Raw, tag
from examples.loan.outcome import Outcome
from tests.unit.examples import fabricated

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>&{{'


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.attributes += attributes
        if name != "meta":
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.attributes += attributes

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name


def _parsed(text: str) -> _Parser:
    parser = _Parser()
    parser.feed(text)
    assert parser.open == []
    return parser


_ENUMERATED = re.compile(r"\d{4}-|sha256:|registered|refused|promoted|deployed|rolled")


def _spoilt(value: object) -> object:
    """Every text, keys of mappings included, replaced by something that tries to run."""
    match value:
        case str():
            return value if _ENUMERATED.match(value) else HOSTILE
        case dict():
            return {key: _spoilt(item) for key, item in value.items()}
        case list():
            return [_spoilt(item) for item in value]
    return value


def _hostile() -> Outcome:
    raw = _spoilt(msgspec.to_builtins(fabricated.outcome()))
    assert isinstance(raw, dict)
    raw["case"]["inputs"] = raw["case"]["context"] = {HOSTILE: HOSTILE}
    return msgspec.convert(raw, Outcome)


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = page.render(fabricated.outcome())
    parsed = _parsed(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [value for name, value in parsed.attributes if name in ("src", "href")]
    assert not re.findall(r"url\((?!#)|@import", text)
    assert "Content-Security-Policy" in text


def test_hostile_cells_stay_text() -> None:
    parsed = _parsed(page.render(_hostile()))
    assert not {"script", "img"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]


def test_a_kept_promise_and_a_broken_one_look_different() -> None:
    kept, broken = page.render(fabricated.outcome()), page.render(fabricated.broken())
    assert "None missing, none doubled." in kept and "Not every promise was kept" not in kept
    assert "Not every promise was kept" in broken and "500 sent, but 498 in the record" in broken
    assert "every denial was explained" not in broken


def test_the_page_says_who_was_refused_and_what_was_proved() -> None:
    text = page.render(fabricated.outcome())
    for words in (
        "ana may not promote version 1, her own",
        "checked here from the payload",
        "insurance = yes",
        "known for this made table",
    ):
        assert words in text


@pytest.mark.parametrize("part", ["anchor", "waterfall", "proof"])
def test_what_is_not_there_leaves_no_hole(part: str) -> None:
    outcome = fabricated.outcome()
    assert outcome.case is not None
    _parsed(page.render(replace(outcome, case=replace(outcome.case, **{part: None}))))


def test_a_run_without_a_denial_or_a_protected_column_has_a_page() -> None:
    _parsed(page.render(replace(fabricated.outcome(), case=None, fairness=(), answers=(), moments=())))


def test_a_saved_outcome_makes_the_same_page() -> None:
    outcome = fabricated.outcome()
    again = msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome)
    assert page.render(again) == page.render(outcome)


def test_the_waterfall_begins_at_the_average_and_ends_at_this_application() -> None:
    steps = fabricated.case().waterfall
    assert steps is not None
    bars = waterfall.bars(steps)
    assert bars[0].begin == steps.baseline
    assert bars[-1].end == pytest.approx(steps.output)
    assert all(left.end == right.begin for left, right in pairwise(bars))


def test_markup_escapes_text_and_attributes_but_not_itself() -> None:
    assert tag("p", "<", tag("b", "&"), cls='"') == '<p class="&quot;">&lt;<b>&amp;</b></p>'
    assert isinstance(tag("p"), Raw)
