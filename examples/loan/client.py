"""How the demonstration talks to the system: the public HTTP APIs, as any program would."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np

from affiant.common.errors import Problem
from examples.loan.table import Table


class Door:
    """One service, as one person. Answers that are errors become `Problem`, in the service's own words."""

    def __init__(self, http: httpx.AsyncClient, url: str, token: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, **query: str | int) -> Any:
        """The JSON at `path`; parameters that are empty are left out."""
        return await self._ask("GET", path, params={k: v for k, v in query.items() if v != ""})

    async def text(self, path: str) -> str:
        """The text at `path`."""
        return (await self._send("GET", path)).text

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a JSON document."""
        return await self._ask("POST", path, json=body)

    async def register(self, model: str, onnx: bytes, background: str, manifest: dict[str, Any]) -> Any:
        """Send a model file with its background data and manifest to the registry."""
        return await self._ask(
            "POST",
            f"/v1/models/{model}/versions",
            files={
                "model": ("model.onnx", onnx, "application/octet-stream"),
                "background": ("background.csv", background.encode(), "text/csv"),
            },
            data={"manifest": json.dumps(manifest)},
        )

    async def _ask(self, method: str, path: str, **how: Any) -> Any:
        return (await self._send(method, path, **how)).json()

    async def _send(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, self._url + path, headers=self._headers, **how)
        except httpx.HTTPError as error:
            raise Problem(f"{method} {path}: {type(error).__name__} {error}", status=503) from error
        if response.is_error:
            raise _problem(response)
        return response


def _problem(response: httpx.Response) -> Problem:
    try:
        told = response.json()
    except ValueError:
        told = {}
    words = told.get("error") or f"{response.request.method} {response.request.url.path}: {response.text[:200]}"
    failed = [f"{c['name']}: {c['detail']}" for c in told.get("checks", []) if not c.get("passed", True)]
    return Problem("; ".join([words, *failed]), status=response.status_code, hint=told.get("hint", ""))


def application(table: Table, row: int, request_id: str) -> dict[str, Any]:
    """One person's application as an Open Inference Protocol request: the model's columns, and beside them the
    protected columns that the model does not take."""
    inputs = [_tensor(c.name, c.kind == "numeric", table.features[c.name].iat[row]) for c in table.columns]
    beside = [name for name in table.protected.columns if name not in table.features.columns]
    inputs += [_tensor(name, False, table.protected[name].iat[row]) for name in beside]
    return {"id": request_id, "inputs": inputs}


def _tensor(name: str, numeric: bool, value: Any) -> dict[str, Any]:
    if not numeric:
        return {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
    # The shortest decimal that is this single-precision number: 0.35, not 0.3499999940395355. Missing is null.
    number = None if np.isnan(value) else float(str(np.float32(value)))
    return {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [number]}
