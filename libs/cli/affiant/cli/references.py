"""What a person types: `loan/2` for a version, `loan` for a model and whatever is its champion; ranges of rows;
labels; `key=value`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import typer

from affiant.common.errors import Problem
from affiant.common.ids import MODEL_NAME


@dataclass(frozen=True)
class Reference:
    """A model, and a version of it where one was named."""

    model: str
    version: int | None = None

    def __str__(self) -> str:
        return self.model if self.version is None else f"{self.model}/{self.version}"

    @property
    def path(self) -> str:
        """Its path in the registry's API; raises `Problem` where a version is needed and none was named."""
        if self.version is None:
            raise Problem(
                f"which version of {self.model}?", hint=f"write {self.model}/1; affiant models {self.model} lists them"
            )
        return f"/v1/models/{self.model}/versions/{self.version}"


def reference(text: str) -> Reference:
    """`loan` or `loan/2`. Raises `Problem` in words for anything else."""
    model, slash, version = text.partition("/")
    if not MODEL_NAME.fullmatch(model):
        raise Problem(
            f"{model!r} is no model name: lower-case letters, digits and dashes", hint="such as loan or loan/2"
        )
    if slash and not (version.isdecimal() and int(version) > 0):
        raise Problem(f"{version!r} is no version: versions are 1, 2, 3…", hint=f"such as {model}/1")
    return Reference(model, int(version) if slash else None)


def rows(text: str) -> range:
    """`3` or `1-5`, counted from 1, both ends included; as positions from 0."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise Problem(f"{text!r} names no rows", hint="rows are counted from 1: --rows 3 or --rows 1-5")
    start, end = int(first), int(last or first)
    if start < 1 or end < start:
        raise Problem(f"{text!r} is an empty range of rows", hint="rows are counted from 1: --rows 1-5")
    return range(start - 1, end)


def label(text: str) -> str | int:
    """A class label as the model's own output would be: a whole number where it is written as one."""
    return int(text) if text.lstrip("-").isdecimal() else text


def names(given: Iterable[str]) -> list[str]:
    """Names given in several options, or in one with commas."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def key_values(given: Iterable[str]) -> dict[str, str]:
    """`key=value` pairs. Raises `Problem` for one without `=`."""
    pairs = [text.partition("=") for text in given]
    for key, equals, value in pairs:
        if not key or not equals:
            raise Problem(f"{key or value!r} is no tag", hint="write --tag key=value")
    return {key: value for key, _, value in pairs}


WAYS = ("increase", "decrease")


def ways(given: Iterable[str]) -> dict[str, str]:
    """`column=increase` or `column=decrease`. Raises `Problem` for anything else."""
    pairs = [text.partition("=") for text in names(given)]
    for column, _, way in pairs:
        if not column or way not in WAYS:
            raise Problem(f"{column}={way} says no way", hint="write --one-way age=increase (or =decrease)")
    return {column: way for column, _, way in pairs}


METHODS = ("anchor", "shap", "counterfactual")


def known_methods(given: list[str]) -> list[str]:
    """What was given for `--method`; raises `typer.BadParameter` naming what may be given."""
    unknown = [name for name in names(given) if name not in METHODS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(map(repr, METHODS))}.")
    return given
