"""Answering questions: models, versions, histories, which version an alias pointed to, and files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from affiant.common import ids
from affiant.common.errors import NotFound, Problem
from affiant.registry.domain import lifecycle as rules
from affiant.registry.domain.lifecycle import Entry, Promotion, Version
from affiant.registry.store.artifacts import Artifacts
from affiant.registry.store.database import Store
from affiant.registry.store.records import Records


@dataclass(frozen=True)
class Model:
    """A model with its versions, the newest first."""

    name: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Holder:
    """Which version an alias pointed to at a time; until then, `until` is empty for the one in force."""

    move: Promotion
    until: str
    version: Version


@dataclass(frozen=True)
class Lookup:
    """Reads only. Raises `NotFound` for what does not exist."""

    store: Store
    artifacts: Artifacts

    async def models(self) -> list[Model]:
        """Every model, by name."""
        versions = await self.store.query(lambda records: records.versions())
        names = sorted({version.model for version in versions})
        return [Model(name, tuple(v for v in versions if v.model == name)) for name in names]

    async def model(self, name: str) -> Model:
        """One model."""
        versions = await self.store.query(lambda records: records.versions(name))
        if not versions:
            raise unknown(name)
        return Model(name, tuple(versions))

    async def version(self, model: str, number: int) -> Version:
        """One version."""
        return await self.store.query(lambda records: version_in(records, model, number))

    async def history(self, model: str) -> list[Entry]:
        """Who did what, when and why, oldest first; refused registrations too."""
        entries = await self.store.query(lambda records: records.history(model))
        if not entries:
            raise unknown(model)
        return entries

    async def holder(self, model: str, alias: str, at: str = "") -> Holder:
        """The version that `alias` pointed to at a time (RFC 3339; empty: now)."""
        rules.check_alias(alias)
        asked = _moment(at) if at else ""

        def work(records: Records) -> Holder:
            moment = asked or records.moment(model)
            moves = records.moves(model, alias)
            move = rules.version_at(moves, moment)
            if move is None or move.version is None:
                raise _no_holder(model, alias, moment, moves)
            later = [each.at for each in moves if each.id > move.id]
            return Holder(move, later[0] if later else "", version_in(records, model, move.version))

        return await self.store.query(work)

    async def artifact(self, digest: str) -> Path:
        """The file with this digest."""
        return await asyncio.to_thread(self.artifacts.find, digest)


def version_in(records: Records, model: str, number: int) -> Version:
    """One version, within a transaction."""
    version = records.version(model, number)
    if version is None:
        raise NotFound(f"{model!r} has no version {number}", hint=f"GET /v1/models/{model} lists its versions.")
    return version


def _moment(at: str) -> str:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise _no_time(at) from error
    if moment.tzinfo is None:
        raise _no_time(at)
    return ids.timestamp(moment)


def _no_time(at: str) -> Problem:
    # In a query a plus sign means a space: that is how a time zone gets lost most often.
    hint = "Write RFC 3339 with a time zone, such as 2026-11-23T12:00:00Z (encode a plus sign as %2B)."
    return Problem(f"{at[:60]!r} is no time", status=422, hint=hint)


def unknown(model: str) -> NotFound:
    """What to say of a model that nobody registered."""
    return NotFound(f"there is no model {model!r}", hint="GET /v1/models lists them.")


def _no_holder(model: str, alias: str, at: str, moves: Sequence[Promotion]) -> NotFound:
    hint = f"It was first given on {moves[0].at}." if moves else "Promote a version to it first."
    return NotFound(f"no version of {model!r} was {alias} at {at}", hint=hint)
