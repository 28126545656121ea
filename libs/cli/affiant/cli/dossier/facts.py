"""What the page says, read out of the auditor's answer. Events leave out what has its default value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from affiant.cli import inference
from affiant.common.events import (
    ExplanationFailed,
    ModelArchived,
    ModelDeployed,
    ModelDeprecated,
    ModelPromoted,
    ModelRegistered,
    ModelUndeployed,
    PredictionExplained,
    Scalar,
    type_of,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One decided row: what went in, what came out, what was said of it later."""

    number: int
    label: Scalar
    score: float | None
    adverse: bool | None
    seen: list[tuple[str, Scalar]]
    beside: list[tuple[str, Scalar]]
    explanation: Json | None
    failure: Json | None
    outcome: Json | None
    override: Json | None

    @property
    def word(self) -> str:
        """How it was decided, in one word for people."""
        return {True: "unfavourable", False: "favourable", None: "undecided"}[self.adverse]


@dataclass(frozen=True)
class Facts:
    """The auditor's answer, with what is asked of it again and again."""

    found: Json

    @property
    def prediction(self) -> Json:
        found: Json = self.found["prediction"]
        return found

    @property
    def record(self) -> Json:
        """The record; empty once the payload was erased."""
        return self.prediction["record"] or {}

    @property
    def version(self) -> str:
        """`loan/2`, or the name alone where no version is known."""
        version = self.found["version"]
        return f"{self.model}" + (f"/{version}" if version is not None else "")

    @property
    def model(self) -> str:
        return str(self.found["model"])

    @property
    def received_at(self) -> str:
        return str(self.found["received_at"])

    def events(self, kind: type, *, until: str | None = None) -> Iterator[tuple[int, Json]]:
        """The lineage's events of a kind, with their entries."""
        for line in self.prediction["lineage"]:
            if line["type"] == type_of(kind) and line["event"] and (until is None or moment(line) <= until):
                yield line["index"], line["event"]

    @property
    def registered(self) -> tuple[int, Json] | None:
        """The entry and the event that brought the version; None for a model that was never registered here."""
        return next(self.events(ModelRegistered), None)

    @property
    def spec(self) -> Json | None:
        return self.registered[1]["spec"] if self.registered else None

    def later(self) -> list[tuple[str, Json]]:
        """What happened to the version after this decision; it played no part in it."""
        return [(moment(line), line) for line in self.prediction["lineage"] if moment(line) > self.received_at]

    def rows(self) -> list[Row]:
        """Every row of the request, in order."""
        many = max(len(self.record.get("labels", [])), 1) if self.record.get("inputs") else 0
        return [self._row(number) for number in range(many)]

    def _row(self, number: int) -> Row:
        record = self.record
        explained = [line["event"] for line in self._about(number) if line["type"] == type_of(PredictionExplained)]
        failed = [line["event"] for line in self._about(number) if line["type"] == type_of(ExplanationFailed)]
        return Row(
            number,
            _at(record.get("labels", []), number),
            _at(record.get("scores", []), number),
            _at(record.get("adverse", []), number),
            inference.cells(self.spec, record.get("inputs", []), number),
            inference.cells(None, record.get("context", []), number),
            explained[-1] if explained else None,
            failed[-1] if failed else None,
            _last(self.prediction["outcomes"], number),
            _last(self.prediction["overrides"], number),
        )

    def _about(self, number: int) -> list[Json]:
        lines = self.prediction["explanations"]
        return [line for line in lines if line["event"] and line["event"].get("row", 0) == number]


_WHEN = {
    type_of(ModelRegistered): "registered_at",
    type_of(ModelPromoted): "promoted_at",
    type_of(ModelDeployed): "deployed_at",
    type_of(ModelUndeployed): "undeployed_at",
    type_of(ModelDeprecated): "deprecated_at",
    type_of(ModelArchived): "archived_at",
}


def moment(line: Json) -> str:
    """When what an event of the lineage tells of happened."""
    return str((line["event"] or {}).get(_WHEN.get(line["type"], ""), line["time"]))


def when(text: str) -> str:
    """24 November 2026, 14:03:05 UTC."""
    at = datetime.fromisoformat(text)
    offset = "UTC" if not at.utcoffset() else at.strftime("%z")
    return f"{at.day} {at:%B %Y, %H:%M:%S} {offset}"


def shown(value: Any) -> str:
    """A cell's value as people write it."""
    if value is None:
        return "missing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{share:.{digits}%}"


def signed(number: float | None) -> str:
    return "–" if number is None else f"{number:+.3f}"


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def _last(lines: list[Json], row: int) -> Json | None:
    """The one that holds: the last of a row, with how many it supersedes."""
    mine = [line for line in lines if line["event"] and line["event"].get("row", 0) == row]
    return mine[-1]["event"] | {"entry": mine[-1]["index"], "superseded": len(mine) - 1} if mine else None
