"""A log recorded, served and exported as in the product, without a network."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import APIRouter

from affiant.auditor.actions.cosign import Cosigners
from affiant.auditor.actions.erase import Eraser
from affiant.auditor.actions.integrity import Inspector
from affiant.auditor.actions.publish import Shelf
from affiant.auditor.actions.reads import Reads
from affiant.auditor.api.erasure import make_erasure
from affiant.auditor.api.log import make_log_api
from affiant.auditor.api.routes import make_api
from affiant.cli.exporting import LogExport, Range
from affiant.common import auth, http
from affiant.common.errors import Problem
from affiant.verify import program
from affiant.verify.program import Question, Report
from tests.unit.auditor import examples
from tests.unit.auditor.test_answers import Auditor

ROLES = {"iris": ["auditor"], "omar": ["operator"], "ana": ["author", "approver"]}


async def no_problems() -> list[str]:
    return []


def served(auditor: Auditor, reads: Reads) -> APIRouter:
    """Every route that is served beside the look-ups."""
    api = APIRouter()
    cosigners = Cosigners(auditor.lookup, auditor.writer, auditor.settings)
    inspector = Inspector(auditor.lookup, auditor.signing)
    api.include_router(make_api(auditor.lookup, auditor.prover, auditor.measure, inspector, reads))
    api.include_router(make_log_api(Shelf(auditor.lookup), auditor.prover, reads, cosigners))
    api.include_router(make_erasure(eraser(auditor)))
    return api


def eraser(auditor: Auditor) -> Eraser:
    return Eraser(auditor.lookup, auditor.writer, auditor.settings)


class Door:
    """What the command line has of the services: HTTP, in somebody's name."""

    def __init__(self, auditor: Auditor, person: str = "iris") -> None:
        known = [auth.KnownPerson(name, roles, auth.token_hash(name)) for name, roles in ROLES.items()]
        self.reads = Reads(auditor.lookup, Path(auditor.settings.data_dir) / "reads")
        service: Any = SimpleNamespace(name="auditor", api=served(auditor, self.reads), state=dict)
        app = http.make_app(service, no_problems, lambda: True, auth.People(known))
        self.asked: list[str] = []
        self._headers = {"Authorization": f"Bearer {person}"}
        self._app = app

    def ask(self, _service: str, method: str, path: str, *, timeout: float = 0, **request: Any) -> httpx.Response:
        self.asked.append(path)
        answer = self.request(method, path, **request)
        if not answer.is_success:
            raise Problem(answer.json()["error"], status=answer.status_code)
        return answer

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The answer, whatever it is. Works in any thread, beside whatever loop that has."""
        headers = self._headers | request.pop("headers", {})

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://auditor", headers=headers) as client:
                return await client.request(method, path, **request)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, asked()).result()

    def get(self, service: str, path: str, **parameters: Any) -> Any:
        return self.ask(service, "GET", path, params=parameters).json()


async def recorded(auditor: Auditor, count: int, missing: tuple[int, ...] = ()) -> list[str]:
    """`count` predictions, numbered by one replica without `missing`; one of them of another system. Signed."""
    numbers = [number for number in range(1, count + 1 + len(missing)) if number not in missing]
    events = [examples.prediction(number, adverse=number % 3 == 0) for number in numbers]
    await auditor.keep(*events)
    await auditor.signing.sign()
    return [event.prediction_id for event in events]


def export(door: Door, auditor: Auditor, folder: Path, first: int = 0, last: int | None = None) -> Path:
    """`affiant export log`."""
    services: Any = door
    LogExport(services, folder, Range(first, last), lambda _done, _of: None).run(auditor.signing.verifier_key)
    return folder


def verify(folder: Path, *witnesses: str, **given: object) -> Report:
    key = given.pop("key", None) or (folder / "log.vkey").read_text()
    return program.verify(Question(str(folder), str(key), witnesses, jobs=1, **given))  # type: ignore[arg-type]


def words(report: Report) -> str:
    return "\n".join(report.lines())
