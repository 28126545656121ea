"""Making a version: receive, examine, keep, write down, tell."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
import structlog
from prometheus_client import Histogram

from affiant.common import ids
from affiant.common.errors import NotFound, Problem
from affiant.common.events import Check, ModelRegistered, ModelSpec
from affiant.registry.actions.order import Order
from affiant.registry.checks.examiner import Examiner
from affiant.registry.checks.findings import MIB, Examination, Finding
from affiant.registry.domain.lifecycle import Version, check_model_name
from affiant.registry.domain.manifest import Manifest
from affiant.registry.store.artifacts import Artifacts, Incoming
from affiant.registry.store.database import Store
from affiant.registry.store.records import Records

log = structlog.get_logger(__name__)

_examined = Histogram("affiant_examination_seconds", "How long models were examined, by how it ended", ["result"])


@dataclass(frozen=True)
class Upload:
    """What an author sent. `stated_digest` is what the sender computed of the model, where it did."""

    model: str
    file: BinaryIO
    background: BinaryIO | None
    manifest: Manifest
    stated_digest: str = ""


@dataclass(frozen=True)
class _Received:
    model: Incoming
    background: Incoming | None


@dataclass(frozen=True)
class Registration:
    """Registers versions. No file is kept, and no number given, before every check has passed."""

    store: Store
    artifacts: Artifacts
    examiner: Examiner
    max_model_bytes: int
    max_background_bytes: int

    async def register(self, upload: Upload, order: Order) -> Version:
        """The new version. Raises `Problem` (422) with the checks when one failed; that is recorded too."""
        check_model_name(upload.model)
        received = await asyncio.to_thread(self._receive, upload)
        try:
            begun = time.monotonic()
            examined = await self._examine(upload, received)
            result = "passed" if examined.finding else "refused"
            _examined.labels(result).observe(time.monotonic() - begun)
            if examined.finding is None:
                raise await self._refuse(upload.model, received, examined.checks, order)
            return await self._keep(upload, received, examined.checks, examined.finding, order)
        finally:
            await asyncio.to_thread(self.artifacts.discard, received.model, received.background)

    def _receive(self, upload: Upload) -> _Received:
        model = self.artifacts.receive(upload.file)
        try:
            return _Received(model, self.artifacts.receive(upload.background) if upload.background else None)
        except OSError:
            self.artifacts.discard(model)
            raise

    async def _examine(self, upload: Upload, received: _Received) -> Examination:
        checks = [self._check_size(received)]
        if checks[-1].passed:
            checks.append(_check_digest(upload.stated_digest, received.model.digest))
        if not checks[-1].passed:
            return Examination(checks=checks)
        background = received.background.path if received.background else None
        found = await self.examiner.examine(received.model.path, background, upload.manifest)
        return Examination(checks=[*checks, *found.checks], finding=found.finding)

    def _check_size(self, received: _Received) -> Check:
        sizes = [("model", received.model, self.max_model_bytes)]
        if received.background:
            sizes.append(("background data", received.background, self.max_background_bytes))
        for name, file, most in sizes:
            if not 0 < file.size <= most:
                detail = f"the {name} has {file.size} bytes; it may have 1 to {most} ({most // MIB} MiB)"
                hint = "ask an operator for a higher limit" if file.size else "send the file's content"
                return Check(name="size", passed=False, detail=f"{detail}; {hint}")
        return Check(name="size", passed=True, detail=", ".join(f"{n} {f.size} bytes" for n, f, _ in sizes))

    async def _refuse(self, model: str, received: _Received, checks: list[Check], order: Order) -> Problem:
        failed = checks[-1]
        digest = received.model.digest
        log.info("model refused", model=model, author=order.person, check=failed.name, digest=digest)
        await self.store.transact(
            lambda records: records.note(
                model,
                None,
                "refused",
                at=ids.now(),
                by=order.person,
                reason=f"{failed.name}: {failed.detail}",
                digest=digest,
                checks=checks,
            )
        )
        return Problem(
            f"the model was refused at the check {failed.name!r}: {failed.detail}",
            status=422,
            hint="No version was made. Correct what the failed check says and register again.",
            details={"checks": msgspec.to_builtins(checks)},
        )

    async def _keep(
        self, upload: Upload, received: _Received, checks: list[Check], finding: Finding, order: Order
    ) -> Version:
        # Files first: a row must never name a file that is not there. A file without a row harms nobody.
        for file in (received.model, received.background):
            if file is not None:
                await asyncio.to_thread(self.artifacts.keep, file)

        def write(records: Records) -> Version:
            at = ids.now()
            number = records.next_version(upload.model, order.person, at)
            spec = _spec(upload, received, finding, order.person, number)
            records.add_version(spec, checks, at)
            records.note(
                upload.model, number, "registered", at=at, by=order.person, reason=order.reason, digest=spec.digest
            )
            event = ModelRegistered(model=upload.model, version=number, spec=spec, checks=checks, registered_at=at)
            records.publish(order.message(event))
            return _written(records, upload.model, number)

        version = await self.store.transact(write)
        log.info("model registered", model=version.model, version=version.version, author=version.author)
        return version


def _check_digest(stated: str, actual: str) -> Check:
    wanted = stated if not stated or ":" in stated else f"sha256:{stated}"
    if wanted and wanted.lower() != actual:
        detail = f"the sender says {wanted[:80]}, but {actual} arrived; send the file again"
        return Check(name="digest", passed=False, detail=detail)
    return Check(name="digest", passed=True, detail=f"{actual}{', as the sender says' if wanted else ''}")


def _spec(upload: Upload, received: _Received, finding: Finding, author: str, number: int) -> ModelSpec:
    manifest = upload.manifest
    return ModelSpec(
        model=upload.model,
        version=number,
        digest=received.model.digest,
        size_bytes=received.model.size,
        author=author,
        inputs=finding.inputs,
        outputs=finding.outputs,
        columns=finding.columns,
        protected=manifest.protected,
        decision=finding.decision,
        reasons=finding.reasons,
        background_digest=received.background.digest if received.background else None,
        policy=manifest.policy,
        description=manifest.description,
        tags=manifest.tags,
    )


def _written(records: Records, model: str, number: int) -> Version:
    version = records.version(model, number)
    if version is None:
        raise NotFound(f"{model} has no version {number}")
    return version
