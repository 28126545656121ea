"""Versions that are explained as a whole: one survey each, kept with its result."""

from __future__ import annotations

import msgspec
from sqlalchemy import Column, ColumnElement, Float, Integer, LargeBinary, String, Table, select, update
from sqlalchemy.dialects.sqlite import insert

from affiant.common import outbox, wire
from affiant.explainer.domain import OPEN, Survey
from affiant.explainer.store.jobs import Store, metadata, outbox_rows

rows = Table(
    "surveys",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("state", String, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("survey", LargeBinary, nullable=False),
    Column("result", LargeBinary),
)

_encode = msgspec.json.Encoder().encode
_survey = msgspec.json.Decoder(Survey).decode


class Surveys:
    """The surveys in the explainer's file. Methods block: call them by `asyncio.to_thread`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, survey: Survey) -> bool:
        """Queue a survey; False where this version has one that is under way or done. A failed one is tried again."""
        values = _columns(survey)
        statement = insert(rows).values(**values)
        again = statement.on_conflict_do_update(
            index_elements=["model", "version"], set_=values | {"result": None}, where=rows.c.state == "failed"
        )
        with self._store.write() as connection:
            return bool(connection.execute(again).rowcount)

    def claim(self, now: float) -> Survey | None:
        """The oldest survey that is queued, now running."""
        due = (rows.c.state == "queued") & (rows.c.not_before <= now)
        query = select(rows.c.survey).where(due).order_by(rows.c.queued_at).limit(1)
        with self._store.write() as connection:
            found = connection.execute(query).scalar()
            if found is None:
                return None
            survey = _survey(found)
            taken = msgspec.structs.replace(survey, state="running", attempts=survey.attempts + 1)
            connection.execute(update(rows).where(_key(taken)).values(**_columns(taken)))
            return taken

    def put_back(self, survey: Survey) -> None:
        """A survey that is running waits again."""
        again = msgspec.structs.replace(survey, state="queued")
        with self._store.write() as connection:
            connection.execute(update(rows).where(_key(again)).values(**_columns(again)))

    def finish(self, survey: Survey, message: wire.Message | None = None, result: bytes | None = None) -> None:
        """A survey has ended; its event, where it has one, goes out with the same transaction."""
        with self._store.write() as connection:
            values = _columns(survey) | {"result": result}
            connection.execute(update(rows).where(_key(survey)).values(**values))
            if message is not None:
                outbox.put(connection, outbox_rows, message)

    def recover(self) -> None:
        """Queue again what was running when the last process ended."""
        with self._store.write() as connection:
            for found in connection.execute(select(rows.c.survey).where(rows.c.state == "running")).scalars().all():
                again = msgspec.structs.replace(_survey(found), state="queued")
                connection.execute(update(rows).where(_key(again)).values(**_columns(again)))

    def find(self, model: str, version: int) -> tuple[Survey, bytes | None] | None:
        """A version's survey, and the body of `model_explained` once it is done."""
        query = select(rows.c.survey, rows.c.result).where(rows.c.model == model, rows.c.version == version)
        with self._store.engine.connect() as connection:
            found = connection.execute(query).one_or_none()
        return None if found is None else (_survey(found[0]), found[1])

    def open_count(self) -> int:
        """How many are queued or running."""
        with self._store.engine.connect() as connection:
            return len(connection.execute(select(rows.c.model).where(rows.c.state.in_(OPEN))).all())


def _columns(survey: Survey) -> dict[str, object]:
    named = {name: getattr(survey, name) for name in ("model", "version", "state", "queued_at", "not_before")}
    return named | {"survey": _encode(survey)}


def _key(survey: Survey) -> ColumnElement[bool]:
    return (rows.c.model == survey.model) & (rows.c.version == survey.version)
