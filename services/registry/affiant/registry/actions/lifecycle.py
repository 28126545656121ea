"""Changing what may be changed of a version: its aliases, its state, its tags.

Each change is one transaction: the state, a line of the history, and the event that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog

from affiant.common.events import Alias, ModelArchived, ModelDeprecated, ModelPackaged, ModelPromoted
from affiant.registry.actions.lookup import unknown, version_in
from affiant.registry.actions.order import Order
from affiant.registry.domain import lifecycle as rules
from affiant.registry.domain.lifecycle import Promotion, Version
from affiant.registry.domain.manifest import check_tags
from affiant.registry.store.database import Store
from affiant.registry.store.records import Records

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Lifecycle:
    """Every method answers the version as it is afterwards. Asking for what is so already changes nothing."""

    store: Store

    async def promote(self, model: str, number: int, alias: str, order: Order) -> Version:
        """Let `alias` point to this version; the order is the approval. Not for its author (`Forbidden`)."""
        rules.check_alias(alias)

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            if alias in version.aliases:
                return version
            rules.check_promotable(version, order.person)
            current = _current(records, model, alias)
            _move(records, version, alias, order, approved_by=order.person, current=current)
            return version_in(records, model, number)

        return await self._do("model promoted", work, order)

    async def rollback(self, model: str, alias: str, order: Order) -> Version:
        """Let `alias` point again to the version before. It stands by the approval that it once got."""
        rules.check_alias(alias)

        def work(records: Records) -> Version:
            records.lock(model)
            states = {version.version: version.state for version in records.versions(model)}
            if not states:
                raise unknown(model)
            moves = {move.id: move for move in records.moves(model, alias)}
            current = moves[max(moves)] if moves else None
            target = rules.rollback_target(current, moves, lambda number: states[number] != "archived")
            version = version_in(records, model, cast(int, target.version))
            _move(records, version, alias, order, approved_by=target.approved_by, current=current, back_to=target)
            return version_in(records, model, version.version)

        return await self._do("model rolled back", work, order)

    async def deprecate(self, model: str, number: int, order: Order) -> Version:
        """Advise against a version. What serves it goes on."""

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            rules.check_deprecatable(version)
            if version.state == "deprecated":
                return version
            at = records.moment(model)
            records.set_state(version, "deprecated")
            records.note(model, number, "deprecated", at=at, by=order.person, reason=order.reason)
            event = ModelDeprecated(
                model=model,
                version=number,
                digest=version.digest,
                by=order.person,
                deprecated_at=at,
                reason=order.reason,
            )
            records.publish(order.message(event))
            return version_in(records, model, number)

        return await self._do("model deprecated", work, order)

    async def archive(self, model: str, number: int, order: Order, *, force: bool = False) -> Version:
        """Take a version out of use, and its aliases away; the champion's only with `force`."""

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            if version.state == "archived":
                return version
            rules.check_archivable(version, force=force)
            _archive(records, version, order)
            return version_in(records, model, number)

        return await self._do("model archived", work, order)

    async def set_tags(self, model: str, number: int, tags: dict[str, str], order: Order) -> Version:
        """Replace a version's tags; the old ones stay in the history."""
        check_tags(tags)

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            if version.spec.tags != tags:
                records.set_tags(version, tags)
                before = version.spec.tags
                records.note(
                    model,
                    number,
                    "tagged",
                    at=records.moment(model),
                    by=order.person,
                    reason="",
                    before=before,
                    after=tags,
                )
            return version_in(records, model, number)

        return await self._do("model tagged", work, order)

    async def package(self, model: str, number: int, image: str, platforms: list[str], order: Order) -> Version:
        """Record the image that holds this version's file; promotions from now on carry it."""

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            rules.check_image(version, image)
            if version.spec.image == image:
                return version
            at = records.moment(model)
            records.set_image(version, image, at=at, by=order.person)
            records.note(model, number, "packaged", at=at, by=order.person, reason=order.reason, image=image)
            event = ModelPackaged(
                model=model,
                version=number,
                digest=version.digest,
                image=image,
                platforms=platforms,
                by=order.person,
                packaged_at=at,
            )
            records.publish(order.message(event))
            return version_in(records, model, number)

        return await self._do("model packaged", work, order)

    async def _do(self, what: str, work: Callable[[Records], Version], order: Order) -> Version:
        version = await self.store.transact(work)
        log.info(what, model=version.model, version=version.version, by=order.person)
        return version


def _locked(records: Records, model: str, number: int) -> Version:
    records.lock(model)
    return version_in(records, model, number)


def _current(records: Records, model: str, alias: str) -> Promotion | None:
    return next((move for move in records.aliases(model) if move.alias == alias), None)


def _move(
    records: Records,
    version: Version,
    alias: str,
    order: Order,
    *,
    approved_by: str,
    current: Promotion | None,
    back_to: Promotion | None = None,
) -> None:
    """Let the alias point to `version`: forward after `current`, or back to an earlier move."""
    at = records.moment(version.model)
    previous = current.version if current else None
    action = "rolled back" if back_to else "promoted"
    records.move(
        version.model,
        alias,
        version.version,
        at=at,
        approved_by=approved_by,
        by=order.person,
        reason=order.reason,
        rollback=back_to is not None,
        # After a rollback, the next one must go further back, not to what was just left.
        before=back_to.before if back_to else (current.id if current else None),
    )
    records.note(
        version.model,
        version.version,
        action,
        at=at,
        by=order.person,
        reason=order.reason,
        alias=alias,
        approved_by=approved_by,
        previous_version=previous,
    )
    event = ModelPromoted(
        model=version.model,
        version=version.version,
        alias=cast(Alias, alias),
        spec=version.spec,
        approved_by=approved_by,
        by=order.person,
        promoted_at=at,
        previous_version=previous,
        reason=order.reason,
        rollback=back_to is not None,
    )
    records.publish(order.message(event))


def _archive(records: Records, version: Version, order: Order) -> None:
    at = records.moment(version.model)
    for alias in version.aliases:
        current = _current(records, version.model, alias)
        records.move(
            version.model,
            alias,
            None,
            at=at,
            approved_by="",
            by=order.person,
            reason=order.reason,
            before=current.id if current else None,
        )
    records.set_state(version, "archived")
    removed = list(version.aliases)
    records.note(
        version.model,
        version.version,
        "archived",
        at=at,
        by=order.person,
        reason=order.reason,
        removed_aliases=removed,
    )
    event = ModelArchived(
        model=version.model,
        version=version.version,
        digest=version.digest,
        by=order.person,
        archived_at=at,
        removed_aliases=removed,
        reason=order.reason,
    )
    records.publish(order.message(event))
