"""The bus, declared once, as data: streams, durable consumers, who may publish what.

`declare` makes a server agree with the declaration; nothing else creates streams or consumers. Data streams are
kept in files and refuse new messages when they are full (`discard=new`), because the default drops the oldest
ones without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

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

GIB = 1024**3
DAY = 86_400.0

SERVICES = ("registry", "deployer", "explainer", "auditor")
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
AUDIT = Stream("AUDIT", ("affiant.auditor.>",), GIB, 365 * DAY)
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


def publish_subjects(user: str) -> list[str]:
    """The subjects that a service, the model server or an outside system may publish to, and nothing else."""
    subjects = [f"affiant.{user}.>"]
    for durable in durables_of(user):
        where = f"{durable.stream}.{durable.name}"
        subjects += [
            f"{DEAD_LETTERS}.{durable.name}",
            f"$JS.API.CONSUMER.INFO.{where}",
            f"$JS.API.CONSUMER.MSG.NEXT.{where}",
            f"$JS.ACK.{where}.>",
        ]
    return subjects


async def declare(js: JetStreamContext, *, replicas: int = 1) -> list[str]:
    """Create or update every stream and durable; safe to repeat. Returns what was changed, for a person to read."""
    changed = [await _declare_stream(js, stream, replicas) for stream in STREAMS]
    changed += [await _declare_durable(js, durable) for durable in (*DURABLES, *OUTSIDE_DURABLES)]
    return [line for line in changed if line]


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
        # A dead letter leaves the stream when a person has it replayed or dropped; nothing else ever does.
        deny_delete=stream is not DEAD,
        deny_purge=stream is not DEAD,
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
