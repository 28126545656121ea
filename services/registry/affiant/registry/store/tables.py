"""The schema, the same on SQLite and PostgreSQL. Times are RFC 3339 in UTC and so sort as text.

Nothing here is deleted: versions change their state, aliases move by new rows, the history only grows.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from affiant.common.outbox import outbox_table

METADATA = MetaData()

MODELS = Table(
    "models",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("created_at", String(32), nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("last_version", Integer, nullable=False),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False),
    Column("state", String(16), nullable=False),
    Column("author", String(255), nullable=False),
    Column("registered_at", String(32), nullable=False),
    Column("spec", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("checks", Text, nullable=False),
    ForeignKeyConstraint(["model"], ["models.name"]),
)

IMAGES = Table(
    "images",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("image", String(512), nullable=False),
    Column("at", String(32), nullable=False),
    Column("by", String(255), nullable=False),
    Index("images_of_a_version", "model", "version"),
)

PROMOTIONS = Table(
    "promotions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", String(63), nullable=False),
    Column("alias", String(32), nullable=False),
    Column("version", Integer),
    Column("at", String(32), nullable=False),
    Column("approved_by", String(255), nullable=False),
    Column("by", String(255), nullable=False),
    Column("reason", Text, nullable=False),
    Column("rollback", Boolean, nullable=False),
    Column("before", Integer),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    Index("promotions_of_alias", "model", "alias", "id"),
    sqlite_autoincrement=True,
)

SHARES = Table(
    "shares",
    METADATA,
    # The move of the challenger's alias that promised it this percentage of the champion's requests.
    Column("move", Integer, primary_key=True, autoincrement=False),
    Column("traffic", Integer, nullable=False),
    ForeignKeyConstraint(["move"], ["promotions.id"]),
)

HISTORY = Table(
    "history",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", String(63), nullable=False),
    Column("version", Integer),
    Column("at", String(32), nullable=False),
    Column("by", String(255), nullable=False),
    Column("action", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", Text, nullable=False),
    Index("history_of_model", "model", "id"),
    sqlite_autoincrement=True,
)

DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("model", String(63), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("alias", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String(32), nullable=False),
)

SEEN = Table(
    "seen_events",
    METADATA,
    Column("id", String(255), primary_key=True),
)

OUTBOX = outbox_table(METADATA)
