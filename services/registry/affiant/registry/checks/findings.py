"""What the service and the child process say to each other: a task on stdin, lines of JSON on stdout."""

from __future__ import annotations

from msgspec import Struct, field

from affiant.common.events import Check, Column, Decision, ReasonTable, TensorSpec
from affiant.registry.domain.manifest import Manifest

MIB = 1024 * 1024


class Limits(Struct, frozen=True, kw_only=True):
    """What an examination may take. `wall_seconds` ends it from outside, whatever the child does."""

    memory_bytes: int = 4096 * MIB
    cpu_seconds: int = 20
    wall_seconds: float = 30.0
    run_seconds: float = 5.0
    max_nodes: int = 20_000
    smoke_rows: int = 256


class Task(Struct, frozen=True, kw_only=True):
    """What the child is to examine. The files are read by it alone."""

    model_path: str
    background_path: str | None
    manifest: Manifest
    limits: Limits


class Finding(Struct, frozen=True, kw_only=True):
    """What a version's specification needs and only the file can tell."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    columns: list[Column]
    decision: Decision | None = None
    reasons: ReasonTable | None = None


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the child's answer: a check begins, a check ends, or all of them passed."""

    begun: str = ""
    check: Check | None = None
    finding: Finding | None = None


class Examination(Struct, frozen=True, kw_only=True):
    """The whole result; `finding` is None when a check failed, which is then the last of `checks`."""

    checks: list[Check] = field(default_factory=list)
    finding: Finding | None = None
