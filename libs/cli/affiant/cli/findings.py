"""What `affiant doctor` looks at, one function for each subject. Each finding says what to do next."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo, StreamInfo
from nats.js.errors import NotFoundError

from affiant.cli import home as homes, probes, processes
from affiant.cli.connection import connected
from affiant.cli.home import Home
from affiant.cli.record import Record
from affiant.cli.services import Services
from affiant.common import bus
from affiant.common.errors import Problem

Level = Literal["good", "note", "problem"]

LAG_WORTH_A_NOTE = 1_000
DISK_PROBLEM_BYTES = 1024**3
DISK_NOTE_BYTES = 5 * 1024**3
STREAM_NEARLY_FULL = 0.9
INTEGRITY_SECONDS = 120.0
"""Tens of thousands of entries are hashed."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `next_step` is empty where nothing needs to be done."""

    level: Level
    subject: str
    said: str
    next_step: str = ""


def of_home(home: Home) -> Iterator[Finding]:
    """The folder: there, private, on a disk with room."""
    if not home.path.is_dir():
        yield Finding("problem", "home", f"{home.path} does not exist", "affiant up makes it")
        return
    exposed = homes.exposed(home)
    if exposed:
        step = f"chmod -R go-rwx {home.path}"
        yield Finding("problem", "secrets", f"others may read {', '.join(map(str, exposed[:3]))}", step)
    else:
        yield Finding("good", "home", f"{home.path}; secrets are private")
    yield _disk(home)


def _disk(home: Home) -> Finding:
    free = shutil.disk_usage(home.path).free
    said = f"{free / 1024**3:.1f} GiB free"
    if free < DISK_PROBLEM_BYTES:
        return Finding("problem", "disk", said, "make room: a full disk stops the bus, and then every answer")
    if free < DISK_NOTE_BYTES:
        most = sum(stream.max_bytes for stream in bus.STREAMS) / 1024**3
        return Finding("note", "disk", said, f"the streams alone may grow to {most:.0f} GiB")
    return Finding("good", "disk", said)


def of_processes(home: Home, found: Record) -> Iterator[Finding]:
    """Every recorded process runs, and says that it is ready."""
    if not (found.up.pid and processes.alive(found.up.identity)):
        yield Finding("problem", "up", "affiant up does not run: nothing restarts what crashes", "affiant up")
    for name, entry in found.processes().items():
        reasons = probes.nats_unready(entry.url) if name == "nats" else probes.unready(entry.url)
        if not reasons:
            yield Finding("good", name, f"ready at {entry.url}")
            continue
        ended = not (entry.pid and processes.alive(entry.identity))
        step = "affiant up" if ended else f"its log says more: {home.log(name)}"
        yield Finding("problem", name, f"at {entry.url}: {'; '.join(reasons)}", step)


async def of_bus(home: Home) -> list[Finding]:
    """The bus: reachable, declared as `affiant.common.bus` says, nothing stuck, no dead letters."""
    try:
        async with connected(home, "operator") as client:
            return await _bus(client)
    except Problem as problem:
        return [Finding("problem", "bus", problem.message, problem.hint or f"its log: {home.log('nats')}")]


async def _bus(client: Client) -> list[Finding]:
    js = client.jetstream()
    findings = [await _stream(js, stream) for stream in bus.STREAMS]
    findings += [await _durable(js, durable) for durable in (*bus.DURABLES, *bus.OUTSIDE_DURABLES)]
    return [*findings, await _dead_letters(js)]


async def _stream(js: JetStreamContext, stream: bus.Stream) -> Finding:
    subject = f"stream {stream.name}"
    try:
        info = await js.stream_info(stream.name)
    except NotFoundError:
        return Finding("problem", subject, "does not exist", "affiant up declares it at its start")
    differences = _stream_differences(info, stream)
    if differences:
        return Finding(
            "problem", subject, f"is not as declared: {differences}", "affiant down; affiant up declares it anew"
        )
    used = info.state.bytes / stream.max_bytes
    said = f"{info.state.messages:,} messages, {info.state.bytes / 1024**2:.1f} MiB ({used:.0%} of its limit)"
    if used > STREAM_NEARLY_FULL:
        return Finding("problem", subject, said, "full, it refuses messages: raise max_bytes in affiant.common.bus")
    return Finding("good", subject, said)


def of_work(home: Home) -> Iterator[Finding]:
    """What the services say of their work: deployments that failed, requests that are missing from the record."""
    services = Services(home, "omar")
    try:
        deployments = services.get("deployer", "/v1/deployments")["deployments"]
        summary = services.get("auditor", "/v1/summary")
    except Problem as problem:
        yield Finding("problem", "work", problem.message, problem.hint or "affiant doctor, in a moment")
        return
    for one in deployments:
        name = f"deployment {one['model']}/{one['version']} ({one['alias']})"
        failed = one["state"] == "failed"
        step = "promote another version, or affiant rollback" if failed else ""
        yield Finding("problem" if failed else "good", name, one["reason"] or one["state"], step)
    yield _record(summary)
    yield of_integrity(services)


def of_integrity(services: Services) -> Finding:
    """The log as it is stored, held by the auditor against its checkpoints."""
    try:
        found = services.ask("auditor", "GET", "/v1/integrity", timeout=INTEGRITY_SECONDS).json()
    except Problem as problem:
        return Finding(
            "problem", "log", f"not checked: {problem.message}", problem.hint or "affiant doctor, in a moment"
        )
    checked = f"{found['checked']:,} of {found['size']:,} entries"
    if found["intact"]:
        return Finding("good", "log", f"{checked} verified against the checkpoint over {found['checkpoint_size']:,}")
    first, more = found["damage"][0]["said"], len(found["damage"]) - 1
    said = f"{first}" + (f", and {more:,} more found" if more else "") + f" ({checked} checked)"
    return Finding("problem", "log", said, found["advice"])


def _record(summary: dict[str, int]) -> Finding:
    missing = summary["missing"]
    said = f"{summary['predictions']:,} predictions on record, {summary['explained']:,} explained, {missing:,} missing"
    step = "requests were numbered but never arrived: affiant completeness names them"
    return Finding("problem", "record", said, step) if missing else Finding("good", "record", said)


def _stream_differences(info: StreamInfo, stream: bus.Stream) -> str:
    config = info.config
    pairs = {
        "subjects": (sorted(config.subjects or []), sorted(stream.subjects)),
        "max_bytes": (config.max_bytes, stream.max_bytes),
        "max_age": (config.max_age, stream.max_age_seconds),
        "discard": (str(getattr(config.discard, "value", config.discard)), "new"),
    }
    return "; ".join(f"{name} is {is_}, declared {wanted}" for name, (is_, wanted) in pairs.items() if is_ != wanted)


async def _durable(js: JetStreamContext, durable: bus.Durable) -> Finding:
    subject = f"durable {durable.name}"
    try:
        info = await js.consumer_info(durable.stream, durable.name)
    except NotFoundError:
        return Finding("problem", subject, "does not exist", "affiant up declares it at its start")
    if differences := _durable_differences(info, durable):
        return Finding(
            "problem", subject, f"is not as declared: {differences}", "affiant down; affiant up declares it anew"
        )
    return _lag(subject, info, durable)


def _durable_differences(info: ConsumerInfo, durable: bus.Durable) -> str:
    config = info.config
    pairs = {
        "filters": (sorted(config.filter_subjects or [config.filter_subject or ""]), sorted(durable.filters)),
        "ack_wait": (config.ack_wait, durable.ack_wait_seconds),
        "max_ack_pending": (config.max_ack_pending, durable.max_ack_pending),
        "max_deliver": (config.max_deliver, -1),
    }
    return "; ".join(f"{name} is {is_}, declared {wanted}" for name, (is_, wanted) in pairs.items() if is_ != wanted)


def _lag(subject: str, info: ConsumerInfo, durable: bus.Durable) -> Finding:
    waiting, under_way, again = info.num_pending or 0, info.num_ack_pending or 0, info.num_redelivered or 0
    said = f"{waiting:,} waiting, {under_way:,} under way" + (f", {again:,} being tried again" if again else "")
    if durable.service == "outside":
        return Finding("good", subject, f"{said} (for another system to read)")
    if again:
        return Finding("note", subject, said, f"the {durable.service}'s log says why")
    if waiting > LAG_WORTH_A_NOTE:
        return Finding("note", subject, said, f"the {durable.service} is behind; it catches up while this falls")
    return Finding("good", subject, said)


async def _dead_letters(js: JetStreamContext) -> Finding:
    try:
        count = (await js.stream_info(bus.DEAD.name)).state.messages
    except NotFoundError:
        return Finding("problem", "dead letters", "their stream does not exist", "affiant up declares it at its start")
    if count:
        return Finding("problem", "dead letters", f"{count} messages were set aside", "affiant dead-letters list")
    return Finding("good", "dead letters", "none")
