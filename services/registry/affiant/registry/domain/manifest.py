"""What an author states about a model: the JSON document that is sent along with the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from affiant.common.errors import Problem
from affiant.common.events import ABOVE, BELOW, ExplainPolicy, Policy

MAX_DESCRIPTION = 10_000
MAX_TAGS = 64
MAX_TAG = 1_000


class Unfit(Exception):
    """The model, its background data or its manifest cannot be accepted. The text says what to do next."""


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything is optional; what is left out is read from the model file and the background data.

    `columns` names the positions of a single matrix input, in order. `kinds` overrides the guess whether a
    column is numeric or categorical. `favourable` is the label a person hopes for; without it the version has no
    decision, and no background data is needed. `classes` are the labels in the order of the probabilities.
    `reasons` is the YAML table of the words for the reasons of adverse decisions.
    With `threshold` the model is a regression: a value of at least the threshold is `above`, another `below`.
    """

    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    columns: list[str] | None = None
    kinds: dict[str, Literal["numeric", "categorical"]] = field(default_factory=dict)
    protected: list[str] = field(default_factory=list)
    favourable: str | int | None = None
    label_output: str = ""
    probability_output: str = ""
    value_output: str = ""
    threshold: float | None = None
    classes: list[str | int] | None = None
    reasons: str = ""
    policy: Policy = field(default_factory=Policy)


def read_manifest(text: str | bytes) -> Manifest:
    """The manifest in `text`; raises `Problem` (422) naming the field that is wrong."""
    try:
        raw = msgspec.json.decode(text or b"{}")
        manifest = msgspec.convert(raw, Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _wrong(str(error)) from error
    for complaint in _complaints(manifest, raw):
        raise _wrong(complaint)
    return manifest


def check_tags(tags: dict[str, str]) -> None:
    """Raises `Problem` when there are too many tags or one is too long for an event."""
    if len(tags) > MAX_TAGS:
        raise _wrong(f"{len(tags)} tags; at most {MAX_TAGS} are kept")
    for key, value in tags.items():
        if not key or len(key) > MAX_TAG or len(value) > MAX_TAG:
            raise _wrong(f"the tag {key[:40]!r} is empty or longer than {MAX_TAG} characters")


def _complaints(manifest: Manifest, raw: dict[str, Any]) -> Iterator[str]:
    # Policy is an event's part and so tolerates unknown fields; in a manifest a misspelt promise must not pass.
    policy = raw.get("policy", {})
    yield from _unknown(policy, Policy, "policy")
    yield from _unknown(policy.get("explain", {}), ExplainPolicy, "policy.explain")
    if not 0 <= manifest.policy.explain.rate <= 1:
        yield f"policy.explain.rate is {manifest.policy.explain.rate}; it is a share between 0 and 1"
    if len(manifest.description) > MAX_DESCRIPTION:
        yield f"the description has {len(manifest.description)} characters; at most {MAX_DESCRIPTION} are kept"
    for name, values in (
        ("columns", manifest.columns),
        ("protected", manifest.protected),
        ("classes", manifest.classes),
    ):
        if values is not None and len(set(values)) != len(values):
            yield f"{name} names the same thing twice"
    if manifest.classes is not None and len(manifest.classes) < 2:
        yield "classes holds fewer than two labels"
    if manifest.reasons and manifest.favourable is None:
        yield "reasons are given, but not which label is favourable: nothing would be an adverse decision"
    if manifest.favourable is None and (manifest.classes or manifest.label_output or manifest.probability_output):
        yield "the outputs of a decision are given, but not which label is favourable"
    yield from _regression_complaints(manifest)
    check_tags(manifest.tags)


def _regression_complaints(manifest: Manifest) -> Iterator[str]:
    if manifest.threshold is None:
        if manifest.value_output:
            yield "value_output names a regression's output, but there is no threshold that its value is held against"
        return
    if manifest.classes or manifest.label_output or manifest.probability_output:
        yield "threshold makes the model a regression, which has no classes, label_output or probability_output"
    if not math.isfinite(manifest.threshold):
        yield f"threshold is {manifest.threshold}; it is a number in the units of the model's output"
    if manifest.favourable not in (ABOVE, BELOW):
        yield f"favourable is {manifest.favourable!r}; of a regression it is {ABOVE!r} or {BELOW!r} (the threshold)"


def _unknown(raw: dict[str, Any], known: type[Struct], where: str) -> Iterator[str]:
    names = [each.name for each in msgspec.structs.fields(known)]
    for name in raw:
        if name not in names:
            yield f"{where} has no field {name!r}; it has {', '.join(names)}"


def _wrong(complaint: str) -> Problem:
    known = ", ".join(each.name for each in msgspec.structs.fields(Manifest))
    return Problem(f"manifest: {complaint}", status=422, hint=f"A manifest is a JSON object with any of: {known}.")
