"""The bus, declared once, as data: streams, durable consumers, accounts, who may publish what.

`declare` makes a server agree with the declaration; nothing else creates streams or consumers. Data streams are
kept in files and refuse new messages when they are full (`discard=new`), because the default drops the oldest
ones without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from affiant.common.errors import Problem

GIB = 1024**3
DAY = 86_400.0
MOST = 1e5
"""The highest limit of a stream that is taken, in GiB and in days."""

SERVICES = ("registry", "deployer", "explainer", "auditor")

API = "$JS.API"
LENT_API = "AFFIANT.API"
"""What JetStream's API is called in an account that has borrowed parts of it: a request to `$JS.API` would be answered
by the server itself, which says that the account has no JetStream."""

RECORDS_ACCOUNT = "AFFIANT"
AUDIT_ACCOUNT = "AUDIT"
ACCOUNTS = (RECORDS_ACCOUNT, AUDIT_ACCOUNT)
"""The accounts that hold streams. Nobody but an administrator has a user there (decision 50): inside an account,
whoever may publish at all can have the server's answer stored in any stream of it."""
GATEWAYS = ("auditor",)
"""Services that publish for outside systems what these send by HTTP."""
DEAD_LETTERS = "affiant.dead"
"""`affiant.dead.<durable>`: messages that were set aside, with the reason in their headers."""


@dataclass(frozen=True)
class Stream:
    """A JetStream stream. `max_age_seconds` lies far above the longest outage: it expires unread messages too."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age_seconds: float
    duplicate_window_seconds: float = 120.0
    account: str = RECORDS_ACCOUNT


@dataclass(frozen=True)
class Durable:
    """A durable pull consumer of one service, with explicit acks. Without limit of deliveries on the server: when
    to give up is decided by `affiant.common.delivery`, which then keeps the message as a dead letter.

    `ack_wait_seconds` is how long what a killed process held is missed: handlers only write to their own store, and
    the auditor says that it is still at work while it holds a batch."""

    name: str
    service: str
    stream: str
    filters: tuple[str, ...]
    ack_wait_seconds: float = 10.0
    max_ack_pending: int = 1_000


MODELS = Stream("MODELS", ("affiant.registry.>", "affiant.deployer.>"), GIB, 3650 * DAY)
PREDICTIONS = Stream("PREDICTIONS", ("affiant.modelserver.>", "affiant.outside.>"), 8 * GIB, 30 * DAY)
EXPLANATIONS = Stream("EXPLANATIONS", ("affiant.explainer.>",), 2 * GIB, 30 * DAY)
AUDIT = Stream("AUDIT", ("affiant.auditor.>",), GIB, 365 * DAY, account=AUDIT_ACCOUNT)
DEAD = Stream("DEAD", (f"{DEAD_LETTERS}.>",), GIB, 365 * DAY)

STREAMS = (MODELS, PREDICTIONS, EXPLANATIONS, AUDIT, DEAD)

_LOGGED = ("affiant.modelserver.prediction_logged.>", "affiant.outside.prediction_logged.>")

REGISTRY_DEPLOYMENTS = Durable("registry-deployments", "registry", "MODELS", ("affiant.deployer.>",))
DEPLOYER_MODELS = Durable("deployer-models", "deployer", "MODELS", ("affiant.registry.>",))
EXPLAINER_MODELS = Durable("explainer-models", "explainer", "MODELS", ("affiant.registry.>",))
EXPLAINER_PREDICTIONS = Durable("explainer-predictions", "explainer", "PREDICTIONS", _LOGGED)
AUDITOR_MODELS = Durable("auditor-models", "auditor", "MODELS", ("affiant.registry.>", "affiant.deployer.>"))
AUDITOR_PREDICTIONS = Durable(
    "auditor-predictions",
    "auditor",
    "PREDICTIONS",
    ("affiant.modelserver.>", "affiant.outside.>"),
    15.0,
    20_000,
)
AUDITOR_EXPLANATIONS = Durable(
    "auditor-explanations", "auditor", "EXPLANATIONS", ("affiant.explainer.>",), 15.0, 20_000
)
AUDITOR_OWN = Durable(
    "auditor-own",
    "auditor",
    "AUDIT",
    (
        "affiant.auditor.outcome_recorded.>",
        "affiant.auditor.decision_overridden.>",
        "affiant.auditor.gap_found.v1",
        "affiant.auditor.gap_closed.v1",
        "affiant.auditor.metric_breached.v1",
        "affiant.auditor.payloads_read.v1",
    ),
    15.0,
    20_000,
)
"""What the auditor itself says and what people say through it become entries of the log by the same way as all else.
Not its checkpoints: each would make the next one."""

DURABLES = (
    REGISTRY_DEPLOYMENTS,
    DEPLOYER_MODELS,
    EXPLAINER_MODELS,
    EXPLAINER_PREDICTIONS,
    AUDITOR_MODELS,
    AUDITOR_PREDICTIONS,
    AUDITOR_EXPLANATIONS,
    AUDITOR_OWN,
)

OUTSIDE_DURABLES = (
    Durable("outside-predictions", "outside", "PREDICTIONS", ("affiant.modelserver.>", "affiant.outside.>")),
    Durable("outside-explanations", "outside", "EXPLANATIONS", ("affiant.explainer.>",)),
    Durable("outside-audit", "outside", "AUDIT", ("affiant.auditor.>",)),
)
"""For outside systems that follow what is recorded. They are declared for them, because whoever may create a
consumer may also have it deliver to any subject, that is, forge events."""


def durables_of(service: str) -> tuple[Durable, ...]:
    """The durables that `service` reads."""
    return tuple(durable for durable in (*DURABLES, *OUTSIDE_DURABLES) if durable.service == service)


def inbox_prefix(user: str) -> str:
    """The private reply subjects of a user: without one of its own, any user could read another's answers."""
    return f"_INBOX_{user}"


@dataclass(frozen=True)
class Grant:
    """A subject of another account that a user may send to. `many`: one request is answered by many messages."""

    account: str
    subject: str
    many: bool = False

    @property
    def called(self) -> str:
        """The subject's name in the user's own account."""
        return self.subject.replace(API, LENT_API)


def account_of(stream: str) -> str:
    """The account that holds this stream."""
    return next(one.account for one in STREAMS if one.name == stream)


def grants(user: str, kind: str = "") -> list[Grant]:
    """All that a user may do on the bus but listen to its own inbox; nothing else is possible.

    `user` is a service, `modelserver`, `outside` or `operator`, or any other name with the `kind` `outside`: a
    system that publishes what it decided itself.
    """
    if user == "operator":
        return [*_watching(), *_replaying()]
    owner = kind or user
    account = next(stream.account for stream in STREAMS if f"affiant.{owner}.>" in stream.subjects)
    found = [Grant(account, f"affiant.{owner}.>")]
    # What other systems hand to a gateway by HTTP is published as theirs.
    found += [Grant(PREDICTIONS.account, "affiant.outside.>")] if user in GATEWAYS else []
    for durable in durables_of(user):
        found += _reading(durable)
        if durable.service in SERVICES:
            found.append(Grant(DEAD.account, f"{DEAD_LETTERS}.{durable.name}"))
    return found


def _reading(durable: Durable) -> list[Grant]:
    account, where = account_of(durable.stream), f"{durable.stream}.{durable.name}"
    return [
        Grant(account, f"{API}.CONSUMER.INFO.{where}"),
        Grant(account, f"{API}.CONSUMER.MSG.NEXT.{where}", many=True),
        Grant(account, f"$JS.ACK.{where}.>"),
    ]


def _watching() -> list[Grant]:
    """The operator sees how streams and durables are; not what was stored, other than dead letters."""
    durables = [(account_of(one.stream), f"{one.stream}.{one.name}") for one in (*DURABLES, *OUTSIDE_DURABLES)]
    return [
        *(Grant(stream.account, f"{API}.STREAM.INFO.{stream.name}") for stream in STREAMS),
        *(Grant(account, f"{API}.CONSUMER.INFO.{where}") for account, where in durables),
        Grant(DEAD.account, f"{API}.STREAM.MSG.GET.{DEAD.name}"),
        Grant(DEAD.account, f"{API}.STREAM.MSG.DELETE.{DEAD.name}"),
    ]


def _replaying() -> list[Grant]:
    """The operator publishes dead letters again, to where they came from; never what the auditor says."""
    streams = (MODELS, PREDICTIONS, EXPLANATIONS)
    return [Grant(stream.account, subject) for stream in streams for subject in stream.subjects]


def sized(streams: Iterable[Stream], environ: Mapping[str, str] = os.environ) -> list[Stream]:
    """`streams` with the room and the age that the installation gives them: `AFFIANT_STREAM_PREDICTIONS_MAX_GIB`,
    `AFFIANT_STREAM_PREDICTIONS_MAX_DAYS`, and so for every other stream. Raises `Problem` for what is no such number.
    """
    return [
        replace(
            stream,
            max_bytes=int(_limit(environ, stream, "GIB", stream.max_bytes / GIB) * GIB),
            max_age_seconds=_limit(environ, stream, "DAYS", stream.max_age_seconds / DAY) * DAY,
        )
        for stream in streams
    ]


def _limit(environ: Mapping[str, str], stream: Stream, unit: str, default: float) -> float:
    name = f"AFFIANT_STREAM_{stream.name}_MAX_{unit}"
    try:
        given = float(environ.get(name, default))
    except ValueError:
        given = 0.0
    if not 0 < given < MOST:
        raise Problem(f"{name}={environ.get(name)!r} is no limit", hint=f"a number above 0; without it {default:g}")
    return given


async def declare(js: JetStreamContext, *, streams: Iterable[Stream] = STREAMS, replicas: int = 1) -> list[str]:
    """Create or update `streams` and their durables; safe to repeat. Returns what was changed, for a person to read."""
    wanted = {stream.name: stream for stream in streams}
    durables = [durable for durable in (*DURABLES, *OUTSIDE_DURABLES) if durable.stream in wanted]
    changed = [await _declare_stream(js, stream, replicas) for stream in wanted.values()]
    changed += [await _declare_durable(js, durable) for durable in durables]
    return [line for line in changed if line]


async def reread(js: JetStreamContext, service: str, streams: Iterable[Stream] = STREAMS) -> list[str]:
    """Have everything that `streams` still hold delivered to `service` again; what it knows changes nothing."""
    names = {stream.name for stream in streams}
    durables = [durable for durable in DURABLES if durable.service == service and durable.stream in names]
    for durable in durables:
        with suppress(NotFoundError):
            await js.delete_consumer(durable.stream, durable.name)
        await _declare_durable(js, durable)
    return [durable.name for durable in durables]


async def _declare_stream(js: JetStreamContext, stream: Stream, replicas: int) -> str:
    config = StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=stream.max_bytes,
        max_age=stream.max_age_seconds,
        duplicate_window=stream.duplicate_window_seconds,
        num_replicas=replicas,
        # A dead letter leaves the stream when a person has it replayed or dropped; nothing else ever does. By name:
        # an installation may give the stream other limits, and then it is another object.
        deny_delete=stream.name != DEAD.name,
        deny_purge=stream.name != DEAD.name,
        # Not for us (decision 5): an outside system may publish several messages that count together or not at all.
        allow_atomic=True,
    )
    try:
        await js.stream_info(stream.name)
    except NotFoundError:
        await js.add_stream(config)
        return f"stream {stream.name} created"
    await js.update_stream(config)
    return ""


async def _declare_durable(js: JetStreamContext, durable: Durable) -> str:
    config = ConsumerConfig(
        durable_name=durable.name,
        filter_subjects=list(durable.filters),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=durable.ack_wait_seconds,
        max_deliver=-1,
        max_ack_pending=durable.max_ack_pending,
    )
    try:
        await js.consumer_info(durable.stream, durable.name)
    except NotFoundError:
        await js.add_consumer(durable.stream, config)
        return f"durable {durable.name} created"
    await js.add_consumer(durable.stream, config)
    return ""
