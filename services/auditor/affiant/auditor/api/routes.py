"""`/v1`: predictions, proofs, counts, fairness, completeness, lifecycle: what may be read."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from affiant.auditor.actions.export import MEDIA, Export, Form
from affiant.auditor.actions.integrity import Inspector
from affiant.auditor.actions.look import Lookup, moment
from affiant.auditor.actions.measure import Measure
from affiant.auditor.actions.prove import Prover
from affiant.auditor.actions.reads import Reads
from affiant.auditor.domain import views
from affiant.auditor.domain.conditions import condition
from affiant.auditor.store.queries import Filter
from affiant.common.auth import ROLES, Person, needs

Model = Annotated[str | None, Query(description="only this model; all of them where none is given")]
Version = Annotated[int | None, Query(ge=1, lt=2**31)]
Moment = Annotated[str | None, Query(description="RFC 3339, with a time zone")]

Reader = Annotated[Person, Depends(needs(*ROLES))]


def make_api(lookup: Lookup, prover: Prover, measure: Measure, inspector: Inspector, reads: Reads) -> APIRouter:
    """The routes. Whoever has any role may read; who was shown a payload is noted."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(needs(*ROLES))])
    _add_predictions(api, lookup, prover, Export(lookup), reads)
    _add_figures(api, lookup, measure)

    @api.get("/checkpoint", response_class=PlainTextResponse)
    async def checkpoint() -> str:
        """The newest checkpoint: a C2SP signed note."""
        return await prover.checkpoint()

    @api.get("/consistency")
    async def consistency(
        first: Annotated[int, Query(ge=1)], second: Annotated[int | None, Query(ge=1)] = None
    ) -> views.ConsistencyProof:
        """The proof that the log of `first` entries is the beginning of that of `second`."""
        return await prover.consistency(first, second)

    @api.get("/integrity")
    async def integrity() -> views.Integrity:
        """The stored entries held against the tree and the signed checkpoints: all, or the newest and a sample."""
        return await inspector.look()

    @api.get("/lifecycle")
    async def lifecycle(model: Model = None) -> views.Lifecycle:
        """What registry and deployer told, in order."""
        return await lookup.lifecycle(model)

    @api.get("/quarantine")
    async def quarantine(person: Reader, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> views.Quarantine:
        """Messages that could not enter the record, newest first, with their bodies."""
        found = await lookup.quarantine(limit)
        if found.messages:
            reads.note(person.name, "quarantine")
        return found

    return api


def selection(
    model: Model = None,
    version: Version = None,
    adverse: bool | None = None,
    status: Literal["answered", "failed"] | None = None,
    since: Moment = None,
    until: Moment = None,
    digest: Annotated[str | None, Query(description="sha256:<64 hex digits> of the model's file")] = None,
    request_id: Annotated[str | None, Query(description="the caller's own id of the request")] = None,
    subject_ref: Annotated[str | None, Query(description="whom the decision is about")] = None,
    label: Annotated[str | None, Query(description="the decision, in the model's own word")] = None,
    where: Annotated[list[str], Query(description="a condition on an input, such as income<3.5")] = [],  # noqa: B006
) -> Filter:
    """Which predictions were asked for."""
    conditions = tuple(condition(one) for one in where)
    found = Filter(model, version, status, adverse, moment(since), moment(until))
    return replace(found, digest=digest, request_id=request_id, subject_ref=subject_ref, label=label, where=conditions)


def _add_predictions(api: APIRouter, lookup: Lookup, prover: Prover, export: Export, reads: Reads) -> None:
    @api.get("/predictions")
    async def predictions(
        wanted: Annotated[Filter, Depends(selection)],
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        cursor: str | None = None,
    ) -> views.PredictionPage:
        """Predictions, newest first. `since` is inclusive, `until` is not.

        With `label` or `where`, those that have one row that is all of it (`adverse` too).
        """
        return await lookup.predictions(wanted, limit, cursor)

    @api.get("/predictions.{form}", response_class=StreamingResponse)
    async def exported(
        form: Form,
        wanted: Annotated[Filter, Depends(selection)],
        person: Annotated[Person, Depends(needs("auditor"))],
    ) -> Response:
        """All of them in one stream, oldest first: full events as JSON Lines, or one row for each row decided.

        The header `Affiant-Predictions` tells how many there are. A stream that breaks off is not whole. What was read
        is an entry of the log.
        """

        def note(first: int, last: int) -> None:
            reads.note(person.name, "export", first=first, last=last)

        number, chunks = await export.stream(wanted, form, note)
        return StreamingResponse(chunks, media_type=MEDIA[form], headers={"Affiant-Predictions": str(number)})

    @api.get("/predictions/{prediction_id}")
    async def prediction(prediction_id: str, person: Reader) -> views.PredictionView:
        """Everything known of one prediction. That it was read is an entry of the log."""
        found = await prover.prediction(prediction_id)
        if found.record is not None:
            reads.note(person.name, "record", prediction_id)
        return found

    @api.get("/predictions/{prediction_id}/proof")
    async def proof(prediction_id: str, person: Reader) -> views.Proof:
        """The inclusion proof of one prediction, with its payload."""
        found = await prover.proof(prediction_id)
        if found.payload is not None:
            reads.note(person.name, "proof", prediction_id)
        return found

    @api.get("/predictions/{prediction_id}/reads")
    async def payload_reads(prediction_id: str) -> views.PayloadReads:
        """Who was shown this prediction's payload, newest first."""
        return await reads.of(prediction_id)


def _add_figures(api: APIRouter, lookup: Lookup, measure: Measure) -> None:
    @api.get("/summary")
    async def summary(model: Model = None) -> views.Summary:
        """What there is, in numbers."""
        return await lookup.summary(model)

    @api.get("/completeness")
    async def completeness(
        model: Model = None, day: Annotated[str | None, Query(description="such as 2026-11-24, in UTC")] = None
    ) -> views.Completeness:
        """What the replicas numbered and what of it is here: missing, removed, and ends that are not known."""
        return await lookup.completeness(model, day)

    @api.get("/history/{model}")
    async def history(model: str, at: Moment = None) -> views.History:
        """What stood of a model at a moment: aliases, by whose word, what answered. From the events alone."""
        return await lookup.history(model, at)

    @api.get("/fairness")
    async def fairness(
        model: str,
        column: str,
        since: Moment = None,
        until: Moment = None,
        version: Version = None,
        reference: Annotated[str | None, Query(description="the group to compare with")] = None,
    ) -> views.Fairness:
        """Approval rates by the values of a protected column."""
        return await measure.fairness(model, column, since, until, version, reference)

    @api.get("/drift")
    async def drift(
        model: str,
        since: Annotated[str, Query(description="RFC 3339: where the window begins")],
        until: Moment = None,
        version: Version = None,
        reference_since: Moment = None,
        reference_until: Annotated[str | None, Query(description="its end; `since` by default")] = None,
    ) -> views.Drift:
        """Inputs and scores of a window beside those of a reference: everything before it unless told otherwise."""
        return await measure.drift(model, version, (since, until), (reference_since, reference_until or since))

    @api.get("/accuracy")
    async def accuracy(
        model: str, since: Moment = None, until: Moment = None, version: Version = None
    ) -> views.Accuracy:
        """Decisions held against their outcomes, as far as these are on record."""
        return await measure.accuracy(model, since, until, version)
