"""What people and applications do with the system, by HTTP alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from affiant.cli.system import System
from tests.support.model import background_csv, loan_model

MANIFEST = {"favourable": 1, "protected": ["sex"], "description": "Granted when income exceeds debt"}


class People:
    """Calls the services in the name of whoever is asked to act."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.http = httpx.AsyncClient(timeout=30)

    async def call(self, service: str, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.system.token(who)}"}
        return await self.http.request(method, self.system.urls[service] + path, headers=headers, **options)

    async def get(self, service: str, path: str) -> Any:
        answer = await self.call(service, "iris", "GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def register(self, weight: float = 1.0, *, model: str = "loan", policy: dict[str, Any] | None = None) -> int:
        manifest = MANIFEST | ({"policy": policy} if policy else {})
        files = {"model": ("m.onnx", loan_model(weight)), "background": ("b.csv", background_csv())}
        answer = await self.call(
            "registry",
            "ana",
            "POST",
            f"/v1/models/{model}/versions",
            files=files,
            data={"manifest": json.dumps(manifest)},
        )
        assert answer.status_code == 201, answer.text
        version: int = answer.json()["version"]
        return version

    async def promote(self, version: int, *, who: str = "ben", model: str = "loan") -> httpx.Response:
        path = f"/v1/models/{model}/versions/{version}/promote"
        return await self.call("registry", who, "POST", path, json={"alias": "champion", "reason": "reviewed"})

    async def until_served(self, version: int, *, model: str = "loan", seconds: float = 90) -> str:
        """The address at which `version` answers."""
        async with asyncio.timeout(seconds):
            while True:
                for found in (await self.get("deployer", "/v1/deployments"))["deployments"]:
                    right = (found["model"], found["version"], found["state"]) == (model, version, "serving")
                    if right and len(found["replicas"]) == 1:
                        return str(found["url"])
                await asyncio.sleep(0.05)

    async def summary(self, model: str = "loan") -> dict[str, Any]:
        found: dict[str, Any] = await self.get("auditor", f"/v1/summary?model={model}")
        return found

    async def until_audited(self, answered: int, *, explained: int = 0, seconds: float = 90) -> dict[str, Any]:
        """The auditor's summary once it has that many answered predictions and explained rows, or as it is then."""
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = await self.summary()
                    if found["answered"] >= answered and found["explained"] >= explained and not found["missing"]:
                        return found
                    await asyncio.sleep(0.2)
        except TimeoutError:
            return found


def application(random_source: random.Random) -> dict[str, Any]:
    """An inference request for one applicant, with a protected value beside it."""
    tensors = [
        {"name": name, "datatype": "FP32", "shape": [1, 1], "data": [round(random_source.uniform(0, 10), 2)]}
        for name in ("income", "debt")
    ]
    sex = {"name": "sex", "datatype": "BYTES", "shape": [1, 1], "data": [random_source.choice(["f", "m"])]}
    return {"inputs": [*tensors, sex]}


@dataclass
class Traffic:
    """Requests that keep flowing: what was answered, and by which version."""

    url: str
    model: str = "loan"
    clients: int = 4
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    adverse: int = 0

    async def __aenter__(self) -> Traffic:
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def until(self, answered: int, seconds: float = 120) -> None:
        async with asyncio.timeout(seconds):
            while self.statuses[200] < answered:
                await asyncio.sleep(0.02)

    async def _client(self, number: int) -> None:
        source = random.Random(number)
        async with httpx.AsyncClient(timeout=30) as http:
            while not self._stop.is_set():
                try:
                    answer = await http.post(f"{self.url}/v2/models/{self.model}/infer", json=application(source))
                except httpx.TransportError as error:
                    self.broken.append(repr(error))
                    continue
                self._note(answer)
                await asyncio.sleep(0.01)

    def _note(self, answer: httpx.Response) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code != 200:
            return
        body = answer.json()
        self.versions[str(body["model_version"])] += 1
        self.ids.append(body["parameters"]["prediction_id"])
        label = next(output for output in body["outputs"] if output["name"] == "label")["data"][0]
        self.adverse += label == 0
