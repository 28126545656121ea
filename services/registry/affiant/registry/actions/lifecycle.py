"""Changing what may be changed of a version: its aliases, its state, its tags.

Each change is one transaction: the state, a line of the history, and the event that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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

    async def promote(self, model: str, number: int, alias: str, order: Order, traffic: int | None = None) -> Version:
        """Let `alias` point to this version; the order is the approval. Not for its author (`Forbidden`).

        `traffic`: a challenger answers this percentage of the requests to the champion's address (`None`: none, or what
        it has already). A challenger that becomes the champion keeps no share beside it.
        """
        rules.check_alias(alias)

        def work(records: Records) -> Version:
            version = _locked(records, model, number)
            current = _current(records, model, alias)
            if traffic is not None:
                rules.check_share(version, alias, traffic, _current(records, model, "champion"))
            if alias in version.aliases and traffic in (None, current.traffic if current else 0):
                return version
            rules.check_promotable(version, order.person)
            _move(records, version, alias, order, approved_by=order.person, current=current, traffic=traffic or 0)
            if alias == "champion":
                _end_share(records, model, order, of=number)
            return version_in(records, model, number)

        return await self._do("model promoted", work, order)

    async def rollback(self, model: str, alias: str, order: Order) -> Version:
        """Let `alias` point again to the version before. It stands by the approval that it once got.

        While a challenger answers a part of the champion's requests, that ends and the champion stays: it is what was
        changed last. Answers the version that the alias points to.
        """
        rules.check_alias(alias)

        def work(records: Records) -> Version:
            records.lock(model)
            states = {version.version: version.state for version in records.versions(model)}
            if not states:
                raise unknown(model)
            if alias == "champion" and _end_share(records, model, order, rollback=True):
                champion = _current(records, model, "champion")
                return version_in(records, model, cast(int, champion.version if champion else None))
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
    traffic: int = 0,
) -> None:
    """Let the alias point to `version`: forward after `current`, or back to an earlier move."""
    at = records.moment(version.model)
    previous = current.version if current else None
    action = "rolled back" if back_to else "promoted"
    shares = {"traffic": traffic} if traffic or (current and current.traffic) else {}
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
        traffic=traffic,
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
        **shares,
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
        traffic=traffic,
    )
    records.publish(order.message(event))


def _end_share(records: Records, model: str, order: Order, *, of: int | None = None, rollback: bool = False) -> bool:
    """Take the challenger's share of the champion's requests away: whether it had one. `of`: only if it is this one."""
    current = _current(records, model, "challenger")
    if current is None or current.version is None or not current.traffic or of not in (None, current.version):
        return False
    version = version_in(records, model, current.version)
    back_to = replace(current, before=current.id) if rollback else None
    approved_by = current.approved_by
    _move(records, version, "challenger", order, approved_by=approved_by, current=current, back_to=back_to)
    return True


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
