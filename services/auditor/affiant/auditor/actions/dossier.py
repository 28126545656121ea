"""The whole story of one decision in one answer: what stood at that moment, and a proof for every entry it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial

from affiant.auditor.actions import sworn
from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.measure import Measure
from affiant.auditor.actions.prove import Prover
from affiant.auditor.domain.history import Standing
from affiant.auditor.domain.views import Dossier, Fairness, History, PredictionView
from affiant.auditor.store import erasures, queries, restoring
from affiant.auditor.store.database import Connection
from affiant.common import ids
from affiant.common.errors import NotFound

FORMAT = "affiant-dossier/1"


class Dossiers:
    """Gathers dossiers."""

    def __init__(self, lookup: Lookup, prover: Prover, measure: Measure) -> None:
        self._lookup = lookup
        self._prover = prover
        self._measure = measure

    async def make(self, prediction_id: str) -> Dossier:
        """The dossier of one prediction. Raises `NotFound`; `Problem` where an entry was altered."""
        found = await self._prover.prediction(prediction_id)
        made = await self._lookup.ask(lambda connection: restoring.left(connection, found.index))
        if made is None:
            raise sworn.altered(found.index, "its row in the table of predictions was removed")
        # From the look-up row, which is there after an erasure too.
        model, moment = made[0].model, made[0].received_at
        standing = await self._standing(model, moment)
        rests_on = _rests_on(found, standing)
        stated = await self._lookup.ask(lambda connection: _statements(connection, rests_on))
        return Dossier(
            format=FORMAT,
            made_at=ids.now(),
            model=model,
            version=made[0].version or None,
            received_at=moment,
            prediction=found,
            standing=standing,
            fairness=await self._fairness(model, moment[:10]),
            completeness=await self._lookup.completeness(model, moment[:10]),
            entries=await self._prover.prove_all(sorted({*rests_on, *stated})),
        )

    async def _standing(self, model: str, moment: str) -> History:
        """Of a model of another system nothing stood here."""
        try:
            return await self._lookup.history(model, moment)
        except NotFound:
            empty = Standing()
            return History(model, moment, list(empty.aliases.values()), list(empty.deployments.values()), [])

    async def _fairness(self, model: str, day: str) -> list[Fairness]:
        """Of every protected column that the decisions of that day tell of; whole days in UTC."""
        begin = date.fromisoformat(day)
        since, until = f"{begin}T00:00:00Z", f"{begin + timedelta(days=1)}T00:00:00Z"
        figures = []
        for column in await self._lookup.ask(partial(queries.protected_columns, model=model)):
            try:
                figures.append(await self._measure.fairness(model, column, since, until, None, None))
            except NotFound:
                continue
        return figures


def _statements(connection: Connection, indexes: Sequence[int]) -> set[int]:
    """The entries that say of any of these that it was erased."""
    found = (erasures.statement_of(connection, index) for index in indexes)
    return {statement for statement in found if statement is not None}


def _rests_on(found: PredictionView, standing: History) -> list[int]:
    """The entries that the dossier says something from, in the order of the log."""
    lines = (*found.explanations, *found.lineage, *found.outcomes, *found.overrides)
    stood = {one.entry for one in standing.aliases} | {one.entry for one in standing.deployments}
    return sorted({found.index, *(line.index for line in lines), *stood, *(one.entry for one in standing.versions)})
