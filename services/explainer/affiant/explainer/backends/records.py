"""Records of predictions that this service did not keep: from the auditor."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from affiant.common.errors import NotFound, Unavailable
from affiant.common.events import PredictionLogged


class RecordSource(Protocol):
    """Who can tell what a prediction was."""

    async def record(self, prediction_id: str) -> PredictionLogged:
        """The prediction on record. Raises `NotFound` or `Unavailable`, with a hint for a person."""
        ...


class _Answer(Struct, frozen=True):
    """What the explainer needs of `GET /v1/predictions/{id}`."""

    record: PredictionLogged | None


class AuditorRecords:
    """The auditor's HTTP API."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        """`http` has the auditor as its base URL and shows this service's token."""
        self._http = http

    async def record(self, prediction_id: str) -> PredictionLogged:
        """See `RecordSource`."""
        try:
            answer = await self._http.get(f"/v1/predictions/{quote(prediction_id, safe='')}")
        except httpx.HTTPError as error:
            raise Unavailable(f"the auditor cannot be reached: {error!r}", hint="ask again in a moment") from error
        if answer.status_code == 404:
            raise NotFound(
                f"the auditor has no prediction {prediction_id}",
                hint="a prediction that was just answered takes a moment to be recorded: ask again, or check the id",
            )
        if answer.status_code != 200:
            raise Unavailable(f"the auditor answered {answer.status_code}", hint="the auditor's log says why")
        try:
            record = msgspec.json.decode(answer.content, type=_Answer).record
        except msgspec.DecodeError as error:
            raise Unavailable(f"the auditor's answer is not understood: {error}") from error
        if record is None:
            raise NotFound(f"what prediction {prediction_id} held was erased", hint="it cannot be explained any more")
        return record
