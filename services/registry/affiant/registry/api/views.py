"""What the registry answers over HTTP. Types of events appear as they are on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from affiant.common.events import Alias, Check, ModelSpec
from affiant.registry.actions.lookup import Holder, Model
from affiant.registry.domain.lifecycle import Entry, Version


@dataclass(frozen=True)
class AsOnTheWire:
    """Lets pydantic answer an event's part as msgspec writes it, with its own JSON Schema in the OpenAPI document."""

    kind: Any

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(msgspec.to_builtins)
        return core_schema.any_schema(serialization=written)

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = msgspec.json.schema(self.kind)
        inlined: dict[str, Any] = _inline(schema, schema.get("$defs", {}))
        return inlined


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """`schema` without references: OpenAPI looks for them elsewhere, and none of ours is recursive."""
    if isinstance(schema, list):
        return [_inline(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    return {key: _inline(value, definitions) for key, value in schema.items() if key != "$defs"}


Spec = Annotated[ModelSpec, AsOnTheWire(ModelSpec)]
Checks = Annotated[list[Check], AsOnTheWire(list[Check])]


@dataclass(frozen=True)
class DeploymentView:
    """What the deployer last said of a version: serving, failed or undeployed; `url` while it is served."""

    alias: str
    state: str
    url: str
    reason: str
    at: str


@dataclass(frozen=True)
class VersionView:
    """One version. `state` is registered, deprecated or archived; `traffic` the percentage of the champion's requests
    that it answers as the challenger."""

    model: str
    version: int
    digest: str
    state: str
    author: str
    registered_at: str
    aliases: list[str]
    spec: Spec
    checks: Checks
    deployment: DeploymentView | None
    traffic: int = 0


@dataclass(frozen=True)
class ModelSummary:
    """A model at a glance; `aliases` maps an alias to the version that holds it."""

    model: str
    latest_version: int
    version_count: int
    aliases: dict[str, int]


@dataclass(frozen=True)
class ModelList:
    """Every model, by name."""

    models: list[ModelSummary]


@dataclass(frozen=True)
class ModelView(ModelSummary):
    """A model with its versions, the newest first."""

    versions: list[VersionView]


@dataclass(frozen=True)
class HistoryEntry:
    """Who did what, when and why. `version` is null for a refused registration, whose details hold the checks."""

    at: str
    by: str
    action: str
    version: int | None
    reason: str
    details: dict[str, Any]


@dataclass(frozen=True)
class History:
    """The history of a model, oldest first."""

    model: str
    history: list[HistoryEntry]


@dataclass(frozen=True)
class HolderView:
    """The version that an alias pointed to, by the word of `approved_by`; `until` is empty while it does."""

    model: str
    alias: str
    version: int
    digest: str
    since: str
    until: str
    approved_by: str
    by: str
    reason: str
    rollback: bool


@dataclass(frozen=True)
class RefusalView:
    """Why a registration was refused; the last of `checks` is the one that failed."""

    error: str
    hint: str
    checks: Checks = field(default_factory=list)


@dataclass(frozen=True)
class Promote:
    """Which alias should point to the version; the caller's word is the approval.

    `traffic`: the percentage of the requests to the champion's address that a challenger should answer (0 to 99).
    """

    alias: Alias
    reason: str = ""
    traffic: int | None = None


@dataclass(frozen=True)
class Package:
    """The image that holds the version: `<registry>/<repository>@sha256:…`."""

    image: str
    platforms: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class Rollback:
    """Which alias should go back."""

    alias: Alias = "champion"
    reason: str = ""


@dataclass(frozen=True)
class Deprecate:
    """Why."""

    reason: str = ""


@dataclass(frozen=True)
class Archive:
    """Why; `force` archives the champion too, and so ends its service."""

    reason: str = ""
    force: bool = False


def version_view(version: Version) -> VersionView:
    """One version as it is answered."""
    deployed = version.deployment
    return VersionView(
        model=version.model,
        version=version.version,
        digest=version.digest,
        state=version.state,
        author=version.author,
        registered_at=version.registered_at,
        aliases=list(version.aliases),
        traffic=version.traffic,
        spec=version.spec,
        checks=list(version.checks),
        deployment=DeploymentView(**msgspec.to_builtins(deployed)) if deployed else None,
    )


def model_summary(model: Model) -> ModelSummary:
    """A model as it is answered in a list."""
    return ModelSummary(
        model=model.name,
        latest_version=model.versions[0].version,
        version_count=len(model.versions),
        aliases={alias: version.version for version in model.versions for alias in version.aliases},
    )


def model_view(model: Model) -> ModelView:
    """A model as it is answered by itself."""
    versions = [version_view(version) for version in model.versions]
    return ModelView(**msgspec.to_builtins(model_summary(model)), versions=versions)


def history_view(model: str, entries: list[Entry]) -> History:
    """A history as it is answered."""
    lines = [HistoryEntry(e.at, e.by, e.action, e.version, e.reason, dict(e.details)) for e in entries]
    return History(model, lines)


def holder_view(holder: Holder) -> HolderView:
    """The holder of an alias as it is answered."""
    move = holder.move
    return HolderView(
        model=move.model,
        alias=move.alias,
        version=holder.version.version,
        digest=holder.version.digest,
        since=move.at,
        until=holder.until,
        approved_by=move.approved_by,
        by=move.by,
        reason=move.reason,
        rollback=move.rollback,
    )
