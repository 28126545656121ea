"""What one transaction can read and write. Every method runs inside the transaction of its connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from affiant.common import ids, outbox, wire
from affiant.common.events import Check, ModelSpec
from affiant.registry.domain.lifecycle import Deployment, Entry, Promotion, State, Version, shown_deployment
from affiant.registry.store.tables import (
    DEPLOYMENTS,
    HISTORY,
    IMAGES,
    MODELS,
    OUTBOX,
    PROMOTIONS,
    SEEN,
    SHARES,
    VERSIONS,
)

_CHECKS = msgspec.json.Decoder(tuple[Check, ...])
_SPEC = msgspec.json.Decoder(ModelSpec)
_MOVES = select(PROMOTIONS, SHARES.c.traffic).outerjoin(SHARES, SHARES.c.move == PROMOTIONS.c.id)
_TAGS = msgspec.json.Decoder(dict[str, str])


class Records:
    """The registry's rows, as the domain's values."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def ping(self) -> None:
        """Touch the database."""
        self.connection.execute(select(1))

    # --- models and versions -------------------------------------------------------------------------------

    def next_version(self, model: str, by: str, at: str) -> int:
        """The next version number of a model, which is created with its first version.

        Holds the model's row until the transaction ends, so that no number is given twice.
        """
        self._insert_once(MODELS, {"name": model, "created_at": at, "created_by": by, "last_version": 0})
        bump = update(MODELS).where(MODELS.c.name == model).values(last_version=MODELS.c.last_version + 1)
        return int(self.connection.execute(bump.returning(MODELS.c.last_version)).scalar_one())

    def lock(self, model: str) -> None:
        """Let no other transaction change this model until this one ends. (SQLite locks everything anyway.)"""
        self.connection.execute(select(MODELS.c.name).where(MODELS.c.name == model).with_for_update())

    def add_version(self, spec: ModelSpec, checks: Sequence[Check], at: str) -> None:
        """A new version, in the state registered."""
        self.connection.execute(
            insert(VERSIONS).values(
                model=spec.model,
                version=spec.version,
                digest=spec.digest,
                state="registered",
                author=spec.author,
                registered_at=at,
                spec=_text(spec),
                tags=_text(spec.tags),
                checks=_text(checks),
            )
        )

    def models(self) -> Sequence[str]:
        """The names of all models."""
        return self.connection.execute(select(MODELS.c.name).order_by(MODELS.c.name)).scalars().all()

    def versions(self, model: str | None = None) -> list[Version]:
        """All versions, or those of one model; the newest of each model first."""
        query = select(VERSIONS).order_by(VERSIONS.c.model, VERSIONS.c.version.desc())
        if model is not None:
            query = query.where(VERSIONS.c.model == model)
        rows = self.connection.execute(query).all()
        held, served, images = self._held(model), self._served(model), self._images(model)
        return [_version(row, held, served, images) for row in rows]

    def version(self, model: str, number: int) -> Version | None:
        """One version."""
        query = select(VERSIONS).where(VERSIONS.c.model == model, VERSIONS.c.version == number)
        row = self.connection.execute(query).one_or_none()
        return None if row is None else _version(row, self._held(model), self._served(model), self._images(model))

    def set_state(self, version: Version, state: State) -> None:
        """Deprecate or archive."""
        self.connection.execute(_of(version).values(state=state))

    def set_tags(self, version: Version, tags: Mapping[str, str]) -> None:
        """Replace the tags."""
        self.connection.execute(_of(version).values(tags=_text(tags)))

    def set_image(self, version: Version, image: str, *, at: str, by: str) -> None:
        """Name the container image that holds this version from now on; earlier ones stay on record."""
        values = {"model": version.model, "version": version.version, "image": image, "at": at, "by": by}
        self.connection.execute(insert(IMAGES).values(**values))

    def _images(self, model: str | None) -> dict[tuple[str, int], str]:
        query = select(IMAGES).order_by(IMAGES.c.id)
        if model is not None:
            query = query.where(IMAGES.c.model == model)
        return {(row.model, row.version): row.image for row in self.connection.execute(query)}

    def _held(self, model: str | None) -> dict[tuple[str, int], list[Promotion]]:
        held: dict[tuple[str, int], list[Promotion]] = {}
        for move in self.aliases(model):
            if move.version is not None:
                held.setdefault((move.model, move.version), []).append(move)
        return held

    # --- aliases -------------------------------------------------------------------------------------------

    def aliases(self, model: str | None = None) -> list[Promotion]:
        """The move in force of each alias, of all models or of one."""
        newest = select(func.max(PROMOTIONS.c.id)).group_by(PROMOTIONS.c.model, PROMOTIONS.c.alias)
        if model is not None:
            newest = newest.where(PROMOTIONS.c.model == model)
        query = _MOVES.where(PROMOTIONS.c.id.in_(newest)).order_by(PROMOTIONS.c.alias)
        return [_promotion(row) for row in self.connection.execute(query)]

    def moves(self, model: str, alias: str) -> list[Promotion]:
        """Every move of an alias, oldest first."""
        query = _MOVES.where(PROMOTIONS.c.model == model, PROMOTIONS.c.alias == alias)
        return [_promotion(row) for row in self.connection.execute(query.order_by(PROMOTIONS.c.id))]

    def move(
        self,
        model: str,
        alias: str,
        version: int | None,
        *,
        at: str,
        approved_by: str,
        by: str,
        reason: str,
        before: int | None,
        rollback: bool = False,
        traffic: int = 0,
    ) -> None:
        """Let an alias point to a version, or to none; `traffic` percent of the champion's requests go there."""
        insertion = insert(PROMOTIONS).values(
            model=model,
            alias=alias,
            version=version,
            at=at,
            approved_by=approved_by,
            by=by,
            reason=reason,
            rollback=rollback,
            before=before,
        )
        move = self.connection.execute(insertion.returning(PROMOTIONS.c.id)).scalar_one()
        if traffic:
            self.connection.execute(insert(SHARES).values(move=move, traffic=traffic))

    # --- history and events --------------------------------------------------------------------------------

    def note(
        self, model: str, version: int | None, action: str, *, at: str, by: str, reason: str, **details: object
    ) -> None:
        """Add a line to the history. `details` are plain JSON values or events' parts."""
        self.connection.execute(
            insert(HISTORY).values(
                model=model, version=version, at=at, by=by, action=action, reason=reason, details=_text(details)
            )
        )

    def moment(self, model: str) -> str:
        """This moment, later than all that is in the model's history. By their times others tell which of two orders
        came last: with the clock set back, the deployer would pass over a promotion as old news.
        """
        last = select(func.max(HISTORY.c.at)).where(HISTORY.c.model == model)
        return ids.later_than(self.connection.execute(last).scalar_one() or "")

    def history(self, model: str) -> list[Entry]:
        """The history of a model, oldest first."""
        query = select(HISTORY).where(HISTORY.c.model == model).order_by(HISTORY.c.id)
        return [_entry(row) for row in self.connection.execute(query)]

    def publish(self, message: wire.Message) -> None:
        """Let the relay publish `message` after this transaction."""
        outbox.put(self.connection, OUTBOX, message)

    # --- deployments ---------------------------------------------------------------------------------------

    def first_time(self, event_id: str) -> bool:
        """Whether this event was not handled before; remembers that it now is."""
        return self._insert_once(SEEN, {"id": event_id})

    def set_deployment(self, model: str, version: int, deployment: Deployment) -> None:
        """Keep what the deployer said of a version, unless something newer is known already."""
        key = (DEPLOYMENTS.c.model == model, DEPLOYMENTS.c.version == version, DEPLOYMENTS.c.alias == deployment.alias)
        values = msgspec.to_builtins(deployment)
        known = self.connection.execute(select(DEPLOYMENTS.c.at).where(*key)).scalar_one_or_none()
        if known is None:
            self.connection.execute(insert(DEPLOYMENTS).values(model=model, version=version, **values))
        elif known <= deployment.at:
            self.connection.execute(update(DEPLOYMENTS).where(*key).values(**values))

    def _served(self, model: str | None) -> dict[tuple[str, int], list[Deployment]]:
        query = select(DEPLOYMENTS)
        if model is not None:
            query = query.where(DEPLOYMENTS.c.model == model)
        served: dict[tuple[str, int], list[Deployment]] = {}
        for row in self.connection.execute(query):
            deployment = Deployment(row.alias, row.state, row.url, row.reason, row.at)
            served.setdefault((row.model, row.version), []).append(deployment)
        return served

    def _insert_once(self, table: Any, values: dict[str, object]) -> bool:
        """Whether the row was new. Each database has its own words for this."""
        dialect = postgresql if self.connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
        # Asked for by RETURNING: psycopg's row count does not tell.
        return self.connection.execute(statement.returning(*table.primary_key)).one_or_none() is not None


def _of(version: Version) -> Any:
    return update(VERSIONS).where(VERSIONS.c.model == version.model, VERSIONS.c.version == version.version)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _version(
    row: Row[Any],
    held: Mapping[tuple[str, int], list[Promotion]],
    served: Mapping[tuple[str, int], list[Deployment]],
    images: Mapping[tuple[str, int], str],
) -> Version:
    key = (row.model, row.version)
    return Version(
        model=row.model,
        version=row.version,
        digest=row.digest,
        state=row.state,
        author=row.author,
        registered_at=row.registered_at,
        spec=msgspec.structs.replace(_SPEC.decode(row.spec), tags=_TAGS.decode(row.tags), image=images.get(key, "")),
        checks=_CHECKS.decode(row.checks),
        aliases=tuple(move.alias for move in held.get(key, ())),
        traffic=max((move.traffic for move in held.get(key, ())), default=0),
        deployment=shown_deployment(served.get(key, ())),
    )


def _promotion(row: Row[Any]) -> Promotion:
    return Promotion(
        id=row.id,
        model=row.model,
        alias=row.alias,
        version=row.version,
        at=row.at,
        approved_by=row.approved_by,
        by=row.by,
        reason=row.reason,
        rollback=row.rollback,
        before=row.before,
        traffic=row.traffic or 0,
    )


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        id=row.id,
        model=row.model,
        version=row.version,
        at=row.at,
        by=row.by,
        action=row.action,
        reason=row.reason,
        details=msgspec.json.decode(row.details),
    )
