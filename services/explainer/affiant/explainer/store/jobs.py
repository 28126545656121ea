"""Where jobs, specs and waiting predictions are kept: SQLite, one transaction for a state and its event.

A job's columns that nothing is searched by lie in one JSON document, so that the schema is only what queries need.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from affiant.common import alone, outbox, wire
from affiant.common.events import ModelSpec, PredictionExplained, Shap
from affiant.explainer.domain import OPEN, STATES, Job, State

LOOK_AHEAD = 128
_KEY = ("prediction_id", "row", "trigger")

metadata = MetaData()
outbox_rows = outbox.outbox_table(metadata)

specs = Table(
    "specs",
    metadata,
    Column("model", String, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("seen_at", Float, nullable=False),
    Column("spec", LargeBinary, nullable=False),
)
waiting = Table(
    "waiting",
    metadata,
    Column("prediction_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("until", Float, nullable=False),
    Column("waiting", LargeBinary, nullable=False),
)
jobs = Table(
    "jobs",
    metadata,
    Column("prediction_id", String, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("trigger", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("deadline_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("job", LargeBinary, nullable=False),
    Column("result", LargeBinary),
    Index("jobs_in_order", "state", "priority", "queued_at"),
)


class Waiting(Struct, frozen=True, kw_only=True):
    """A prediction of a version that is not known yet. `record` is the event's data, as JSON."""

    prediction_id: str
    model: str
    version: int
    digest: str
    record: msgspec.Raw
    traceparent: str
    queued_at: float
    until: float


@dataclass(frozen=True)
class Ended:
    """A job that has ended, the event that says so, and the event's body where that is an explanation."""

    job: Job
    message: wire.Message
    result: bytes | None = None


_encode = msgspec.json.Encoder().encode
_job = msgspec.json.Decoder(Job).decode
_spec = msgspec.json.Decoder(ModelSpec).decode
_explained = msgspec.json.Decoder(PredictionExplained).decode
_waiting = msgspec.json.Decoder(Waiting).decode


def _one(_: Job, __: int) -> int:
    return 1


class Store:
    """All of it in one file. Methods block: call them by `asyncio.to_thread`. Writes are one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.engine = _engine(path)
        self._writing = threading.Lock()
        self._alone: int | None = None

    def open(self) -> None:
        """Make the file and its tables where they are not there yet. Raises `Conflict` where another explainer has
        them: it would take up as its own what this one is computing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._alone = alone.hold(self._path.parent, "explainer")
        metadata.create_all(self.engine)

    def close(self) -> None:
        """Close the file and let another explainer have the folder."""
        self.engine.dispose()
        if self._alone is not None:
            os.close(self._alone)
            self._alone = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed where the block ends well."""
        # One writer at a time in this process, so that what was read inside a transaction is still so at its end.
        with self._writing, self.engine.begin() as connection:
            yield connection

    # --- versions -------------------------------------------------------------------------------------------------

    def keep_spec(self, spec: ModelSpec, now: float) -> None:
        """Remember a version, or that it was seen again."""
        row = {"digest": spec.digest, "seen_at": now, "spec": _encode(spec)}
        statement = insert(specs).values(model=spec.model, version=spec.version, **row)
        with self.write() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["model", "version"], set_=row))

    def find_spec(self, model: str, version: int | None, digest: str) -> ModelSpec | None:
        """The version with these bytes; the newest one where the record names no version."""
        query = select(specs.c.spec).where(specs.c.model == model, specs.c.digest == digest)
        if version is not None:
            query = query.where(specs.c.version == version)
        with self.engine.connect() as connection:
            found = connection.execute(query.order_by(specs.c.version.desc()).limit(1)).scalar()
        return None if found is None else _spec(found)

    def find_version(self, model: str, version: int) -> ModelSpec | None:
        """A registered version."""
        query = select(specs.c.spec).where(specs.c.model == model, specs.c.version == version)
        with self.engine.connect() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else _spec(found)

    def recent_shap(self, model: str, version: int, limit: int, look_at: int = 5_000) -> list[Shap]:
        """SHAP values of the version's latest explanations; the newest `look_at` of all versions are looked at."""
        query = select(jobs.c.result).where(jobs.c.state == "done").order_by(jobs.c.queued_at.desc()).limit(look_at)
        found: list[Shap] = []
        with self.engine.connect() as connection:
            for event in map(_explained, connection.execute(query).scalars()):
                if (event.model, event.version) == (model, version) and event.shap is not None:
                    found.append(event.shap)
                    if len(found) == limit:
                        break
        return found

    def recent_specs(self, limit: int) -> list[ModelSpec]:
        """The versions that were registered or promoted last."""
        query = select(specs.c.spec).order_by(specs.c.seen_at.desc()).limit(limit)
        with self.engine.connect() as connection:
            return [_spec(found) for found in connection.execute(query).scalars()]

    # --- predictions whose version is not known yet -----------------------------------------------------------------

    def keep(self, planned: Sequence[Job], predictions: Sequence[Waiting] = ()) -> None:
        """Queue jobs, and keep predictions until their version is known; what is there already stays as it is."""
        rows = [
            {
                "prediction_id": each.prediction_id,
                "model": each.model,
                "version": each.version,
                "digest": each.digest,
                "until": each.until,
                "waiting": _encode(each),
            }
            for each in predictions
        ]
        with self.write() as connection:
            _add(connection, planned)
            if rows:
                connection.execute(insert(waiting).on_conflict_do_nothing(), rows)

    def arrived(self, limit: int = 100) -> list[tuple[Waiting, ModelSpec]]:
        """Waiting predictions whose version is known by now."""
        same = (
            (specs.c.model == waiting.c.model)
            & (specs.c.version == waiting.c.version)
            & (specs.c.digest == waiting.c.digest)
        )
        query = select(waiting.c.waiting, specs.c.spec).join(specs, same).order_by(waiting.c.until).limit(limit)
        with self.engine.connect() as connection:
            return [(_waiting(row[0]), _spec(row[1])) for row in connection.execute(query)]

    def overdue(self, now: float, limit: int = 100) -> list[Waiting]:
        """Predictions that have waited long enough."""
        query = select(waiting.c.waiting).where(waiting.c.until <= now).order_by(waiting.c.until).limit(limit)
        with self.engine.connect() as connection:
            return [_waiting(found) for found in connection.execute(query).scalars()]

    def waiting_for(self, prediction_id: str) -> Waiting | None:
        """A prediction that waits, by its id."""
        query = select(waiting.c.waiting).where(waiting.c.prediction_id == prediction_id)
        with self.engine.connect() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else _waiting(found)

    def settle(self, prediction_id: str, planned: Sequence[Job], messages: Sequence[wire.Message] = ()) -> None:
        """A prediction waits no longer: its jobs, queued or already ended with the events that say so."""
        with self.write() as connection:
            if connection.execute(delete(waiting).where(waiting.c.prediction_id == prediction_id)).rowcount:
                _add(connection, planned)
                for message in messages:
                    outbox.put(connection, outbox_rows, message)

    # --- jobs -----------------------------------------------------------------------------------------------------

    def add(self, planned: Sequence[Job]) -> int:
        """Queue jobs; those that are there already stay as they are. Returns how many are new."""
        with self.write() as connection:
            return _add(connection, planned)

    def replace(self, job: Job) -> bool:
        """Queue `job`, in the place of an ended one with its key; False where that one is still under way."""
        row = {name: value for name, value in _columns(job).items() if name not in _KEY} | {"result": None}
        statement = insert(jobs).values(**_columns(job))
        ended = jobs.c.state.not_in(OPEN)
        with self.write() as connection:
            done = connection.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=row, where=ended))
            return bool(done.rowcount)

    def move(self, job: Job, priority: int) -> Job:
        """Give a job that is still queued another priority. Returns it as it stands now."""
        query = select(jobs.c.job).where(_key(job))
        with self.write() as connection:
            now = _job(connection.execute(query).scalar_one())
            if now.state == "queued":
                now = msgspec.structs.replace(now, priority=priority)
                _save(connection, now)
            return now

    def claim(self, now: float, room: Callable[[Job, int], int] = _one) -> list[Job]:
        """The next jobs, now running: highest priority first, then the oldest, and others like it.

        They are of one version and one priority. `room` is told the first job and how many wait (of those looked at,
        at most `LOOK_AHEAD`) and answers how many may be taken.
        """
        query = (
            select(jobs.c.job)
            .where(jobs.c.state == "queued", jobs.c.not_before <= now, jobs.c.deadline_at > now)
            .order_by(jobs.c.priority, jobs.c.queued_at)
            .limit(LOOK_AHEAD)
        )
        with self.write() as connection:
            waiting = [_job(found) for found in connection.execute(query).scalars()]
            if not waiting:
                return []
            first = waiting[0]
            like = [first] if first.alone else [job for job in waiting if _alike(first, job)]
            taken = [
                msgspec.structs.replace(job, state="running", attempts=job.attempts + 1, started_at=now)
                for job in like[: room(first, len(waiting))]
            ]
            for job in taken:
                _save(connection, job)
            return taken

    def put_back(self, *given: Job) -> None:
        """Jobs that are running wait again, as `given` says; one that has just ended stays ended."""
        with self.write() as connection:
            for job in given:
                again = msgspec.structs.replace(job, state="queued", started_at=None)
                running = _key(job) & (jobs.c.state == "running")
                connection.execute(update(jobs).where(running).values(**_columns(again)))

    def finish(self, *ended: Ended) -> None:
        """Jobs have ended (`job.state`); their events go out with the same transaction."""
        with self.write() as connection:
            for each in ended:
                _save(connection, each.job, each.result)
                outbox.put(connection, outbox_rows, each.message)

    def forget(self, before: float, limit: int = 1_000) -> int:
        """Remove ended jobs that were queued before a moment. Returns how many; fewer than `limit`: that was all."""
        old = jobs.c.state.not_in(OPEN) & (jobs.c.queued_at < before)
        keys = select(*(jobs.c[name] for name in _KEY)).where(old).limit(limit)
        with self.write() as connection:
            found = connection.execute(keys).all()
            for key in found:
                connection.execute(delete(jobs).where(*(jobs.c[name] == value for name, value in key._mapping.items())))
        return len(found)

    def expire(self, now: float, ended: Callable[[Job], tuple[Job, wire.Message]], limit: int = 100) -> int:
        """End the queued jobs whose deadline has passed. Returns how many; fewer than `limit` means that was all."""
        query = select(jobs.c.job).where(jobs.c.state == "queued", jobs.c.deadline_at <= now).limit(limit)
        with self.write() as connection:
            found = [_job(row) for row in connection.execute(query).scalars()]
            for job, message in map(ended, found):
                _save(connection, job)
                outbox.put(connection, outbox_rows, message)
        return len(found)

    def recover(self) -> int:
        """Queue again what was running when the last process ended. Returns how many there were."""
        with self.write() as connection:
            found = [
                _job(row) for row in connection.execute(select(jobs.c.job).where(jobs.c.state == "running")).scalars()
            ]
            for job in found:
                _save(connection, msgspec.structs.replace(job, state="queued", started_at=None))
        return len(found)

    def jobs_of(self, prediction_id: str, row: int | None = None) -> list[tuple[Job, bytes | None]]:
        """The jobs of a prediction with the events that ended them, in the order of rows."""
        query = select(jobs.c.job, jobs.c.result).where(jobs.c.prediction_id == prediction_id)
        if row is not None:
            query = query.where(jobs.c.row == row)
        with self.engine.connect() as connection:
            return [
                (_job(found[0]), found[1]) for found in connection.execute(query.order_by(jobs.c.row, jobs.c.queued_at))
            ]

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        with self.engine.connect() as connection:
            found = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        counted = {row[0]: int(row[1]) for row in found}
        return {state: counted.get(state, 0) for state in STATES}

    def count_waiting(self) -> int:
        """How many predictions wait for their version."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(waiting)).scalar_one())

    def listed(self, state: State, model: str | None, limit: int) -> list[Job]:
        """Jobs in a state, of one model or of all, the oldest first."""
        query = select(jobs.c.job).where(jobs.c.state == state).order_by(jobs.c.queued_at)
        found: list[Job] = []
        with self.engine.connect() as connection:
            for row in connection.execution_options(stream_results=True).execute(query).scalars():
                job = _job(row)
                if model is None or job.model == model:
                    found.append(job)
                if len(found) == limit:
                    break
        return found

    def oldest_queued_at(self) -> float | None:
        """When the oldest queued job was queued."""
        with self.engine.connect() as connection:
            return connection.execute(select(func.min(jobs.c.queued_at)).where(jobs.c.state == "queued")).scalar()


def _alike(first: Job, job: Job) -> bool:
    same = (job.model, job.version, job.digest, job.priority) == (
        first.model,
        first.version,
        first.digest,
        first.priority,
    )
    return same and not job.alone


def _columns(job: Job) -> dict[str, Any]:
    return {
        "prediction_id": job.prediction_id,
        "row": job.row,
        "trigger": job.trigger,
        "state": job.state,
        "priority": job.priority,
        "queued_at": job.queued_at,
        "deadline_at": job.deadline_at,
        "not_before": job.not_before,
        "job": _encode(job),
    }


def _add(connection: Connection, planned: Sequence[Job]) -> int:
    if not planned:
        return 0
    return connection.execute(insert(jobs).on_conflict_do_nothing(), [_columns(job) for job in planned]).rowcount


def _save(connection: Connection, job: Job, result: bytes | None = None) -> None:
    connection.execute(update(jobs).where(_key(job)).values(**_columns(job), result=result))


def _key(job: Job) -> ColumnElement[bool]:
    return (jobs.c.prediction_id == job.prediction_id) & (jobs.c.row == job.row) & (jobs.c.trigger == job.trigger)


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        # FULL: what was acknowledged on the bus must be on the disk.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
