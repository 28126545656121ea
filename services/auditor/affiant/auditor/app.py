"""Puts the auditor together; nothing else."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from faststream.nats import NatsRouter

from affiant.auditor.actions.checkpoints import Checkpoints
from affiant.auditor.actions.columns import FOLDER, Columns
from affiant.auditor.actions.compaction import keep_compact
from affiant.auditor.actions.cosign import Cosigners
from affiant.auditor.actions.depositions import Depositions
from affiant.auditor.actions.dossier import Dossiers
from affiant.auditor.actions.erase import Eraser
from affiant.auditor.actions.gauges import watch_store
from affiant.auditor.actions.integrity import Inspector
from affiant.auditor.actions.leadership import Leadership
from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.measure import Measure
from affiant.auditor.actions.prove import Prover
from affiant.auditor.actions.publish import Shelf
from affiant.auditor.actions.reads import FOLDER as READS, Reads
from affiant.auditor.actions.rebuild import Rebuilder
from affiant.auditor.actions.relay import Relay
from affiant.auditor.actions.sink import Sink
from affiant.auditor.actions.watch import Watch
from affiant.auditor.actions.writer import Writer
from affiant.auditor.api.dossiers import make_dossiers
from affiant.auditor.api.erasure import make_erasure
from affiant.auditor.api.log import make_log_api
from affiant.auditor.api.routes import make_api
from affiant.auditor.api.sinks import make_sinks
from affiant.auditor.api.testimony import make_testimony
from affiant.auditor.api.upkeep import make_upkeep
from affiant.auditor.handlers.intake import Intake
from affiant.auditor.handlers.lag import watch_lag
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store.location import locate
from affiant.common.service import Runtime, Service
from affiant.common.settings import load


def make_service(settings: AuditorSettings | None = None) -> Service:
    """The auditor, with settings from the environment where none are given. Connects nothing."""
    settings = settings or load(AuditorSettings, "AFFIANT_AUDITOR")
    database = locate(settings.database_url, Path(settings.data_dir), settings.database_password_file)
    writer = Writer(database)
    relay = Relay(database, writer)
    intakes: list[Intake] = []
    columns = Columns(database, Path(settings.data_dir) / FOLDER, lambda: any(intake.busy for intake in intakes))
    lookup = Lookup(database, columns)
    measure = Measure(lookup, writer)
    signing = Checkpoints(writer, settings, relay.wake)
    watch = Watch(lookup, writer, measure, settings, relay.wake)
    depositions = Depositions(lookup)
    sink = Sink(writer, settings, relay.wake)
    eraser = Eraser(lookup, writer, settings, columns, relay.wake)
    cosigners = Cosigners(lookup, writer, settings)
    reads = Reads(lookup, Path(settings.data_dir) / READS)

    leadership = Leadership(writer, signing)

    def lead(runtime: Runtime) -> list[Coroutine[Any, Any, None]]:
        """What only the leader does."""
        intake = Intake(
            runtime.nats, runtime.js, writer.record, batch=settings.batch_events, linger=settings.linger_seconds
        )
        intakes[:] = [intake]
        work = [intake.run(), signing.run(), watch.run(), relay.run(runtime.js), watch_lag(runtime.js, intake)]
        return [*work, eraser.run(), keep_compact(writer), sink.run(), cosigners.run()]

    @asynccontextmanager
    async def lifespan(runtime: Runtime) -> AsyncIterator[None]:
        _collect_garbage_less_often()
        depositions.open(runtime.js)
        sink.open(runtime.js)
        await leadership.settle()
        if leadership.readable.is_set():
            await columns.open_when_free()
        runtime.tasks.create_task(leadership.run(partial(lead, runtime)))
        runtime.tasks.create_task(columns.run(leadership.readable))
        runtime.tasks.create_task(watch_store(database, Path(settings.data_dir), signing, leadership.readable))
        runtime.tasks.create_task(reads.run(runtime.js))
        try:
            yield
        finally:
            reads.close()
            columns.close()
            writer.close()
            # Or DuckDB's binding complains at the end of the process of objects that nobody collects any more.
            gc.unfreeze()

    async def ready() -> list[str]:
        held = intakes if leadership.role == "leader" else []
        away = [f"the store is away: {intake.away}" for intake in held if intake.away]
        faults = (leadership.fault, signing.fault, signing.unwitnessed)
        return [*away, *[reason for reason in faults if reason]]

    def state() -> dict[str, str]:
        return {"role": leadership.role}

    prover = Prover(lookup, signing)
    api = APIRouter()
    more = (
        make_testimony(depositions),
        make_upkeep(Rebuilder(writer)),
        make_dossiers(Dossiers(lookup, prover, measure), reads),
        make_log_api(Shelf(lookup), prover, reads, cosigners),
        make_erasure(eraser),
        make_sinks(sink),
    )
    for router in (make_api(lookup, prover, measure, Inspector(lookup, signing), reads), *more):
        api.include_router(router)
    return Service("auditor", settings, NatsRouter(), api, lifespan, ready, state)


def _collect_garbage_less_often() -> None:
    """A batch is thousands of small live objects, none in a cycle: collecting by the default thresholds walked them
    again and again, a third of the time that recording takes.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
